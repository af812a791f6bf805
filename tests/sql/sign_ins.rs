//! What the triggers announce about browser sessions and contacts: which sign-ins must be checked again.

use crate::common::icinga::Shape;
use crate::common::postgres::Session;

use super::support::{browser, bystander, contact};

#[tokio::test]
async fn a_sign_out_is_announced_by_the_digest_of_the_session_id() {
    let (_database, icinga, mut listener) = bystander(Shape::V1_0, "sign_outs").await;
    icinga.contact("anna").await;
    let first = icinga.sign_in("anna", "Firefox").await;
    assert_eq!(listener.heard().await, [], "nobody else signed out");
    let second = icinga.sign_in("Anna", " Firefox  ").await;
    assert_eq!(listener.heard().await, [browser(&first)], "superseded");
    icinga.sign_out(&second).await;
    let heard = listener.heard().await;
    assert_eq!(heard, [browser(&second)]);
    assert!(!heard[0].1.contains(&second), "{heard:?}");

    // No contact is needed.
    let other = icinga.sign_in("somebody", "Firefox").await;
    icinga.sign_out(&other).await;
    assert_eq!(listener.heard().await, [browser(&other)]);
}

#[tokio::test]
async fn a_digest_is_that_of_the_daemon_for_every_id_that_can_be_stored() {
    let (_database, icinga, mut listener) = bystander(Shape::V1_0, "digests").await;
    let longest = "a".repeat(256);
    for id in [
        "abc",
        "",
        "\u{e4}\u{20ac}\u{1f642}",
        r"back\slash 'quote' %s",
        &longest,
    ] {
        icinga
            .by_hand(&format!(
                "INSERT INTO browser_session VALUES ($id${id}$id$, 'anna', 'Firefox', 0); DELETE FROM browser_session"
            ))
            .await;
        assert_eq!(listener.heard().await, [browser(id)], "{id}");
    }
    // As in every other implementation of SHA-256.
    assert!(
        browser("abc")
            .1
            .contains("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")
    );
}

#[tokio::test]
async fn a_browser_session_is_announced_when_it_really_changes_and_not_when_it_is_refreshed() {
    let (_database, mut icinga, mut listener) = bystander(Shape::V1_0, "refreshed").await;
    icinga.contact("anna").await;
    let id = icinga.sign_in("anna", "Firefox").await;
    listener.heard().await;

    let session = icinga.session();
    session
        .run("UPDATE browser_session SET authenticated_at = authenticated_at + 1")
        .await;
    session.run("UPDATE browser_session SET username = username, user_agent = user_agent, php_session_id = php_session_id").await;
    assert_eq!(listener.heard().await, []);

    for change in [
        "user_agent = 'Chromium'",
        "username = 'bert'",
        "username = 'Bert'",
        // The old one is the one that is signed in.
        "php_session_id = 'another'",
    ] {
        session
            .run(&format!("UPDATE browser_session SET {change}"))
            .await;
        assert_eq!(listener.heard().await, [browser(&id)], "{change}");
    }
}

#[tokio::test]
async fn a_contact_is_announced_when_its_sign_in_is_concerned() {
    let (_database, mut icinga, mut listener) = bystander(Shape::V1_0, "contacts").await;
    let anna = icinga.contact("anna").await;
    let bert = icinga.contact("bert").await;

    icinga
        .session()
        .run("UPDATE contact SET full_name = 'Somebody', default_channel_id = 2, username = username, changed_at = 0")
        .await;
    assert_eq!(listener.heard().await, []);

    icinga
        .session()
        .run(&format!(
            "UPDATE contact SET username = 'anne' WHERE id = {anna}"
        ))
        .await;
    assert_eq!(listener.heard().await, [contact(anna)]);
    icinga.delete_contact(anna).await;
    assert_eq!(listener.heard().await, [contact(anna)]);
    icinga
        .session()
        .run(&format!("DELETE FROM contact WHERE id = {bert}"))
        .await;
    assert_eq!(listener.heard().await, [contact(bert)]);
}

/// Locks a table as ALTER TABLE does, until the session ends.
async fn lock(session: &Session, table: &str) {
    session
        .run(&format!(
            "BEGIN; LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE"
        ))
        .await;
}

#[tokio::test]
async fn signing_in_and_out_waits_for_no_lock_on_contacts() {
    let (database, icinga, mut listener) = bystander(Shape::V1_0, "no_lock").await;
    icinga.contact("anna").await;
    let locker = database.connect().await;
    lock(&locker, "contact").await;
    // A wait fails: no handler catches this one.
    icinga.by_hand("SET statement_timeout = '2s'").await;
    let id = icinga.sign_in("anna", "Firefox").await;
    icinga.sign_out(&id).await;
    assert_eq!(listener.heard().await, [browser(&id)]);
}

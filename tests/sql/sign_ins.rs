//! What the triggers announce of browser sessions and contacts: whose sign-in may have changed.

use crate::common::icinga::Shape;

use super::support::{bystander, sign_in_of};

#[tokio::test]
async fn sign_ins_and_sign_outs_are_announced_by_contact() {
    let (_database, icinga, mut listener) = bystander(Shape::V1_0, "sign_ins").await;
    let anna = icinga.contact("anna").await;
    let browser = icinga.sign_in("Anna", "  Firefox ").await;
    assert_eq!(listener.heard().await, [sign_in_of(anna)]);
    icinga.sign_out(&browser).await;
    assert_eq!(listener.heard().await, [sign_in_of(anna)]);

    icinga
        .sign_in("somebody without a contact", "Firefox")
        .await;
    assert_eq!(listener.heard().await, []);
}

#[tokio::test]
async fn a_browser_session_is_announced_when_it_really_changes_and_not_when_it_is_refreshed() {
    let (_database, mut icinga, mut listener) = bystander(Shape::V1_0, "refreshed").await;
    let anna = icinga.contact("anna").await;
    let bert = icinga.contact("bert").await;
    icinga.sign_in("anna", "Firefox").await;
    listener.heard().await;

    let session = icinga.session();
    session
        .run("UPDATE browser_session SET authenticated_at = authenticated_at + 1")
        .await;
    session.run("UPDATE browser_session SET username = username, user_agent = user_agent, php_session_id = php_session_id").await;
    assert_eq!(listener.heard().await, []);

    session
        .run("UPDATE browser_session SET user_agent = 'Chromium'")
        .await;
    assert_eq!(listener.heard().await, [sign_in_of(anna)]);
    session
        .run("UPDATE browser_session SET php_session_id = 'another'")
        .await;
    assert_eq!(listener.heard().await, [sign_in_of(anna)]);

    session
        .run("UPDATE browser_session SET username = 'bert'")
        .await;
    let mut both = listener.heard().await;
    both.sort();
    assert_eq!(both, [sign_in_of(anna), sign_in_of(bert)]);
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
    assert_eq!(listener.heard().await, [sign_in_of(anna)]);
    icinga.delete_contact(anna).await;
    assert_eq!(listener.heard().await, [sign_in_of(anna)]);
    icinga
        .session()
        .run(&format!("DELETE FROM contact WHERE id = {bert}"))
        .await;
    assert_eq!(listener.heard().await, [sign_in_of(bert)]);
}

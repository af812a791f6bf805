//! Streams end when their sign-in is no longer valid, and others are not affected.

use std::time::Duration;

use crate::common::admin::{monitored, wait_for_readiness};
use crate::common::daemon::{ConfigDir, Daemon};
use crate::common::eventsource::{EventSource, Site};
use crate::common::postgres::Cluster;
use crate::common::sse::{AGENT, Answer};
use crate::common::wait::eventually_blocking;
use crate::common::world::{User, World, resource};
use tokio::time::timeout;

/// Waits until a tab is refused, and has received nothing.
async fn ended(tab: &mut EventSource) {
    // The periodic check runs every 30 seconds.
    let blocks = timeout(Duration::from_secs(60), tab.refused()).await;
    for block in blocks.expect("the tab is told that it may not come back") {
        assert!(
            !block.is_event(),
            "an event after the sign-in ended: {block:?}"
        );
    }
}

/// What ends the sign-in of the browser `session_id` of contact `contact`.
const ENDINGS: [(&str, &str); 6] = [
    (
        "logout",
        "DELETE FROM browser_session WHERE php_session_id = '{session_id}'",
    ),
    (
        "a newer sign-in that left the row",
        "INSERT INTO browser_session SELECT 'newernewernewernewernewer', username, user_agent, authenticated_at + 1 \
         FROM browser_session WHERE php_session_id = '{session_id}'",
    ),
    (
        "the row handed to another user",
        "UPDATE browser_session SET username = 'carol' WHERE php_session_id = '{session_id}'",
    ),
    (
        "another user agent",
        "UPDATE browser_session SET user_agent = 'other' WHERE php_session_id = '{session_id}'",
    ),
    (
        "contact renamed",
        "UPDATE contact SET username = 'alicia' WHERE id = {contact}",
    ),
    (
        "contact deleted",
        "UPDATE contact SET username = NULL, deleted = 'y' WHERE id = {contact}",
    ),
];

async fn endings_are_noticed(world: &World) {
    let mut bob = world.user("bob").await;
    world.icinga.contact("carol").await;
    for (number, (what, sql)) in ENDINGS.into_iter().enumerate() {
        let name = format!("alice{number}");
        let mut alice = world.user(&name).await;
        let sql = sql
            .replace("{session_id}", &alice.session_id)
            .replace("{contact}", &alice.contact.to_string());
        world.icinga.by_hand(&sql).await;
        if what.contains("handed") {
            // Its next stream is the other user's.
            world.daemon.wait_for_log("sign-in no longer valid");
        } else {
            ended(&mut alice.tab).await;
        }
        world
            .icinga
            .by_hand(&format!(
                "DELETE FROM browser_session WHERE username LIKE 'alice%' OR php_session_id IN ('{}', \
                 'newernewernewernewernewer')",
                alice.session_id
            ))
            .await;
    }
    world.nothing_else(&mut [&mut bob]).await;
}

#[tokio::test]
async fn triggers_end_streams_whose_sign_in_is_over() {
    let world = World::new("endings").await;
    endings_are_noticed(&world).await;
}

#[tokio::test]
async fn without_triggers_a_periodic_check_ends_them() {
    let world = World::new("untriggered").await;
    // After the daemon has read them at its start.
    world
        .icinga
        .by_hand("ALTER TABLE browser_session DISABLE TRIGGER USER; ALTER TABLE contact DISABLE TRIGGER USER")
        .await;
    let mut alice = world.user("alice").await;
    let mut bob = world.user("bob").await;
    world.icinga.sign_out(&alice.session_id).await;
    ended(&mut alice.tab).await;
    world.nothing_else(&mut [&mut bob]).await;
}

#[tokio::test]
async fn a_newer_sign_in_of_the_same_browser_ends_the_older_one_only() {
    let world = World::new("newer").await;
    let mut older = world.user("alice").await;
    let other = world.icinga.sign_in("alice", "Another/1.0").await;
    let mut other = User {
        contact: older.contact,
        tab: EventSource::open(&Site::daemon(&world.daemon.address, "Another/1.0"), &other).await,
        session_id: other,
    };
    let mut newer = world.sign_in(older.contact, "alice").await;
    ended(&mut older.tab).await;
    // One row, sent to both browsers of the contact.
    world.nothing_else(&mut [&mut newer]).await;
    other.tab.event().await;
}

#[tokio::test]
async fn no_event_reaches_a_browser_after_its_logout_was_committed_and_noticed() {
    let world = World::new("logout").await;
    let mut alice = world.user("alice").await;
    world.icinga.sign_out(&alice.session_id).await;
    world.daemon.wait_for_log("sign-in no longer valid");
    let event = crate::common::icinga::Event {
        object: "secret",
        severity: Some("crit"),
        notified: &[(alice.contact, 1, "pending")],
        ..Default::default()
    };
    world.icinga.event(event).await;
    ended(&mut alice.tab).await;
}

#[tokio::test]
async fn a_session_that_changes_hands_takes_nothing_along() {
    let world = World::new("hands").await;
    let mut alice = world.user("alice").await;
    let bob = world.icinga.contact("bob").await;
    let session_id = alice.session_id.clone();
    drop(alice.tab);
    world.daemon.wait_for_log("client left");
    // Alice misses this, and bob must not receive it.
    let event = crate::common::icinga::Event {
        object: "for alice",
        severity: Some("crit"),
        notified: &[(alice.contact, 1, "pending")],
        ..Default::default()
    };
    world.icinga.event(event).await;
    world
        .icinga
        .by_hand(&format!(
            "UPDATE browser_session SET username = 'bob' WHERE php_session_id = '{session_id}'"
        ))
        .await;
    alice.contact = bob;
    alice.tab = world.open(&session_id).await;
    world.nothing_else(&mut [&mut alice]).await;
}

/// A session with the rights of the daemon.
async fn query_session(world: &World) -> icinga_desktop_bridge::database::Session {
    let config = ConfigDir::new("", &resource(&world.database, &world.role));
    let env = |_: &str| None;
    let loaded =
        icinga_desktop_bridge::config::Config::load(config.path(), &env).expect("settings");
    let connector = icinga_desktop_bridge::database::Connector::new(&loaded.config.database)
        .expect("a connector");
    let (client, connection) = connector.connect("test").await.expect("a connection");
    tokio::spawn(connection);
    icinga_desktop_bridge::database::Session::set_up(client, None)
        .await
        .expect("a session")
}

#[tokio::test]
async fn housekeeping_statements_keep_live_sessions_and_remove_forgotten_ones() {
    // The daemon does this once an hour; here the same statements run at once.
    let world = World::new("housekeeping").await;
    let alice = world.user("alice").await;
    world.icinga.contact("bob").await;
    let forgotten = world.icinga.sign_in("bob", AGENT).await;
    world
        .icinga
        .by_hand(
            "UPDATE browser_session SET authenticated_at = authenticated_at - 25 * 3600 * 1000",
        )
        .await;
    let session = query_session(&world).await;
    let live = icinga_desktop_bridge::model::browser::BrowserKey::new(&alice.session_id);
    let now_ms = jiff::Timestamp::now().as_millisecond();
    let refreshed = session.refresh(&[(live, now_ms)], 7).await;
    assert_eq!(refreshed.expect("refreshed"), 1);
    let (sessions, _) = session.clean_up().await.expect("cleaned up");
    assert_eq!(sessions, 1);
    let left = world
        .database
        .connect()
        .await
        .text("SELECT string_agg(username::text, ',') FROM browser_session")
        .await;
    assert_eq!(left, "alice");
    assert_eq!(
        Answer::subscribe(&world.daemon.address, &forgotten)
            .await
            .status,
        204
    );
}

#[tokio::test]
async fn debug_logging_shows_neither_session_id_nor_user_agent() {
    let world = World::new("debug").await;
    let alice = world.user("alice").await;
    let config = ConfigDir::new(
        "host = 127.0.0.1\nport = 0",
        &resource(&world.database, &world.role),
    );
    let daemon = Daemon::launch_with(config, &["run", "--debug"]);
    daemon.wait_for_log("ready: ");
    let answer = Answer::subscribe(&daemon.address, &alice.session_id).await;
    assert_eq!(answer.status, 200);
    let log = daemon.log();
    assert!(
        log.contains("executing"),
        "the library logs its parameters: {log}"
    );
    assert!(!log.contains(&alice.session_id), "{log}");
    assert!(!log.contains(AGENT), "{log}");
}

/// A right is revoked while the daemon runs, or the table is created again: sign-outs since then are unknown.
async fn unchecked(hint: &str, withdraw: &str, give_back: &str) {
    let (world, admin) = monitored(Cluster::shared(), hint).await;
    let (alice, mut bob) = (world.user("alice").await, world.user("bob").await);
    world
        .icinga
        .by_hand(&withdraw.replace("{role}", &world.role))
        .await;
    if hint == "revoked_select" {
        world.icinga.sign_out(&alice.session_id).await;
    }
    eventually_blocking(Duration::from_secs(120), || {
        let log = world.daemon.log();
        if log.contains("all streams end until they can") {
            Ok(())
        } else {
            Err("streams have not ended")
        }
    });
    let why = wait_for_readiness(&admin, 503).await;
    assert!(why.contains("sign-in"), "{why}");
    // Asked to come back, and not refused.
    let missed = world.incident(bob.contact, "meanwhile").await;
    let again = Answer::subscribe(&world.daemon.address, &bob.session_id).await;
    assert_eq!(again.status, 200);

    world
        .icinga
        .by_hand(&give_back.replace("{role}", &world.role))
        .await;
    wait_for_readiness(&admin, 200).await;
    if hint == "revoked_select" {
        let refused = Answer::subscribe(&world.daemon.address, &alice.session_id).await;
        assert_eq!(refused.status, 204);
        bob.tab = world.open(&bob.session_id).await;
        assert_eq!(bob.tab.event().await.incident(), missed.incident);
        world.nothing_else(&mut [&mut bob]).await;
    }
}

#[tokio::test]
async fn sign_ins_that_may_not_be_read_end_all_streams() {
    unchecked(
        "revoked_select",
        "REVOKE SELECT ON browser_session FROM \"{role}\"",
        "GRANT SELECT ON browser_session TO \"{role}\"",
    )
    .await;
}

#[tokio::test]
async fn sign_ins_whose_table_is_gone_end_all_streams() {
    unchecked(
        "recreated",
        "ALTER TABLE browser_session RENAME TO former;
         CREATE TABLE browser_session (LIKE former INCLUDING ALL)",
        "DROP TABLE browser_session; ALTER TABLE former RENAME TO browser_session",
    )
    .await;
}

#[tokio::test]
async fn a_session_is_not_kept_for_longer_than_it_may_be() {
    const DAY: i64 = 24 * 3600 * 1000;
    let world = World::new("session_days").await;
    let mut alice = world.user("alice").await;
    let written = world.incident(alice.contact, "db1!disk").await;
    alice.tab.event().await;
    world.delivered(written.history[0]).await;
    let session = world.database.connect().await;
    let authenticated = session
        .text("SELECT authenticated_at::text FROM browser_session")
        .await;
    let stored = session
        .text("SELECT signed_in_at::text FROM icinga_desktop.browser_position")
        .await;
    assert_eq!(stored, authenticated);

    let daemon = query_session(&world).await;
    let key = icinga_desktop_bridge::model::browser::BrowserKey::new(&alice.session_id);
    let now_ms = jiff::Timestamp::now().as_millisecond();
    let age = "SELECT ((extract(epoch FROM clock_timestamp()) * 1000 - authenticated_at) / 3600000)::int::text \
               FROM browser_session";
    // Authenticated 6 and a half days ago, and refreshed an hour ago: it has half a day left.
    world
        .icinga
        .by_hand(
            "UPDATE browser_session SET authenticated_at = authenticated_at - 23 * 3600 * 1000",
        )
        .await;
    let half = DAY / 2;
    daemon
        .refresh(&[(key, now_ms - 6 * DAY - half)], 7)
        .await
        .expect("refreshed");
    assert_eq!(session.text(age).await, "12");
    daemon.clean_up().await.expect("cleaned up");
    assert_eq!(session.text(age).await, "12");
    // After seven days it is not kept.
    world
        .icinga
        .by_hand(
            "UPDATE browser_session SET authenticated_at = authenticated_at - 13 * 3600 * 1000",
        )
        .await;
    daemon
        .refresh(&[(key, now_ms - 7 * DAY - 1)], 7)
        .await
        .expect("refreshed");
    let (sessions, _) = daemon.clean_up().await.expect("cleaned up");
    assert_eq!(sessions, 1);
    ended(&mut alice.tab).await;
}

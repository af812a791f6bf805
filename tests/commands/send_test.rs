//! `send-test`: which browsers it reaches, what it reports, and that a role without rights cannot use it.

#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests fail by panicking, as tests do"
)]

use crate::common::command::run;
use crate::common::daemon::{ConfigDir, Daemon};
use crate::common::eventsource::{EventSource, Site};
use crate::common::icinga::Event;
use crate::common::postgres::{Database, Session};
use crate::common::sse::{AGENT, Block, OTHER_AGENT};
use crate::common::wait::eventually;
use crate::common::world::{User, World, resource};

/// The title of a test notification.
const TEST_TITLE: &str = "Test notification from icinga-desktop-bridge";

/// The next event is the test notification, which opens that incident; 0 is none.
async fn expect_test(tab: &mut EventSource, incident: i64) {
    assert_test(&tab.event().await, incident);
}

fn assert_test(event: &Block, incident: i64) {
    let data = event.json();
    assert_eq!(data["payload"]["title"], TEST_TITLE, "{event:?}");
    assert_eq!(data["payload"]["severity"], "ok");
    assert_eq!(data["payload"]["incident_id"], incident);
    let opens = if incident == 0 {
        "There is no incident of yours to open."
    } else {
        "Its button opens your newest incident."
    };
    let message = data["payload"]["message"].as_str().unwrap();
    assert!(message.ends_with(opens), "{message}");
    assert!(
        event.id.is_none(),
        "it would move the client's position: {event:?}"
    );
    assert_eq!(event.event.as_deref(), Some("icinga2.notification"));
}

/// No question is left in the table of positions.
pub(super) async fn assert_no_question_is_left(database: &Database) {
    let session = database.connect().await;
    let left = "SELECT count(*)::text FROM icinga_desktop.browser_position WHERE floor < 0";
    assert_eq!(session.text(left).await, "0");
}

/// Stores a question as the command does, for a token of hexadecimal digits, and notifies the bridges.
async fn ask_by_hand(database: &Database, token: &str, contact: i64) {
    let session = database.connect().await;
    session
        .run(&format!(
            "INSERT INTO icinga_desktop.browser_position VALUES ('\\x{token}', -1, '{{{contact}}}', now()); \
             NOTIFY icinga_desktop_ask, '{{\"token\":\"{token}\"}}'"
        ))
        .await;
}

/// The first answer to a question, if there is one.
async fn first_answer(session: &Session, token: &str) -> Result<Vec<i64>, &'static str> {
    let query =
        format!("SELECT above FROM icinga_desktop.browser_position WHERE browser = '\\x{token}'");
    let above: Vec<i64> = session.query_one(&query, &[]).await.unwrap().get(0);
    if above.len() > 1 {
        Ok(above[1..].to_vec())
    } else {
        Err("no answer")
    }
}

/// Waits for the first answer to a question.
async fn wait_for_answer(database: &Database, token: &str) -> Vec<i64> {
    let session = database.connect().await;
    eventually(async || first_answer(&session, token).await).await
}

async fn remove_question(database: &Database, token: &str) {
    let session = database.connect().await;
    session
        .run(&format!(
            "DELETE FROM icinga_desktop.browser_position WHERE browser = '\\x{token}'"
        ))
        .await;
}

#[tokio::test]
async fn a_test_notification_reaches_one_stream_of_each_open_browser() {
    let world = World::new("sent").await;
    let contact = world.icinga.contact("alice").await;
    let mut bob = world.user("bob").await;

    let (exit, text) = world.run(&["send-test", "alice"]).await;
    assert_eq!(exit, Some(1), "{text}");
    assert!(text.contains("0 of 0 open browsers received it"), "{text}");
    assert!(
        text.contains("FAIL  \"alice\" has no open browser"),
        "{text}"
    );

    let mut alice = world.sign_in(contact, "alice").await;
    let (exit, text) = world.run(&["send-test", "ALICE"]).await;
    assert_eq!(exit, Some(0), "{text}");
    assert!(
        text.contains(": 1 of 1 open browsers received it"),
        "{text}"
    );
    assert!(
        text.contains("1 stream received the test notification"),
        "{text}"
    );
    expect_test(&mut alice.tab, 0).await;

    // Two streams of one browser, and another browser.
    let mut second = world.open(&alice.session_id).await;
    let other_session = world.icinga.sign_in("alice", OTHER_AGENT).await;
    let mut other = EventSource::open(
        &Site::daemon(&world.daemon.address, OTHER_AGENT),
        &other_session,
    )
    .await;
    let (exit, text) = world.run(&["send-test", "alice"]).await;
    assert_eq!(exit, Some(0), "{text}");
    assert!(
        text.contains(": 2 of 2 open browsers received it"),
        "{text}"
    );
    assert!(
        text.contains("2 streams received the test notification"),
        "{text}"
    );
    // On the stream that was opened last: either tab may have returned meanwhile.
    let event = tokio::select! {
        event = second.event() => event,
        event = alice.tab.event() => event,
    };
    assert_test(&event, 0);
    expect_test(&mut other, 0).await;

    // No other browser received it: their next event is a real one.
    drop(second);
    let fence = [(alice.contact, 1, "pending"), (bob.contact, 1, "pending")];
    let written = world
        .icinga
        .event(Event {
            object: "fence",
            severity: Some("crit"),
            notified: &fence,
            ..Event::default()
        })
        .await;
    for tab in [&mut alice.tab, &mut bob.tab, &mut other] {
        assert_eq!(tab.event().await.incident(), written.incident);
    }
    assert_no_question_is_left(&world.database).await;
}

#[tokio::test]
async fn a_test_notification_opens_the_newest_incident_of_its_user() {
    let world = World::new("opens").await;
    let mut alice = world.user("alice").await;
    let bob = world.icinga.contact("bob").await;
    for object in ["db1!disk", "db1!load"] {
        let written = world.incident(alice.contact, object).await;
        assert_eq!(alice.tab.event().await.incident(), written.incident);
        // Another contact's, and one without a notification.
        world.incident(bob, object).await;
        world.icinga.incident(object, "crit").await;
        let (exit, text) = world.run(&["send-test", "alice"]).await;
        assert_eq!(exit, Some(0), "{text}");
        expect_test(&mut alice.tab, written.incident).await;
    }
}

#[tokio::test]
async fn a_test_notification_that_cannot_be_delivered_is_forgotten() {
    let world = World::new("forgotten").await;
    let alice = world.user("alice").await;
    // A browser that leaves as soon as it has received it, before it is delivered.
    drop(alice.tab);
    let mut stream = world.stream(&alice.session_id).await;
    let (contact, database) = (alice.contact, &world.database);
    let token = "7".repeat(64);
    ask_by_hand(database, &token, contact).await;
    stream.event().await;
    drop(stream);
    let answer = wait_for_answer(database, &token).await;
    assert_eq!(
        answer[1..],
        [1, 0, 0, 0],
        "one browser, and not delivered: {answer:?}"
    );
    remove_question(database, &token).await;

    // Not sent again when it reconnects.
    let mut again = User {
        tab: world.open(&alice.session_id).await,
        contact,
        session_id: alice.session_id,
    };
    world.nothing_else(&mut [&mut again]).await;
}

#[tokio::test]
async fn a_user_name_of_no_contact_is_named_in_one_line() {
    let world = World::new("nobody").await;
    let gone = world.icinga.contact("gone").await;
    world.icinga.delete_contact(gone).await;
    for user in [
        "nobody",
        "gone",
        "",
        "alice'; DROP TABLE contact; --",
        "a\nb",
    ] {
        let (exit, text) = world.run(&["send-test", user]).await;
        assert_eq!(exit, Some(1), "{text}");
        let expected = format!(
            "FAIL  no contact of Icinga Notifications has the user name \"{}\"",
            user.escape_debug()
        );
        assert!(text.contains(&expected), "{text}");
        assert_eq!(text.lines().count(), 1, "{text}");
    }
    assert_no_question_is_left(&world.database).await;
}

#[tokio::test]
async fn once_no_bridge_is_running_send_test_fails_and_check_says_so() {
    let World {
        daemon,
        icinga,
        database,
        role,
    } = World::new("none").await;
    icinga.contact("alice").await;
    drop(daemon);
    let config = ConfigDir::new("", &resource(&database, &role));
    // Until PostgreSQL has noticed that the daemon has gone.
    eventually(async || {
        let (exit, text) = run(&config, &["send-test", "alice"]);
        assert_eq!(exit, Some(1), "{text}");
        let expected = "FAIL  no bridge listens on this database: is icinga-desktop-bridge running";
        if text.contains(expected) {
            Ok(())
        } else {
            Err(text)
        }
    })
    .await;
    let (exit, text) = run(&config, &["check"]);
    assert_eq!(exit, Some(0), "{text}");
    assert!(
        text.contains("ok    bridges: no bridge is running on this database"),
        "{text}"
    );
}

#[tokio::test]
async fn every_bridge_is_asked_and_shows_the_test_in_its_own_browsers() {
    let world = World::new("several").await;
    let mut alice = world.user("alice").await;
    let second = Daemon::start(&resource(&world.database, &world.role));
    world.icinga.contact("bob").await;
    let bob = world.icinga.sign_in("bob", AGENT).await;
    let mut bob = EventSource::open(&Site::daemon(&second.address, AGENT), &bob).await;
    let other = world.icinga.sign_in("alice", OTHER_AGENT).await;
    let mut other = EventSource::open(&Site::daemon(&second.address, OTHER_AGENT), &other).await;

    let (exit, text) = world.run(&["send-test", "alice"]).await;
    assert_eq!(exit, Some(0), "{text}");
    let of_each = text.matches(": 1 of 1 open browsers received it").count();
    assert_eq!(of_each, 2, "{text}");
    let both = "2 streams received the test notification";
    assert!(text.contains(both), "{text}");
    expect_test(&mut alice.tab, 0).await;
    expect_test(&mut other, 0).await;

    let (exit, text) = world.run(&["send-test", "bob"]).await;
    assert_eq!(exit, Some(0), "{text}");
    let without = text.matches(": 0 of 0 open browsers received it").count();
    assert_eq!(without, 1, "{text}");
    let one = "1 stream received the test notification";
    assert!(text.contains(one), "{text}");
    expect_test(&mut bob, 0).await;
    assert_no_question_is_left(&world.database).await;
}

#[tokio::test]
async fn a_bridge_that_hangs_is_missed() {
    let world = World::new("hanging").await;
    let _alice = world.user("alice").await;
    let second = Daemon::start(&resource(&world.database, &world.role));
    second.signal("STOP");
    let (exit, text) = world.run(&["send-test", "alice"]).await;
    assert_eq!(exit, Some(0), "{text}");
    assert!(
        text.contains("1 of 2 bridges did not answer within 10s; their logs say why"),
        "{text}"
    );
    second.signal("CONT");
    assert_no_question_is_left(&world.database).await;
}

/// The log contains little about questions, and nothing about these.
fn assert_log(world: &World, secrets: &[&str]) {
    let log = world.daemon.log();
    let lines = log.lines();
    let said = lines.filter(|line| line.contains("icinga_desktop_ask"));
    assert!(said.count() < 10, "{log}");
    for secret in secrets {
        assert!(!log.contains(secret), "{secret} is logged: {log}");
    }
}

#[tokio::test]
async fn what_is_asked_over_the_channel_alone_is_ignored() {
    let world = World::new("hostile").await;
    let mut alice = world.user("alice").await;
    let stranger = world.database.role("stranger");
    let session = world.database.connect_as(&stranger).await;
    // Whatever it looks like.
    for payload in [
        "",
        "nonsense",
        "{}",
        r#"{"token":7}"#,
        r#"{"token":"7"}"#,
        &format!(r#"{{"token":"{}"}}"#, "g".repeat(64)),
        &format!(r#"{{"contact_id":{}}}"#, alice.contact),
        &format!(r#"{{"token":"{}"}}"#, "7".repeat(7000)),
    ] {
        session
            .run(&format!("NOTIFY icinga_desktop_ask, '{payload}'"))
            .await;
    }
    // And however often.
    session
        .run(&format!(
            "SELECT pg_notify('icinga_desktop_ask', \
               format('{{\"token\":\"%s\",\"contact_id\":{}}}', encode(sha256(i::text::bytea), 'hex'))) \
             FROM generate_series(1, 5000) AS i",
            alice.contact
        ))
        .await;
    world
        .daemon
        .wait_for_log("a notification on channel icinga_desktop_ask from backend ");
    world.daemon.wait_for_log("there is no question for it");
    let refusal = session
        .refusal("INSERT INTO icinga_desktop.browser_position VALUES ('\\x00', -1, '{1}', now())")
        .await;
    assert!(refusal.contains("permission denied"), "{refusal}");
    let fence = world.nothing_else(&mut [&mut alice]).await;

    // A question after all that is answered, so all of it was handled; and nothing was shown meanwhile. Few questions can wait,
    // and the others are dropped: notify again until there is room.
    let token = "6".repeat(64);
    ask_by_hand(&world.database, &token, alice.contact).await;
    let again = format!("NOTIFY icinga_desktop_ask, '{{\"token\":\"{token}\"}}'");
    let asking = world.database.connect().await;
    let answer = eventually(async || {
        asking.run(&again).await;
        first_answer(&asking, &token).await
    })
    .await;
    expect_test(&mut alice.tab, fence.incident).await;
    assert_eq!(answer[1..], [1, 1, 0, 0], "{answer:?}");
    remove_question(&world.database, &token).await;
    world.nothing_else(&mut [&mut alice]).await;
    assert_log(&world, &[&alice.session_id, "7777777"]);
}

/// A user who knows their own session could name its position.
#[tokio::test]
async fn the_position_of_a_browser_is_not_taken_for_a_question() {
    let world = World::new("position").await;
    let mut alice = world.user("alice").await;
    // With one id, it looks most like a question.
    let mut bob = world.user("bob").await;
    let fence = world.nothing_else(&mut [&mut bob]).await;
    world.delivered(fence.history[0]).await;
    let session = world.database.connect().await;
    session
        .run(&format!(
            "SELECT pg_notify('icinga_desktop_ask', \
               format('{{\"token\":\"%s\"}}', encode(sha256('{}'), 'hex')))",
            bob.session_id
        ))
        .await;
    // One by one: once the next is answered, the other was handled. Its row still has nothing but ids of history rows.
    let token = "5".repeat(64);
    ask_by_hand(&world.database, &token, alice.contact).await;
    expect_test(&mut alice.tab, 0).await;
    wait_for_answer(&world.database, &token).await;
    let untouched = format!(
        "SELECT (floor >= 0 AND NOT EXISTS (SELECT FROM unnest(above) AS id \
           WHERE id NOT IN (SELECT id FROM incident_history)))::text \
         FROM icinga_desktop.browser_position WHERE browser = sha256('{}')",
        bob.session_id
    );
    assert_eq!(session.text(&untouched).await, "true");
    remove_question(&world.database, &token).await;
    world.nothing_else(&mut [&mut alice, &mut bob]).await;
}

#[tokio::test]
async fn a_question_that_somebody_overheard_and_repeats_is_answered_once() {
    let world = World::new("repeated").await;
    let mut alice = world.user("alice").await;
    let (database, contact) = (&world.database, alice.contact);
    let token = "5".repeat(64);
    ask_by_hand(database, &token, contact).await;
    expect_test(&mut alice.tab, 0).await;
    let answer = wait_for_answer(database, &token).await;
    assert_eq!(answer[1..], [1, 1, 0, 0], "{answer:?}");
    let stranger = database.role("stranger");
    let stranger = database.connect_as(&stranger).await;
    let repeat = format!("NOTIFY icinga_desktop_ask, '{{\"token\":\"{token}\"}}'");
    for _ in 0..3 {
        stranger.run(&repeat).await;
    }
    let fence = world.nothing_else(&mut [&mut alice]).await;

    // The one after them is answered, so those were handled.
    let next = "6".repeat(64);
    ask_by_hand(database, &next, contact).await;
    expect_test(&mut alice.tab, fence.incident).await;
    assert_eq!(wait_for_answer(database, &next).await[1..], [1, 1, 0, 0]);
    assert_eq!(wait_for_answer(database, &token).await, answer);
    remove_question(database, &token).await;
    remove_question(database, &next).await;
    world.nothing_else(&mut [&mut alice]).await;
    assert_log(&world, &[&alice.session_id, &token]);
}

#[tokio::test]
async fn what_is_heard_of_a_question_is_a_random_number() {
    let world = World::new("overheard").await;
    let _alice = world.user("alice").await;
    let mut eavesdropper = world.database.listen(&["icinga_desktop_ask"]).await;
    assert_eq!(world.run(&["send-test", "alice"]).await.0, Some(0));
    assert_eq!(world.run(&["check"]).await.0, Some(0));
    assert_eq!(world.run(&["explain", "alice"]).await.0, Some(0));
    let heard = eavesdropper.heard().await;
    assert_eq!(heard.len(), 3, "{heard:?}");
    for (_, payload) in &heard {
        let json: serde_json::Value = serde_json::from_str(payload).unwrap();
        let object = json.as_object().unwrap();
        assert_eq!(object.keys().collect::<Vec<_>>(), ["token"], "{payload}");
        assert_eq!(object["token"].as_str().unwrap().len(), 64, "{payload}");
    }
    assert_ne!(heard[0].1, heard[1].1);
}

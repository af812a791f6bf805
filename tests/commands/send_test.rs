//! `send-test`: whom it reaches, what it says of it, and that nobody without rights can make use of it.

#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests fail by panicking, as tests do"
)]

use std::time::Duration;

use tokio::time::timeout;

use crate::common::command::run;
use crate::common::daemon::{ConfigDir, Daemon};
use crate::common::icinga::Event;
use crate::common::postgres::Database;
use crate::common::sse::{AGENT, Answer, PATIENCE, request};
use crate::common::world::{User, World, resource};

/// A browser of another make: a second one of the same user.
const OTHER_AGENT: &str = "Mozilla/5.0 (Windows NT 10.0) Test/2.0";

/// The title that a test notification has.
const TEST_TITLE: &str = "Test notification from icinga-desktop-bridge";

/// Runs `send-test`. In a thread of its own: the test's own sessions go on meanwhile.
async fn send_test(world: &World, user: &str) -> (Option<i32>, String) {
    let config = ConfigDir::new("", &resource(&world.database, &world.role));
    let user = user.to_owned();
    tokio::task::spawn_blocking(move || run(&config, &["send-test", &user]))
        .await
        .unwrap()
}

async fn check(world: &World) -> (Option<i32>, String) {
    let config = ConfigDir::new("", &resource(&world.database, &world.role));
    tokio::task::spawn_blocking(move || run(&config, &["check"]))
        .await
        .unwrap()
}

/// Opens a stream on a daemon and reads its first block.
async fn open(daemon: &Daemon, session_id: &str, agent: &str) -> Answer {
    let mut stream = Answer::to(&daemon.address, request(session_id, agent).as_bytes()).await;
    assert_eq!(stream.status, 200);
    stream.block().await.expect("a first block at once");
    stream
}

/// The next event is the test notification.
async fn expect_test(stream: &mut Answer) {
    let event = stream.event().await;
    let data = event.json();
    assert_eq!(data["payload"]["title"], TEST_TITLE, "{event:?}");
    assert_eq!(data["payload"]["severity"], "ok");
    assert_eq!(data["payload"]["incident_id"], 0);
    assert!(
        event.id.is_none(),
        "it would move the client's position: {event:?}"
    );
    assert_eq!(event.event.as_deref(), Some("icinga2.notification"));
}

/// No question is left in the table of positions.
async fn assert_no_question_is_left(database: &Database) {
    let session = database.connect().await;
    let left = "SELECT count(*)::text FROM icinga_desktop.browser_position WHERE floor < 0";
    assert_eq!(session.text(left).await, "0");
}

#[tokio::test]
async fn a_test_notification_reaches_one_stream_of_each_open_browser() {
    let world = World::new("sent").await;
    let contact = world.icinga.contact("alice").await;
    let mut bob = world.user("bob").await;

    let (exit, text) = send_test(&world, "alice").await;
    assert_eq!(exit, Some(1), "{text}");
    assert!(text.contains("0 of 0 open browsers got it"), "{text}");
    assert!(
        text.contains("FAIL  \"alice\" has no open browser"),
        "{text}"
    );

    let mut alice = world.sign_in(contact, "alice").await;
    let (exit, text) = send_test(&world, "ALICE").await;
    assert_eq!(exit, Some(0), "{text}");
    assert!(text.contains(": 1 of 1 open browsers got it"), "{text}");
    assert!(
        text.contains("1 stream got the test notification"),
        "{text}"
    );
    expect_test(&mut alice.stream).await;

    // Two streams of one browser, and another browser.
    let mut second = world.subscribe(&alice.session_id).await;
    let other_session = world.icinga.sign_in("alice", OTHER_AGENT).await;
    let mut other = open(&world.daemon, &other_session, OTHER_AGENT).await;
    let (exit, text) = send_test(&world, "alice").await;
    assert_eq!(exit, Some(0), "{text}");
    assert!(text.contains(": 2 of 2 open browsers got it"), "{text}");
    assert!(
        text.contains("2 streams got the test notification"),
        "{text}"
    );
    expect_test(&mut alice.stream).await;
    expect_test(&mut other).await;

    // The second stream and bob got none of it: their next event is a real one.
    drop(alice.stream);
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
    for stream in [&mut second, &mut bob.stream, &mut other] {
        assert_eq!(stream.event().await.incident(), written.incident);
    }
    assert_no_question_is_left(&world.database).await;
}

#[tokio::test]
async fn a_test_notification_that_cannot_be_delivered_is_forgotten() {
    let world = World::new("forgotten").await;
    let alice = world.user("alice").await;
    // A browser that leaves as soon as it has got it, before it counts as delivered.
    let mut stream = alice.stream;
    let (contact, database) = (alice.contact, &world.database);
    let token = "7".repeat(64);
    ask_by_hand(database, &token, contact).await;
    expect_test(&mut stream).await;
    drop(stream);
    let answer = wait_for_answer(database, &token).await;
    assert_eq!(
        answer[1..],
        [1, 0, 0],
        "one browser, and not delivered: {answer:?}"
    );
    remove_question(database, &token).await;

    // Not told of it when it comes back.
    let mut again = User {
        stream: world.subscribe(&alice.session_id).await,
        contact,
        session_id: alice.session_id,
    };
    world.nothing_else(&mut [&mut again]).await;
}

/// Stores a question as the command does, for a token of hexadecimal digits, and notifies of it.
async fn ask_by_hand(database: &Database, token: &str, contact: i64) {
    let session = database.connect().await;
    session
        .run(&format!(
            "INSERT INTO icinga_desktop.browser_position VALUES ('\\x{token}', -1, '{{{contact}}}', now()); \
             NOTIFY icinga_desktop_ask, '{{\"token\":\"{token}\"}}'"
        ))
        .await;
}

/// The first answer to a question.
async fn wait_for_answer(database: &Database, token: &str) -> Vec<i64> {
    let session = database.connect().await;
    let query =
        format!("SELECT above FROM icinga_desktop.browser_position WHERE browser = '\\x{token}'");
    let waiting = async {
        loop {
            let above: Vec<i64> = session.query_one(&query, &[]).await.unwrap().get(0);
            if above.len() > 1 {
                return above[1..].to_vec();
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, waiting).await.expect("an answer in time")
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
async fn a_test_for_nobody_says_what_to_do() {
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
        let (exit, text) = send_test(&world, user).await;
        assert_eq!(exit, Some(1), "{text}");
        let expected = format!(
            "FAIL  no contact of Icinga Notifications has the user name \"{}\"",
            user.escape_debug()
        );
        assert!(text.contains(&expected), "{text}");
        assert_eq!(text.lines().count(), 1, "{text}");
    }
    assert_no_question_is_left(&world.database).await;

    let World {
        daemon,
        icinga,
        database,
        role,
    } = world;
    icinga.contact("alice").await;
    drop(daemon);
    let config = ConfigDir::new("", &resource(&database, &role));
    let waiting = async {
        loop {
            // Until PostgreSQL has noticed that the daemon is gone.
            let (exit, text) = run(&config, &["send-test", "alice"]);
            assert_eq!(exit, Some(1), "{text}");
            if text.contains(
                "FAIL  no bridge listens on this database: is icinga-desktop-bridge running",
            ) {
                return;
            }
        }
    };
    timeout(PATIENCE, waiting).await.expect("no bridge");
    let (exit, text) = run(&config, &["check"]);
    assert_eq!(exit, Some(0), "{text}");
    assert!(
        text.contains("ok    bridges: none is running on this database"),
        "{text}"
    );

    database
        .psql()
        .command(&format!(
            "REVOKE INSERT ON icinga_desktop.browser_position FROM \"{role}\""
        ))
        .success();
    for arguments in [&["send-test", "alice"][..], &["check"]] {
        let (exit, text) = run(&config, arguments);
        assert_eq!(exit, Some(1), "{text}");
        assert!(
            text.contains("no right to write icinga_desktop.browser_position")
                && text.contains("sql/grants.sql"),
            "{text}"
        );
    }
    let (exit, _) = run(&config, &["send-test"]);
    assert_eq!(exit, Some(2));
}

#[tokio::test]
async fn several_bridges_are_asked_and_a_browser_on_two_of_them_is_found() {
    let world = World::new("several").await;
    let mut alice = world.user("alice").await;
    let second = Daemon::start(&resource(&world.database, &world.role));
    let bob = world.icinga.contact("bob").await;
    let bob_session = world.icinga.sign_in("bob", AGENT).await;
    let _bob = open(&second, &bob_session, AGENT).await;
    let other_session = world.icinga.sign_in("alice", OTHER_AGENT).await;
    let mut other = open(&second, &other_session, OTHER_AGENT).await;

    let (exit, text) = send_test(&world, "alice").await;
    assert_eq!(exit, Some(0), "{text}");
    assert_eq!(
        text.matches(": 1 of 1 open browsers got it").count(),
        2,
        "{text}"
    );
    assert!(
        text.contains("2 streams got the test notification"),
        "{text}"
    );
    expect_test(&mut alice.stream).await;
    expect_test(&mut other).await;

    let (exit, text) = send_test(&world, "bob").await;
    assert_eq!(exit, Some(0), "{text}");
    assert_eq!(
        text.matches(": 0 of 0 open browsers got it").count(),
        1,
        "{text}"
    );
    assert!(
        text.contains("1 stream got the test notification"),
        "{text}"
    );
    assert!(bob > 0);

    let (exit, text) = check(&world).await;
    assert_eq!(exit, Some(0), "{text}");
    let expected =
        "ok    bridges: 2 bridges serve this database, with 3 browsers, each on one of them";
    assert!(text.contains(expected), "{text}");

    // How many bridges there are is seen by every role, so they need not run as the same.
    let other_role = world.database.role("other");
    let session = world.database.connect_as(&other_role).await;
    let listening = "SELECT count(*)::text FROM pg_stat_activity WHERE datname = current_database() \
                     AND application_name = 'icinga-desktop-bridge listener'";
    assert_eq!(session.text(listening).await, "2");

    let _astray = open(&second, &alice.session_id, AGENT).await;
    let (exit, text) = check(&world).await;
    assert_eq!(exit, Some(1), "{text}");
    for part in [
        "FAIL  bridges: 2 bridges serve this database, and 1 browsers have streams on more than one",
        "hash $cookie_Icingaweb2 consistent",
        "packaging/",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert_no_question_is_left(&world.database).await;
}

#[tokio::test]
async fn a_bridge_that_hangs_is_missed() {
    let world = World::new("hanging").await;
    let _alice = world.user("alice").await;
    let second = Daemon::start(&resource(&world.database, &world.role));
    second.signal("STOP");
    let (exit, text) = send_test(&world, "alice").await;
    assert_eq!(exit, Some(0), "{text}");
    assert!(
        text.contains("1 of 2 bridges did not answer within 10s; their logs say why"),
        "{text}"
    );
    let (exit, text) = check(&world).await;
    assert_eq!(exit, Some(1), "{text}");
    assert!(
        text.contains("FAIL  bridges: 1 of 2 bridges that listen on this database answered"),
        "{text}"
    );
    second.signal("CONT");
    assert_no_question_is_left(&world.database).await;
}

#[tokio::test]
async fn only_who_may_write_what_bridges_write_can_pop_up_a_test() {
    let world = World::new("hostile").await;
    let mut alice = world.user("alice").await;
    let stranger = world.database.role("stranger");
    let session = world.database.connect_as(&stranger).await;

    // What is asked over the channel alone is ignored, however it looks and however often.
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
    world.daemon.wait_for_log("there is no question behind it");
    let refusal = session
        .refusal("INSERT INTO icinga_desktop.browser_position VALUES ('\\x00', -1, '{1}', now())")
        .await;
    assert!(refusal.contains("permission denied"), "{refusal}");
    world.nothing_else(&mut [&mut alice]).await;

    // Nor can somebody who knows their own session make the bridge take its position for a question.
    // With one id, it looks most like one.
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

    // A question that somebody overheard and repeats is still answered once.
    let token = "5".repeat(64);
    ask_by_hand(&world.database, &token, alice.contact).await;
    expect_test(&mut alice.stream).await;
    let answer = wait_for_answer(&world.database, &token).await;
    assert_eq!(answer[1..], [1, 1, 0], "{answer:?}");
    // One by one, so the other is dealt with, too: its row still holds nothing but ids of history rows.
    let untouched = format!(
        "SELECT (floor >= 0 AND NOT EXISTS (SELECT FROM unnest(above) AS id \
           WHERE id NOT IN (SELECT id FROM incident_history)))::text \
         FROM icinga_desktop.browser_position WHERE browser = sha256('{}')",
        bob.session_id
    );
    assert_eq!(session.text(&untouched).await, "true");
    for _ in 0..3 {
        session
            .run(&format!(
                "NOTIFY icinga_desktop_ask, '{{\"token\":\"{token}\"}}'"
            ))
            .await;
    }
    world.nothing_else(&mut [&mut alice]).await;

    // What comes behind all that is answered, so all of it was dealt with; and nothing was shown meanwhile.
    let next = "6".repeat(64);
    ask_by_hand(&world.database, &next, alice.contact).await;
    expect_test(&mut alice.stream).await;
    assert_eq!(
        wait_for_answer(&world.database, &next).await[1..],
        [1, 1, 0]
    );
    assert_eq!(wait_for_answer(&world.database, &token).await, answer);
    remove_question(&world.database, &token).await;
    remove_question(&world.database, &next).await;
    world.nothing_else(&mut [&mut alice]).await;

    let log = world.daemon.log();
    assert!(
        log.lines()
            .filter(|line| line.contains("icinga_desktop_ask"))
            .count()
            < 10,
        "{log}"
    );
    for secret in [&alice.session_id, &token, "7777777"] {
        assert!(!log.contains(secret), "{secret} is logged: {log}");
    }
}

#[tokio::test]
async fn what_is_heard_of_a_question_is_a_random_number() {
    let world = World::new("overheard").await;
    let _alice = world.user("alice").await;
    let mut eavesdropper = world.database.listen(&["icinga_desktop_ask"]).await;
    assert_eq!(send_test(&world, "alice").await.0, Some(0));
    assert_eq!(check(&world).await.0, Some(0));
    let heard = eavesdropper.heard().await;
    assert_eq!(heard.len(), 2, "{heard:?}");
    for (_, payload) in &heard {
        let json: serde_json::Value = serde_json::from_str(payload).unwrap();
        let object = json.as_object().unwrap();
        assert_eq!(object.keys().collect::<Vec<_>>(), ["token"], "{payload}");
        assert_eq!(object["token"].as_str().unwrap().len(), 64, "{payload}");
    }
    assert_ne!(heard[0].1, heard[1].1);
}

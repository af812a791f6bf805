//! `explain`: each of its lines, by its cause.

#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests fail by panicking, as tests do"
)]

use icinga_desktop_bridge::model::browser::BrowserKey;
use serde_json::{Value, json};

use crate::common::command::run;
use crate::common::daemon::{ConfigDir, Daemon};
use crate::common::eventsource::{EventSource, Site};
use crate::common::icinga::{Event, Icinga, Shape, Written};
use crate::common::postgres::Cluster;
use crate::common::sse::{AGENT, Answer, OTHER_AGENT, request};
use crate::common::wait::eventually;
use crate::common::world::{World, installed, resource};

use super::send_test::assert_no_question_is_left;

/// The digits that identify a browser.
fn digest(session_id: &str) -> String {
    format!("{:?}", BrowserKey::new(session_id))
}

/// What was reported about a user, and whether there was no problem.
struct Explained {
    good: bool,
    text: String,
}

impl Explained {
    fn new((exit, text): (Option<i32>, String)) -> Self {
        let good = exit == Some(0);
        assert!(good || exit == Some(1), "{exit:?}: {text}");
        assert_eq!(good, !text.contains("FAIL  "), "{exit:?}: {text}");
        Self { good, text }
    }

    fn has(&self, begin: &str, parts: &[&str]) -> bool {
        let fits =
            |line: &str| line.starts_with(begin) && parts.iter().all(|part| line.contains(part));
        self.text.lines().any(fits)
    }

    /// One line begins this way, and has these parts.
    #[track_caller]
    fn says(&self, begin: &str, parts: &[&str]) {
        assert!(self.has(begin, parts), "{begin}…{parts:?}: {}", self.text);
    }

    fn is_good(&self) {
        assert!(self.good, "{}", self.text);
    }

    fn is_bad(&self) {
        assert!(!self.good, "{}", self.text);
    }
}

async fn explain(world: &World, user: &str) -> Explained {
    Explained::new(world.run(&["explain", user]).await)
}

/// With these keys of `[daemon]`.
fn explain_with(world: &World, keys: &str, user: &str) -> Explained {
    let config = ConfigDir::new(keys, &resource(&world.database, &world.role));
    Explained::new(run(&config, &["explain", user]))
}

/// Explains again until a line begins this way, and has these parts.
async fn explain_until(world: &World, begin: &str, parts: &[&str]) -> Explained {
    eventually(async || {
        let explained = explain(world, "alice").await;
        if explained.has(begin, parts) {
            Ok(explained)
        } else {
            Err(format!("no {begin}…{parts:?}: {}", explained.text))
        }
    })
    .await
}

#[tokio::test]
async fn a_user_whose_popups_work_is_ok_in_every_line() {
    let world = World::new("fine").await;
    let mut alice = world.user("alice").await;
    let written = world.incident(alice.contact, "db1!disk").await;
    assert_eq!(alice.tab.event().await.incident(), written.incident);
    let browser = digest(&alice.session_id);
    let row = format!(
        "history row {}, incident {}",
        written.history[0], written.incident
    );
    let explained = explain_until(
        &world,
        "ok    notification: ",
        &[&row, "acknowledged by ", " at 2"],
    )
    .await;
    explained.is_good();
    explained.says("ok    contact: \"alice\" is contact ", &[]);
    explained.says("ok    bridges: 1 of 1 answered", &[]);
    explained.says(
        &format!("ok    browser: {browser} (Mozilla/5.0 (X11; Linux x86_64) Test/1.0): signed in "),
        &[" ago, for at most 7 days"],
    );
    explained.says(
        &format!("ok    streams: {browser}: "),
        &[
            " open on bridge ",
            "connected since 2",
            "last request 2",
            "which acknowledged what it had read",
            "0 events are not acknowledged yet",
            "the browser sends Last-Event-ID",
            "the proxy sends no X-Forwarded-For",
        ],
    );
    explained.says(
        "ok    refused: no browser of this user since the bridges were started",
        &[],
    );
    explained.says(
        "note  permissions: cannot be checked from here",
        &["operating system", "send-test"],
    );
    assert_eq!(explained.text.lines().count(), 7, "{}", explained.text);
    assert_no_question_is_left(&world.database).await;
}

#[tokio::test]
async fn every_released_schema_is_understood() {
    for shape in Shape::ALL {
        let world = World::on(Cluster::shared(), "shapes", shape).await;
        let alice = world.user("alice").await;
        world.incident(alice.contact, "o").await;
        let explained = explain_until(&world, "ok    notification: ", &["acknowledged by "]).await;
        explained.is_good();
    }
}

#[tokio::test]
async fn the_case_of_a_name_does_not_matter() {
    let world = World::new("case").await;
    let _alice = world.user("alice").await;
    let explained = explain(&world, "ALICE").await;
    explained.is_good();
    explained.says(
        "ok    contact: \"ALICE\" is contact ",
        &["spelled \"alice\" there; case does not matter"],
    );
    explained.says(
        "note  notifications: the history has none for this contact",
        &["event rules"],
    );
}

#[tokio::test]
async fn a_name_that_no_contact_has_is_compared_with_those_that_there_are() {
    let world = World::new("names").await;
    world.icinga.contact("alice ").await;
    world.icinga.contact("robert").await;
    world.icinga.contact("evil\u{1b}[2J\nx").await;
    let gone = world.icinga.contact("gone").await;
    world.icinga.delete_contact(gone).await;
    world.icinga.sign_in("alice", AGENT).await;
    let none = |user: &str| {
        format!(
            "FAIL  contact: no contact of Icinga Notifications has the user name \"{user}\", or it was deleted"
        )
    };

    let explained = explain(&world, "alice").await;
    explained.says(
        &none("alice"),
        &["contact \"alice \" differs only in spaces: the field Icinga Web User must be exactly"],
    );
    explained.says("FAIL  browsers: \"alice\" is signed in to Icinga Web, but gets no stream without a contact", &[]);
    let explained = explain(&world, "Rboert").await;
    explained.says(&none("Rboert"), &["similar: \"robert\""]);
    explained.says(
        "note  browsers: nobody is signed in to Icinga Web as \"Rboert\"",
        &[],
    );
    explain(&world, "evil\u{1b}[2J\ny").await.says(
        &none("evil\\u{1b}[2J\\ny"),
        &["similar: \"evil\\u{1b}[2J\\nx\""],
    );
    for user in ["gone", "", "zzzzzzzz", "alice'; DROP TABLE contact; --"] {
        let explained = explain(&world, user).await;
        explained.says(
            &none(&user.escape_debug().to_string()),
            &["no name is similar; see Contacts in Icinga Web"],
        );
        assert_eq!(explained.text.lines().count(), 2, "{}", explained.text);
    }
}

/// As many contacts as in a big directory.
#[tokio::test]
async fn the_right_name_is_found_among_many() {
    let world = World::new("many").await;
    world
        .icinga
        .by_hand(
            "INSERT INTO contact (full_name, username, default_channel_id, changed_at) \
         SELECT '', 'user' || i, 1, 0 FROM generate_series(1, 200000) AS i",
        )
        .await;
    world.icinga.contact("margarete").await;
    let explained = explain(&world, "margarethe").await;
    explained.says("FAIL  contact: ", &["similar: \"margarete\""]);
}

#[tokio::test]
async fn explain_reports_a_user_who_is_not_signed_in() {
    let world = World::new("absent").await;
    let contact = world.icinga.contact("alice").await;
    let written = world.incident(contact, "o").await;
    let explained = explain(&world, "alice").await;
    explained.says(
        "FAIL  browsers: the user is not signed in to Icinga Web",
        &[],
    );
    explained.says(
        "FAIL  notification: ",
        &[
            &format!("row {}", written.history[0]),
            "no signed-in browser could show it",
        ],
    );
}

#[tokio::test]
async fn of_sessions_with_the_same_user_agent_the_newest_counts() {
    let world = World::new("superseded").await;
    let (_, session_id) = world.signed_in("alice").await;
    let older = "o".repeat(26);
    // Icinga Web removes it at the next sign-in; another way to sign in may not.
    world.icinga.by_hand(&format!(
        "INSERT INTO browser_session SELECT '{older}', username, user_agent, authenticated_at - 60000 FROM browser_session"
    )).await;
    let refused = Answer::subscribe(&world.daemon.address, &older).await;
    assert_eq!(refused.status, 204);
    let _tab = world.open(&session_id).await;
    let (older, newer) = (digest(&older), digest(&session_id));
    let explained = explain(&world, "alice").await;
    explained.says(
        &format!("FAIL  browser: {older} "),
        &[&format!("superseded by {newer}"), "Sign in again"],
    );
    explained.says(
        &format!("note  refused: {older} at 2"),
        &["or another one with the same user agent: only the last one counts"],
    );
    explained.says(&format!("ok    streams: {newer}: 1 open"), &[]);
}

#[tokio::test]
async fn a_session_that_is_older_than_it_may_be_ends() {
    let world = World::new("old").await;
    let (_, session_id) = world.signed_in("alice").await;
    world
        .icinga
        .by_hand(
            "UPDATE browser_session SET authenticated_at = authenticated_at - 3 * 86400000::int8",
        )
        .await;
    let _tab = world.open(&session_id).await;
    let browser = digest(&session_id);
    explain(&world, "alice").await.says(
        &format!("ok    browser: {browser} "),
        &["signed in 3 days ago, for at most 7 days"],
    );
    // Housekeeping refreshes it; the time of the sign-in is stored with its position.
    world
        .database
        .eventually("EXISTS (SELECT FROM icinga_desktop.browser_position)")
        .await;
    world
        .icinga
        .by_hand(
            "UPDATE browser_session SET authenticated_at = authenticated_at + 3 * 86400000::int8",
        )
        .await;
    let explained = explain_with(&world, "session_days = 2", "alice");
    explained.says(
        &format!("FAIL  browser: {browser} "),
        &[
            "signed in 3 days ago",
            "longer than [daemon] session_days = 2 allows",
        ],
    );
}

#[tokio::test]
async fn a_browser_without_streams_is_named() {
    let world = World::new("away").await;
    let (contact, session_id) = world.signed_in("alice").await;
    let browser = digest(&session_id);
    let early = world.incident(contact, "early").await;
    let explained = explain(&world, "alice").await;
    explained.says(
        &format!("FAIL  streams: {browser}: none. Open Icinga Web in it"),
        &["reload the page", "with --url the reverse proxy"],
    );
    let row = format!("row {}", early.history[0]);
    explained.says(
        "note  notification: ",
        &[
            &row,
            &format!("not for {browser}, which has had no stream yet"),
        ],
    );

    let other_session = world.icinga.sign_in("alice", OTHER_AGENT).await;
    let site = Site::daemon(&world.daemon.address, OTHER_AGENT);
    let mut other = EventSource::open(&site, &other_session).await;
    let explained = explain(&world, "alice").await;
    explained.is_good();
    explained.says(
        &format!("note  streams: {browser}: none, so it shows nothing"),
        &[],
    );
    let before = format!("older than the sign-in of {}", digest(&other_session));
    explained.says("note  notification: ", &[&row, &before]);

    // It was connected once.
    drop(world.stream(&session_id).await);
    world
        .database
        .eventually("(SELECT count(*) FROM icinga_desktop.browser_position) = 2")
        .await;
    let late = world.incident(contact, "late").await;
    assert_eq!(other.event().await.incident(), late.incident);
    let waits = format!("waits until {browser} reconnects: open Icinga Web in it");
    let row = format!("row {}", late.history[0]);
    let explained = explain_until(
        &world,
        "ok    notification: ",
        &[&row, &waits, "acknowledged by "],
    )
    .await;
    explained.is_good();
    drop(other);
    let lost = world.incident(contact, "lost").await;
    let row = format!("row {}", lost.history[0]);
    explain_until(&world, "FAIL  notification: ", &[&row, &waits])
        .await
        .is_bad();
}

#[tokio::test]
async fn a_browser_on_two_bridges_is_a_failure() {
    let world = World::new("astray").await;
    let alice = world.user("alice").await;
    let second = Daemon::start(&resource(&world.database, &world.role));
    let _astray = Answer::open(&second.address, &alice.session_id, AGENT).await;
    let explained = explain(&world, "alice").await;
    let browser = digest(&alice.session_id);
    explained.says(
        &format!("FAIL  streams: {browser}: on 2 bridges, so everything is shown twice"),
        &["hash $cookie_Icingaweb2 consistent"],
    );
    assert_eq!(
        explained.text.matches("1 open on bridge").count(),
        2,
        "{}",
        explained.text
    );
    explained.says("ok    bridges: 2 of 2 answered", &[]);
}

#[tokio::test]
async fn what_is_known_of_a_proxy_and_of_how_a_browser_comes_back_is_said() {
    let world = World::new("proxy").await;
    let (contact, session_id) = world.signed_in("alice").await;
    let browser = digest(&session_id);
    let mut stream = world.stream_from(&session_id, "192.0.2.1").await;
    let explained = explain(&world, "alice").await;
    explained.says(
        &format!("ok    streams: {browser}: 1 open"),
        &[
            "which acknowledged nothing",
            "the browser has not returned yet",
            "the proxy sends X-Forwarded-For",
        ],
    );
    let written = world.incident(contact, "o").await;
    assert_eq!(stream.event().await.incident(), written.incident);
    while stream.block().await.is_some() {}
    // It has not returned yet, or too late.
    let _tab = EventSource::open(
        &Site::daemon(&world.daemon.address, AGENT).unnamed(),
        &session_id,
    )
    .await;
    explain_until(
        &world,
        "ok    streams: ",
        &[
            "the browser does not send Last-Event-ID, and usually returns ",
            " ms late",
        ],
    )
    .await;
}

#[tokio::test]
async fn events_on_their_way_are_counted() {
    let world = World::new("underway").await;
    let (contact, session_id) = world.signed_in("alice").await;
    let browser = digest(&session_id);
    // A client that never returns as asked: what it was sent waits, and so do new events, for a second and a half.
    eventually(async || {
        let mut stream = world.stream(&session_id).await;
        let first = world.incident(contact, "first").await;
        while stream.event().await.incident() != first.incident {}
        while stream.block().await.is_some() {}
        let second = world.incident(contact, "second").await;
        let explained = explain(&world, "alice").await;
        let (first, second) = (
            format!("row {}", first.history[0]),
            format!("row {}", second.history[0]),
        );
        let written = format!("written to {browser} 1 time, not acknowledged yet");
        let waiting = format!("about to be written to {browser}");
        let all = explained.has("FAIL  notification: ", &[&first, &written])
            && explained.has("FAIL  notification: ", &[&second, &waiting])
            && explained.has(
                "ok    streams: ",
                &[
                    "no stream at this moment, because the browser is reconnecting,",
                    " not acknowledged yet",
                ],
            );
        if all { Ok(()) } else { Err(explained.text) }
    })
    .await;
}

/// A user agent that the session does not have.
async fn refused(world: &World, session_id: &str, agent: &str) {
    let answer = Answer::to(&world.daemon.address, request(session_id, agent).as_bytes()).await;
    assert_eq!(answer.status, 204);
}

#[tokio::test]
async fn what_was_refused_is_said_and_what_to_do() {
    let world = World::new("refused").await;
    let session_id = world.icinga.sign_in("alice", AGENT).await;
    let browser = digest(&session_id);
    refused(&world, &session_id, AGENT).await;
    world.icinga.contact("alice").await;
    for _ in 0..3 {
        refused(&world, &session_id, OTHER_AGENT).await;
    }
    let explained = explain(&world, "alice").await;
    let begin = format!("FAIL  refused: {browser} at 2");
    explained.says(
        &begin,
        &[
            "there was no contact for its user at that time",
            "reload it",
        ],
    );
    explained.says(
        &begin,
        &[
            " (3 times): its user agent has changed since it signed in",
            "reload it",
        ],
    );

    // Once it is accepted, that is history.
    let mut tab = world.open(&session_id).await;
    let explained = explain(&world, "alice").await;
    explained.is_good();
    explained.says(
        &format!("note  refused: {browser} at 2"),
        &["there was no contact"],
    );

    world.icinga.sign_out(&session_id).await;
    tab.refused().await;
    let explained = explain(&world, "alice").await;
    let begin = format!("note  refused: {browser} at 2");
    explained.says(&begin, &["its streams were ended, because it signed out"]);
    explained.says(
        &begin,
        &["its session does not exist any more: sign in again in it"],
    );
    explained.says("FAIL  browsers: the user is not signed in", &[]);
}

#[tokio::test]
async fn a_flood_of_requests_leaves_no_trace_and_hides_nothing() {
    let world = World::new("flood").await;
    let (_, session_id) = world.signed_in("alice").await;
    let (_, other) = world.signed_in("bob").await;
    refused(&world, &session_id, OTHER_AGENT).await;
    for number in 0..300 {
        refused(&world, &format!("{number:030}"), AGENT).await;
        refused(&world, &other, OTHER_AGENT).await;
    }
    let explained = explain(&world, "alice").await;
    explained.says(
        &format!("FAIL  refused: {} at 2", digest(&session_id)),
        &["its user agent has changed"],
    );
    assert_eq!(
        explained.text.matches("refused: ").count(),
        1,
        "{}",
        explained.text
    );
    explain(&world, "bob")
        .await
        .says("FAIL  refused: ", &["(300 times)"]);
}

/// Notifies a contact of an incident, or of a new one, on two channels.
async fn on_two_channels(
    world: &World,
    contact: i64,
    incident: Option<i64>,
    state: &str,
) -> Written {
    let notified = [(contact, 1, state), (contact, 2, state)];
    let event = Event {
        incident,
        object: "o",
        severity: Some("crit"),
        notified: &notified,
        ..Event::default()
    };
    world.icinga.event(event).await
}

#[tokio::test]
async fn rows_that_nobody_is_shown_are_explained() {
    let world = World::new("unshown").await;
    let mut alice = world.user("alice").await;
    let event = |incident, state| on_two_channels(&world, alice.contact, incident, state);
    let opened = event(None, "pending").await;
    assert_eq!(alice.tab.event().await.incident(), opened.incident);
    let again = event(Some(opened.incident), "pending").await;
    assert_eq!(alice.tab.event().await.incident(), opened.incident);
    let muted = event(Some(opened.incident), "suppressed").await;
    let failed = event(Some(opened.incident), "failed").await;
    let row = |id: i64| format!("history row {id}, ");
    let second = row(again.history[1]);
    let explained = explain_until(
        &world,
        "ok    notification: ",
        &[
            &second,
            " acknowledged another row's event that covers it, at 2",
        ],
    )
    .await;
    explained.is_good();
    explained.says(
        "ok    notification: ",
        &[&row(again.history[0]), "acknowledged by "],
    );
    explained.says(
        "note  notification: ",
        &[
            &row(muted.history[0]),
            "suppressed, because the incident was muted",
        ],
    );
    explained.says(
        "note  notification: ",
        &[
            &row(failed.history[0]),
            "because of its notification_state: it was never about to be sent",
        ],
    );

    let explained = explain_with(&world, "notify = severity", "alice");
    explained.says(
        "ok    notification: ",
        &[&row(opened.history[0]), "acknowledged by "],
    );
    explained.says(
        "note  notification: ",
        &[
            &row(again.history[0]),
            "because of [daemon] notify = severity",
        ],
    );
}

#[tokio::test]
async fn what_is_older_than_the_daemon_is_known_without_a_time() {
    let mut world = World::new("restarted").await;
    let mut alice = world.user("alice").await;
    let fence = world.nothing_else(&mut [&mut alice]).await;
    world
        .delivered_to(&alice.session_id, fence.history[0])
        .await;
    drop(alice.tab);
    world.daemon.signal("TERM");
    world.daemon.wait();
    world.daemon = Daemon::start(&resource(&world.database, &world.role));
    let _tab = world.open(&alice.session_id).await;
    let done = format!(
        "acknowledged by {} at an unknown time",
        digest(&alice.session_id)
    );
    let explained = explain_until(&world, "ok    notification: ", &[&done]).await;
    explained.says(
        "ok    notification: ",
        &[
            &format!("row {}", fence.history[0]),
            "or older than its first stream",
        ],
    );
}

#[tokio::test]
async fn what_was_summed_up_is_named() {
    let world = World::new("summed").await;
    let alice = world.user("alice").await;
    let browser = digest(&alice.session_id);
    drop(alice.tab);
    explain_until(&world, "FAIL  streams: ", &[&browser]).await;
    for number in 0..7 {
        world.incident(alice.contact, &format!("o{number}")).await;
    }
    let _tab = world.open(&alice.session_id).await;
    let summed = format!("part of a summary for {browser}, which acknowledged that at 2");
    let explained = explain_until(&world, "ok    notification: ", &[&summed]).await;
    assert_eq!(
        explained.text.matches(&summed).count(),
        2,
        "{}",
        explained.text
    );
}

#[tokio::test]
async fn what_was_never_acknowledged_is_a_failure() {
    let world = World::new("unread").await;
    let (contact, session_id) = world.signed_in("alice").await;
    let mut stream = world.stream_from(&session_id, "192.0.2.0").await;
    let written = world.incident(contact, "o").await;
    for number in 1..=5 {
        assert_eq!(stream.event().await.incident(), written.incident);
        while stream.block().await.is_some() {}
        // From another address each time, which is never a receipt.
        stream = world
            .stream_from(&session_id, &format!("192.0.2.{number}"))
            .await;
    }
    let given_up = format!(
        "written to {} several times, never acknowledged, and given up at 2",
        digest(&session_id)
    );
    let explained =
        explain_until(&world, "FAIL  notification: ", &[&given_up, "check --url"]).await;
    explained.is_bad();
}

#[tokio::test]
async fn bridges_that_do_not_answer_are_named() {
    let world = World::new("silent").await;
    let alice = world.user("alice").await;
    let second = Daemon::start(&resource(&world.database, &world.role));
    second.signal("STOP");
    let explained = explain(&world, "alice").await;
    explained.says(
        "FAIL  bridges: 1 of 2 bridges did not answer within 10s, their logs say why",
        &["the following is from the others"],
    );
    explained.says(
        &format!("ok    streams: {}: 1 open", digest(&alice.session_id)),
        &[],
    );
    second.signal("CONT");
    assert_no_question_is_left(&world.database).await;
}

/// A bridge that only knows a test and a roll call treats the question as the test of a contact without browsers.
#[tokio::test]
async fn a_bridge_of_another_version_is_named() {
    let world = World::new("version").await;
    let _alice = world.user("alice").await;
    let mut older = world.database.listen(&["icinga_desktop_ask"]).await;
    older
        .run("SET application_name = 'icinga-desktop-bridge listener'")
        .await;
    let answering = async {
        let (_, payload) = older.notification().await;
        let payload: Value = serde_json::from_str(&payload).unwrap();
        let token = payload["token"].as_str().unwrap();
        // In one statement: once it is answered, the question is removed.
        let refused = older.text(&format!(
            "UPDATE icinga_desktop.browser_position SET above = above || '{{255,0,0,0,0}}' WHERE browser = '\\x{token}' AND floor = -1 RETURNING (above[1] < 0)::text"
        )).await;
        assert_eq!(refused, "true", "no contact has a negative id");
    };
    let (explained, ()) = tokio::join!(explain(&world, "alice"), answering);
    explained.says("FAIL  bridges: bridge 00000000000000ff did not answer this question because it has another version", &[]);
    explained.says("ok    streams: ", &[]);
}

#[tokio::test]
async fn without_a_bridge_what_the_database_knows_is_said() {
    let World {
        daemon,
        icinga,
        database,
        role,
    } = World::new("nobody").await;
    icinga.contact("alice").await;
    icinga.sign_in("alice", AGENT).await;
    drop(daemon);
    let config = ConfigDir::new("", &resource(&database, &role));
    let explained = eventually(async || {
        // Until PostgreSQL has noticed that the daemon has gone.
        let explained = Explained::new(run(&config, &["explain", "alice"]));
        if explained.has(
            "FAIL  bridges: no bridge listens on this database",
            &["systemctl status"],
        ) {
            Ok(explained)
        } else {
            Err(explained.text)
        }
    })
    .await;
    explained.says("ok    browser: ", &[]);
    explained.says("FAIL  streams: ", &["none. Open Icinga Web in it"]);
    assert!(!explained.text.contains("refused: "), "{}", explained.text);
}

/// In the order of ids, rows of other contacts come first, and those of a user who has few are among the last.
#[tokio::test]
async fn the_rows_of_others_are_not_read() {
    const ROWS: i64 = 20_000;
    let (database, role) = installed(Cluster::shared(), "others", Shape::V1_0);
    let icinga = Icinga::new(database.connect().await, Shape::V1_0);
    let incident = icinga.incident("db1!disk", "crit").await;
    let other = icinga.incident("web1", "crit").await;
    let (alice, bob) = (icinga.contact("alice").await, icinga.contact("bob").await);
    icinga
        .by_hand(&format!(
            "INSERT INTO incident_history (incident_id, contact_id, channel_id, time, type, notification_state)
               SELECT CASE WHEN n > 3 THEN {other} ELSE {incident} END,
                      CASE WHEN n > 3 THEN {bob} ELSE {alice} END, 1, 0, 'notified', 'sent'
               FROM generate_series(1, {ROWS}) AS n;
             ANALYZE incident_history"
        ))
        .await;
    let before = database.rows_read("incident_history", 0).await;
    let config = ConfigDir::new("", &resource(&database, &role));
    let explained = Explained::new(run(&config, &["explain", "alice"]));
    let rows = explained
        .text
        .matches(" notification: history row ")
        .count();
    assert_eq!(rows, 3, "{}", explained.text);
    let read = database.rows_read("incident_history", before + 3).await - before;
    assert!(read < ROWS / 10, "{read}");
}

#[tokio::test]
async fn a_bridge_that_is_full_is_named() {
    let (database, role) = installed(Cluster::shared(), "full", Shape::V1_0);
    let config = ConfigDir::new("host = 127.0.0.1\nport = 0", &resource(&database, &role));
    let daemon = Daemon::launch_limited(config, 66);
    daemon.wait_for_log("room for 1 streams");
    daemon.wait_for_log("ready: ");
    let world = World::of(daemon, database, role, Shape::V1_0).await;
    let bob = world.user("bob").await;
    let (_, session_id) = world.signed_in("alice").await;
    // The place may be free for a moment, because bob's tab is reconnecting.
    let begin = format!("FAIL  refused: {} at 2", digest(&session_id));
    let full = "the bridge had its maximum number of streams: raise the limit on open files";
    eventually(async || {
        let answer = Answer::subscribe(&world.daemon.address, &session_id).await;
        assert_eq!(answer.status, 200);
        let explained = explain(&world, "alice").await;
        if explained.has(&begin, &[full]) {
            Ok(())
        } else {
            Err(explained.text)
        }
    })
    .await;
    drop(bob);
}

#[tokio::test]
async fn without_the_right_to_positions_what_else_is_known_is_said() {
    let world = World::new("rights").await;
    let (contact, session_id) = world.signed_in("alice").await;
    let written = world.incident(contact, "o").await;
    let revoke = format!(
        "REVOKE INSERT ON icinga_desktop.browser_position FROM \"{}\"",
        world.role
    );
    world.icinga.by_hand(&revoke).await;
    let explained = explain(&world, "alice").await;
    explained.says(
        "FAIL  bridges: no right to write icinga_desktop.browser_position",
        &["sql/grants.sql"],
    );
    let browser = digest(&session_id);
    explained.says(&format!("ok    browser: {browser} "), &[]);
    let row = format!("row {}", written.history[0]);
    explained.says(
        "note  notification: ",
        &[
            &row,
            &format!("not known whether {browser} acknowledged it: positions are not stored"),
        ],
    );
}

#[test]
fn without_a_database_it_says_why() {
    let config = ConfigDir::new("", "host = /nowhere\ndbname = x\nusername = x");
    let explained = Explained::new(run(&config, &["explain", "alice"]));
    explained.says("FAIL  database: ", &["/nowhere"]);
    let (exit, text) = run(&config, &["explain", "--json", "alice"]);
    let json: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    assert_eq!((exit, &json["ok"]), (Some(1), &json!(false)));
    assert_eq!(json["lines"][0]["about"], "database");
}

#[tokio::test]
async fn neither_secrets_nor_control_characters_are_written() {
    let world = World::new("secrets").await;
    let agent = format!("Evil \u{9b}2J {}", "x".repeat(3000));
    let contact = world.icinga.contact("alice").await;
    let session_id = world.icinga.sign_in("alice", &agent).await;
    let site = Site::daemon(&world.daemon.address, &agent);
    let mut tab = EventSource::open(&site, &session_id).await;
    let notified = [(contact, 1, "pending")];
    let event = Event {
        object: "secret title",
        message: Some("secret message"),
        severity: Some("crit"),
        notified: &notified,
        ..Event::default()
    };
    world.icinga.event(event).await;
    tab.event().await;
    let explained = explain_until(&world, "ok    notification: ", &["acknowledged by "]).await;
    let (_, json) = world.run(&["explain", "alice", "--json"]).await;
    for output in [&explained.text, &json, &world.daemon.log()] {
        for secret in [session_id.as_str(), "secret", "\u{9b}"] {
            assert!(!output.contains(secret), "{secret}: {output}");
        }
    }
    explained.says(
        "ok    browser: ",
        &["(Evil \\u{9b}2J xxx", "xxx…): signed in"],
    );
    let json: Value = serde_json::from_str(&json).unwrap();
    let shown = json["browsers"][0]["user_agent"].as_str().unwrap();
    assert!(
        shown.starts_with("Evil \u{9b}2J xxx") && shown.len() < 100,
        "{shown}"
    );
}

/// Tools rely on these.
#[track_caller]
fn assert_keys(value: &Value, keys: &str) {
    let mut keys: Vec<_> = keys.split(' ').collect();
    keys.sort_unstable();
    let object = value.as_object().unwrap();
    let mut found: Vec<_> = object.keys().map(String::as_str).collect();
    found.sort_unstable();
    assert_eq!(found, keys, "{value}");
}

#[tokio::test]
async fn as_json_it_is_one_document() {
    let world = World::new("json").await;
    let mut alice = world.user("alice").await;
    refused(&world, &alice.session_id, OTHER_AGENT).await;
    let written = world.incident(alice.contact, "o").await;
    alice.tab.event().await;
    explain_until(&world, "ok    notification: ", &["acknowledged by "]).await;
    let (exit, text) = world.run(&["explain", "alice", "--json"]).await;
    assert_eq!((exit, text.lines().count()), (Some(0), 1), "{text}");
    let report: Value = serde_json::from_str(&text).unwrap();
    assert_keys(
        &report,
        "user ok lines contact bridges browsers streams refusals notifications",
    );
    assert_eq!(report["user"], "alice");
    assert_eq!(report["ok"], true);
    assert_keys(&report["lines"][0], "status about text");
    let contact = json!({"id": alice.contact, "username": "alice"});
    assert_eq!(report["contact"], contact);
    assert_keys(&report["bridges"], "listening answered");
    let signed_in = &report["browsers"][0];
    assert_keys(
        signed_in,
        "browser user_agent signed_in_at_ms superseded_by",
    );
    assert_eq!(signed_in["browser"], digest(&alice.session_id));
    let stream = &report["streams"][0];
    assert_keys(
        stream,
        "browser bridge open since_s returned_s acknowledges unacknowledged last_event_id late_ms forwarded_for",
    );
    assert_eq!(stream["bridge"], report["bridges"]["answered"][0]);
    let refused = &report["refusals"][0];
    assert_keys(refused, "browser bridge reason at_s count over");
    assert_eq!(refused["reason"], "user_agent");
    let notification = &report["notifications"][0];
    assert_keys(notification, "row incident time_ms state outcome browsers");
    assert_eq!(notification["row"], written.history[0]);
    assert_eq!(notification["outcome"], "for_browsers");
    let of_browser = &notification["browsers"][0];
    assert_keys(of_browser, "browser outcome at_s");
    assert_eq!(of_browser["outcome"], "acknowledged");
}

//! Positions: several bridges may have one of a browser, and each belongs to an epoch.

use crate::common::daemon::Daemon;
use crate::common::icinga::{Event, Icinga, Shape};
use crate::common::sse::{AGENT, Answer};
use crate::common::world::{World, resource};

const PENDING: &str = "pending";
const SUPPRESSED: &str = "suppressed";

impl World {
    /// Opens a critical incident with a notification of the contact, and makes it worse without one.
    async fn grows_worse_in_silence(&self, contact: i64) -> i64 {
        let incident = self.incident(contact, "grows worse").await.incident;
        let change = Event {
            incident: Some(incident),
            severity: Some("alert"),
            notified: &[(contact, 1, SUPPRESSED)],
            ..Event::default()
        };
        self.icinga.event(change).await;
        incident
    }
}

#[tokio::test]
async fn what_a_bridge_stores_late_does_not_undo_what_another_has_stored() {
    let mut world = World::new("stores_late").await;
    let contact = world.icinga.contact("alice").await;
    let database = &world.database;
    let other_role = database.role("other");
    let run = database.psql().variable("role", &other_role);
    run.file("sql/grants.sql").success();
    let other = Daemon::start(&resource(database, &other_role));
    let rights = "INSERT, UPDATE ON icinga_desktop.browser_position";
    world
        .icinga
        .by_hand(&format!("REVOKE {rights} FROM \"{other_role}\""))
        .await;
    // A lower id may still be committed: rows above it are known one by one.
    let slow = Icinga::new(database.connect().await, Shape::V1_0);
    slow.by_hand("BEGIN").await;
    let notified = [(contact, 1, PENDING)];
    let lower = Event {
        object: "slow",
        severity: Some("crit"),
        notified: &notified,
        ..Event::default()
    };
    let lower = slow.write(lower).await;

    // The other bridge has the browser in memory, but cannot store that.
    let session_id = world.icinga.sign_in("alice", AGENT).await;
    let mut stream = Answer::subscribe(&other.address, &session_id).await;
    stream.block().await.expect("a first block");
    drop(stream);
    other.wait_for_log("cannot store positions");
    // On this one it receives events, and this one stores its position.
    let mut alice = world.come_back(contact, session_id).await;
    let first = world.nothing_else(&mut [&mut alice]).await.history[0];
    let second = world.nothing_else(&mut [&mut alice]).await.history[0];
    world.delivered(first).await;
    world.delivered(second).await;
    world.daemon.signal("TERM");
    world.daemon.wait();

    let session = world.database.connect().await;
    let position = "icinga_desktop.browser_position";
    let stored = format!("SELECT changed_at::text FROM {position}");
    let stored = session.text(&stored).await;
    session
        .run(&format!("GRANT {rights} TO \"{other_role}\""))
        .await;
    let stored_again = format!("(SELECT changed_at > '{stored}' FROM {position})");
    world.database.eventually(&stored_again).await;
    let known =
        format!("SELECT (above @> ARRAY[{first}, {second}]::bigint[])::text FROM {position}");
    assert_eq!(session.text(&known).await, "true");

    world.daemon = world.another_daemon("host = 127.0.0.1\nport = 0");
    alice.tab = world.open(&alice.session_id).await;
    world.nothing_else(&mut [&mut alice]).await;
    slow.by_hand("COMMIT").await;
    assert_eq!(alice.tab.event().await.incident(), lower.incident);
    world.nothing_else(&mut [&mut alice]).await;
}

#[tokio::test]
async fn a_replayed_event_has_the_severity_of_its_own_time() {
    let world = World::new("own_severity").await;
    let alice = world.user("alice").await;
    let (contact, session_id) = world.leave(alice).await;
    let incident = world.grows_worse_in_silence(contact).await;
    let mut alice = world.come_back(contact, session_id).await;
    let event = alice.tab.event().await;
    assert_eq!(event.incident(), incident);
    assert_eq!(event.json()["payload"]["severity"], "crit");
    world.nothing_else(&mut [&mut alice]).await;
}

#[tokio::test]
async fn an_event_that_is_found_late_has_the_severity_of_its_own_time() {
    let world = World::new("late_severity").await;
    let mut alice = world.user("alice").await;
    // After that it does not count as one that reconnects.
    world.nothing_else(&mut [&mut alice]).await;
    // One look finds all of it.
    world.daemon.signal("STOP");
    let incident = world.grows_worse_in_silence(alice.contact).await;
    world.change(alice.contact, incident, "warning").await;
    world.daemon.signal("CONT");
    for severity in ["crit", "warning"] {
        let event = alice.tab.event().await;
        assert_eq!(event.incident(), incident);
        assert_eq!(event.json()["payload"]["severity"], severity);
    }
    world.nothing_else(&mut [&mut alice]).await;
}

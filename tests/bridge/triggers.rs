//! The bell does not ring: triggers that are disabled or missing, and transactions that should have rung for others. Events are
//! late at most, never lost, and the log and the health report say what to do.

use std::collections::BTreeSet;

use crate::common::admin::{metrics, monitored, wait_for_interval_looks, wait_for_readiness};
use crate::common::icinga::{Event, Icinga, Shape, Written};
use crate::common::postgres::Cluster;
use crate::common::world::{User, World};

const PENDING: &str = "pending";

const BELL: &str = "icinga_desktop_bell";

/// The daemon's log line about rows that no bell announced although all triggers exist.
const NO_BELL: &str = "rows were found for which no bell had rung";

impl World {
    /// Notifies a contact of a known incident without changing its severity: only the bell announces that.
    async fn escalate(&self, contact: i64, incident: i64) -> Written {
        self.icinga
            .event(Event {
                incident: Some(incident),
                notified: &[(contact, 1, PENDING)],
                ..Event::default()
            })
            .await
    }
}

/// The next event on a stream is the one of these rows.
async fn expect(user: &mut User, written: &Written) {
    let id = user.tab.event().await.id;
    assert_eq!(id, Some(written.history[0].to_string()));
}

/// Disables the bell with this statement, and installs it again.
async fn without_a_bell_events_come_late_and_it_is_logged(take_away: &str) {
    // Otherwise the daemon would wait for transactions of other databases, and a look after one of them would find the event.
    let cluster = Cluster::private();
    let (world, admin) = monitored(&cluster, "no_bell").await;
    let mut alice = world.user("alice").await;
    let opened = world.incident(alice.contact, "opened").await;
    expect(&mut alice, &opened).await;

    // After that no bell is on its way, and none is held: looks that follow one would find these events without missing it.
    wait_for_interval_looks(&admin, 1.0).await;
    world.icinga.by_hand(take_away).await;
    for _ in 0..2 {
        let escalated = world.escalate(alice.contact, opened.incident).await;
        expect(&mut alice, &escalated).await;
    }
    let missing = format!("triggers missing or disabled: {BELL} on incident_history");
    let line = world.daemon.wait_for_log(&missing);
    assert!(line.contains("install.sql"), "{line}");
    let reason = wait_for_readiness(&admin, 503).await;
    assert!(
        reason.contains("triggers are missing or disabled"),
        "{reason}"
    );
    // Other triggers ring for these, or announce the incident itself. They still arrive once.
    let other = world.incident(alice.contact, "other").await;
    expect(&mut alice, &other).await;
    let changed = world.change(alice.contact, other.incident, "warning").await;
    expect(&mut alice, &changed).await;
    let escalated = world.escalate(alice.contact, other.incident).await;
    expect(&mut alice, &escalated).await;
    world.nothing_else(&mut [&mut alice]).await;

    let install = world.database.psql().file("sql/install.sql");
    install.success();
    assert_eq!(wait_for_readiness(&admin, 200).await, "ready\n");
    world.daemon.wait_for_log("all are in place again");
    let late = "icinga_desktop_rows_without_bell_total";
    let before = metrics(&admin).await[late];
    assert!(before > 0.0);
    let escalated = world.escalate(alice.contact, opened.incident).await;
    expect(&mut alice, &escalated).await;
    world.nothing_else(&mut [&mut alice]).await;
    assert!(metrics(&admin).await[late] <= before, "the bell rings");
    assert_eq!(world.daemon.log().matches(&missing).count(), 1);
}

#[tokio::test]
async fn with_all_triggers_disabled_events_come_late_and_it_is_said_until_it_is_mended() {
    without_a_bell_events_come_late_and_it_is_logged(
        "ALTER TABLE incident_history DISABLE TRIGGER ALL",
    )
    .await;
}

#[tokio::test]
async fn with_the_bell_dropped_events_come_late_and_it_is_said_until_it_is_mended() {
    let drop = format!("DROP TRIGGER {BELL} ON incident_history");
    without_a_bell_events_come_late_and_it_is_logged(&drop).await;
}

/// Writes an event up to the moment before the commit: the trigger of the bell has run.
async fn write_and_ring(icinga: &Icinga, contact: i64, object: &str) -> Written {
    icinga.by_hand("BEGIN").await;
    let event = Event {
        object,
        severity: Some("crit"),
        notified: &[(contact, 1, PENDING)],
        ..Event::default()
    };
    let written = icinga.write(event).await;
    icinga.by_hand("SET CONSTRAINTS ALL IMMEDIATE").await;
    written
}

#[tokio::test]
async fn what_rode_along_with_a_transaction_that_never_rang_comes_nevertheless() {
    // As above: nothing else runs.
    let cluster = Cluster::private();
    for ending in ["a rollback", "a kill"] {
        let (world, admin) = monitored(&cluster, "never_rang").await;
        let mut alice = world.user("alice").await;
        world.nothing_else(&mut [&mut alice]).await;
        // From now on only a bell or the interval makes the daemon look: no earlier bell and no transaction is left to follow up.
        wait_for_interval_looks(&admin, 1.0).await;
        let mut listener = world.database.listen(&[BELL]).await;
        let mut ringer = Icinga::new(world.database.connect().await, Shape::V1_0);
        write_and_ring(&ringer, alice.contact, "rings").await;
        let rider = world.incident(alice.contact, "rides along").await;
        assert_eq!(listener.heard().await, []);
        if ending == "a kill" {
            let pid = ringer.session().text("SELECT pg_backend_pid()::text").await;
            let kill = format!("SELECT pg_terminate_backend({pid})");
            world.icinga.by_hand(&kill).await;
        } else {
            ringer.by_hand("ROLLBACK").await;
        }
        expect(&mut alice, &rider).await;
        world.daemon.wait_for_log(NO_BELL);
        world.nothing_else(&mut [&mut alice]).await;
        assert!(!world.daemon.log().contains("triggers missing"), "{ending}");
    }
}

#[tokio::test]
async fn what_rides_along_comes_with_the_bell_or_behind_it() {
    let world = World::new("rides").await;
    let mut alice = world.user("alice").await;
    let mut listener = world.database.listen(&[BELL]).await;
    let connect = async || Icinga::new(world.database.connect().await, Shape::V1_0);
    let (ringer, late) = (connect().await, connect().await);
    let rung = write_and_ring(&ringer, alice.contact, "rings").await;
    let rider = world.incident(alice.contact, "rides along").await;
    let late_rider = write_and_ring(&late, alice.contact, "rides along late").await;
    assert_eq!(listener.heard().await, []);
    ringer.by_hand("COMMIT").await;
    assert_eq!(listener.heard().await, [(BELL.to_owned(), String::new())]);
    // A look on the interval may have come before.
    let came = [alice.tab.event().await, alice.tab.event().await].map(|event| event.incident());
    assert_eq!(
        BTreeSet::from(came),
        BTreeSet::from([rung.incident, rider.incident])
    );
    // It leaves ringing to the transaction that has already rung, and commits after that was received.
    late.by_hand("COMMIT").await;
    expect(&mut alice, &late_rider).await;
    assert_eq!(listener.heard().await, []);
    world.nothing_else(&mut [&mut alice]).await;
}

//! What a look costs, whatever else the database is doing.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::common::admin::{MONITORED, admin_address, metrics, monitored};
use crate::common::daemon::Daemon;
use crate::common::icinga::{Event, Icinga, Shape};
use crate::common::postgres::Cluster;
use crate::common::world::{HELD, World, installed, resource};

/// An open transaction keeps the floor where it is: it may still add an older row.
#[tokio::test]
async fn what_an_open_transaction_holds_back_is_read_once() {
    const ROWS: i64 = 20_000;
    const EVENTS: i64 = 20;
    let (database, role) = installed(Cluster::shared(), "held_back", Shape::V1_0);
    let icinga = Icinga::new(database.connect().await, Shape::V1_0);
    let incident = icinga.incident("db1!disk", "crit").await;
    let nobody = icinga.contact("nobody").await;
    let holder = database.connect().await;
    holder.run("BEGIN; SELECT pg_current_xact_id()").await;

    let daemon = Daemon::start(&resource(&database, &role));
    let world = World {
        daemon,
        icinga,
        database,
        role,
    };
    let mut alice = world.user("alice").await;
    // Every tenth id may be one that was rolled back.
    world
        .icinga
        .by_hand(&format!(
            "INSERT INTO incident_history (id, incident_id, contact_id, channel_id, time, type, notification_state)
               SELECT n, {incident}, {nobody}, 1, 0, 'notified', 'pending'
               FROM generate_series(100, {ROWS} + 100) AS n WHERE n % 10 > 0;
             SELECT setval('incident_history_id_seq', {ROWS} + 100)"
        ))
        .await;
    for _ in 0..EVENTS {
        let written = world.incident(alice.contact, "db1!load").await;
        assert_eq!(alice.tab.event().await.incident(), written.incident);
    }
    let World {
        daemon, database, ..
    } = world;
    drop(daemon);
    let read = database.rows_read("incident_history", ROWS * 9 / 10).await;
    // Not once for each event.
    assert!(read < 3 * ROWS, "{read}");
    holder.run("ROLLBACK").await;
}

/// A plan made while there were few incidents is still used when there are many.
#[tokio::test]
async fn a_look_finds_an_incident_among_many_by_its_id() {
    const INCIDENTS: i64 = 20_000;
    const EVENTS: i64 = 20;
    let world = World::new("many").await;
    let mut alice = world.user("alice").await;
    world.nothing_else(&mut [&mut alice]).await;
    // Statistics of two incidents, and a plan for them. No other one is made.
    world
        .icinga
        .by_hand("ANALYZE; ALTER TABLE incident SET (autovacuum_enabled = off)")
        .await;
    world.nothing_else(&mut [&mut alice]).await;
    world
        .icinga
        .by_hand(&format!(
            "SET session_replication_role = replica;
             INSERT INTO incident (object_id, started_at, severity)
               SELECT id, 0, 'ok' FROM (SELECT id FROM object LIMIT 1) o, generate_series(1, {INCIDENTS});
             RESET session_replication_role"
        ))
        .await;
    for _ in 0..EVENTS {
        let written = world.incident(alice.contact, "db1!disk").await;
        assert_eq!(alice.tab.event().await.incident(), written.incident);
    }
    let World {
        daemon, database, ..
    } = world;
    drop(daemon);
    let read = database.rows_read("incident", INCIDENTS).await;
    assert!(read < EVENTS / 2 * INCIDENTS, "{read}");
}

/// Compiling a look takes PostgreSQL a hundred times as long as running it; its estimated cost is high enough for that, with
/// statistics of a big table and without plans that read all of it.
#[tokio::test]
async fn looks_are_not_compiled_however_big_the_table_is() {
    let cluster = Cluster::private();
    let mut world = World::on(&cluster, "compiled", Shape::V1_0).await;
    let icinga = &world.icinga;
    let incident = icinga.incident("db1!disk", "crit").await;
    let nobody = icinga.contact("nobody").await;
    for sql in [
        // It defines the settings.
        "LOAD 'auto_explain'",
        "ALTER SYSTEM SET session_preload_libraries = 'auto_explain'",
        "ALTER SYSTEM SET auto_explain.log_min_duration = 0",
        "ALTER SYSTEM SET auto_explain.log_analyze = on",
        "SELECT pg_reload_conf()",
    ] {
        icinga.by_hand(sql).await;
    }
    icinga
        .by_hand(&format!(
            "INSERT INTO incident_history (incident_id, contact_id, channel_id, time, type, notification_state)
               SELECT {incident}, {nobody}, 1, 0, 'notified', 'pending' FROM generate_series(1, 40000);
             ANALYZE"
        ))
        .await;
    // Its sessions have these settings.
    world.daemon = world.another_daemon("host = 127.0.0.1\nport = 0");
    let mut alice = world.user("alice").await;
    world.nothing_else(&mut [&mut alice]).await;
    let log = world.database.socket_directory().join("log");
    let log = std::fs::read_to_string(log).expect("the server's log");
    assert!(
        log.contains("incident_history h WHERE h.id > $1"),
        "no look"
    );
    assert!(!log.contains("JIT:"), "compiled");
}

/// If many commits follow each other, ringing for each would cost the writers more than it is worth: a daemon that is about to
/// look holds the bell, and rings once for the other daemons.
#[tokio::test]
async fn while_many_write_the_bell_is_held_and_no_daemon_misses_anything() {
    // Otherwise the daemon would wait for transactions of other databases, and find missed rows with them.
    let cluster = Cluster::private();
    let (mut world, admin) = monitored(&cluster, "held").await;
    let mut alice = world.user("alice").await;
    let mut other = world.another_daemon(MONITORED);
    let other_admin = admin_address(&other);
    std::mem::swap(&mut world.daemon, &mut other);
    let mut bob = world.user("bob").await;

    let (alices, bobs) = (alice.contact, bob.contact);
    let held = AtomicBool::new(false);
    let write = async || {
        let icinga = Icinga::new(world.database.connect().await, Shape::V1_0);
        let mut incidents = BTreeSet::new();
        while !held.load(Ordering::Relaxed) || incidents.is_empty() {
            let event = Event {
                object: "db1!disk",
                severity: Some("crit"),
                notified: &[(alices, 1, "pending"), (bobs, 1, "pending")],
                ..Event::default()
            };
            incidents.insert(icinga.event(event).await.incident);
        }
        incidents
    };
    let watch = async {
        world.database.eventually(HELD).await;
        held.store(true, Ordering::Relaxed);
    };
    let ((), one, two, three) = tokio::join!(watch, write(), write(), write());
    let written: BTreeSet<_> = one.into_iter().chain(two).chain(three).collect();

    for user in [&mut alice, &mut bob] {
        let mut received = BTreeSet::new();
        while received.len() < written.len() {
            let event = user.tab.event().await;
            assert!(received.insert(event.incident()), "twice: {event:?}");
        }
        assert_eq!(received, written);
    }
    world.database.eventually(&format!("NOT {HELD}")).await;
    world.nothing_else(&mut [&mut alice, &mut bob]).await;
    for admin in [admin, other_admin] {
        let late = metrics(&admin).await["icinga_desktop_rows_without_bell_total"];
        assert_eq!(late, 0.0, "found by an interval's look only");
    }
}

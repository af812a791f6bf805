//! What a look costs, whatever else goes on in the database.

use crate::common::daemon::Daemon;
use crate::common::icinga::{Icinga, Shape};
use crate::common::postgres::Cluster;
use crate::common::world::{World, installed, resource};

/// An open transaction keeps the floor where it is: nobody can tell whether it will bring an older row.
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
    // Every tenth id is one that was rolled back, as far as anybody can tell.
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

/// Compiling a look takes PostgreSQL a hundred times as long as running it, and its cost, with statistics of a big table and
/// without plans that read all of it, looks high enough.
#[tokio::test]
async fn looks_are_not_compiled_however_big_the_table_is() {
    let cluster = Cluster::private();
    let mut world = World::on(&cluster, "compiled", Shape::V1_0).await;
    let icinga = &world.icinga;
    let incident = icinga.incident("db1!disk", "crit").await;
    let nobody = icinga.contact("nobody").await;
    for sql in [
        // It defines its settings.
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
    // Its sessions have what was set.
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

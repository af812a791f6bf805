//! What a look costs, whatever else goes on in the database.

use crate::common::daemon::{ConfigDir, Daemon};
use crate::common::icinga::Icinga;
use crate::common::icinga::Shape;
use crate::common::postgres::{Cluster, Database};
use crate::common::wait::eventually;
use crate::common::world::{World, installed, resource};

/// Rows of `incident_history` that the server has counted as read by anybody, once there are at least `rows`. Counters come
/// in after the session that they are of.
async fn rows_read(database: &Database, rows: i64) -> i64 {
    eventually(async || {
        // A session for each look, because one may see the counters as they were when it first looked.
        let session = database.connect().await;
        let sql = "SELECT (seq_tup_read + coalesce(idx_tup_fetch, 0))::text FROM pg_stat_user_tables \
                   WHERE relname = 'incident_history'";
        let read: i64 = session.text(sql).await.parse().expect("a number");
        if read >= rows {
            Ok(read)
        } else {
            Err(format!("{read} of {rows} rows"))
        }
    })
    .await
}

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

    let daemon = Daemon::launch(ConfigDir::new("", &resource(&database, &role)));
    daemon.wait_for_log("ready: ");
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
        assert_eq!(alice.stream.event().await.incident(), written.incident);
    }
    let World {
        daemon, database, ..
    } = world;
    drop(daemon);
    let read = rows_read(&database, ROWS * 9 / 10).await;
    // Not once for each event.
    assert!(read < 3 * ROWS, "{read}");
    holder.run("ROLLBACK").await;
}

//! Daemons that do not read, and a queue that does not shrink: PostgreSQL keeps what was sent, and writers continue.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};

use super::{ALL, MESSAGE, PENDING, TITLE, aftermath, come_back, expect, expect_all, notify};
use crate::common::icinga::{Event, Shape};
use crate::common::postgres::Cluster;
use crate::common::world::{HELD, World};

#[tokio::test]
async fn a_stopped_daemon_delays_nobody_and_sends_everything_once_when_it_resumes() {
    const INCIDENTS: i64 = 300;
    const CHANGES: i64 = 15;
    let cluster = Cluster::private();
    let mut world = World::on(&cluster, "stopped", Shape::V1_0).await;
    let mut alice = world.user("alice").await;
    let mut incidents = Vec::new();
    for _ in 0..INCIDENTS {
        incidents.push(world.icinga.incident(TITLE, "crit").await);
    }
    let fence = world.nothing_else(&mut [&mut alice]).await;
    // The tab has returned: a disconnected one is sent a summary. And the bell is not held: otherwise no transaction rings, and
    // nothing is queued.
    world.delivered(fence.history[0]).await;
    world.database.eventually(&format!("NOT {HELD}")).await;
    world.daemon.signal("STOP");
    // A transaction that waited for the daemon would fail, and with it this test.
    world.icinga.by_hand("SET statement_timeout = '2s'").await;
    let mut newest = HashMap::new();
    for _ in 0..CHANGES {
        for incident in &incidents {
            let sql = format!(
                "INSERT INTO incident_history \
                 (incident_id, contact_id, channel_id, time, message, type, notification_state) \
                 VALUES ({incident}, {}, 1, (extract(epoch FROM clock_timestamp()) * 1000)::bigint, \
                         '{MESSAGE}', 'notified', 'pending') RETURNING id",
                alice.contact
            );
            let row = world.icinga.session().query_one(&sql, &[]).await.unwrap();
            newest.insert(*incident, row.get::<_, i64>(0));
        }
    }
    // The daemon's session could not receive all of it: PostgreSQL keeps it.
    world
        .database
        .eventually(&format!("pg_notification_queue_usage() > 0 OR {HELD}"))
        .await;
    world.daemon.signal("CONT");
    let mut received = HashSet::new();
    let mut last = HashMap::new();
    while last != newest {
        let event = alice.tab.event().await;
        let id: i64 = event.id.as_deref().unwrap().parse().unwrap();
        assert!(received.insert(id), "twice: {event:?}");
        let before = last.insert(event.incident(), id);
        assert!(before.is_none_or(|before| before < id), "late: {event:?}");
    }
    world.icinga.by_hand("RESET statement_timeout").await;
    aftermath(&world, &mut [&mut alice], &[]).await;
}

#[tokio::test]
async fn without_a_daemon_icinga_writes_as_usual_and_the_next_daemon_sends_what_was_missed() {
    let cluster = Cluster::private();
    let mut world = World::on(&cluster, "absent", Shape::V1_0).await;
    let mut alice = world.user("alice").await;
    let before = world.nothing_else(&mut [&mut alice]).await;
    // Stored: otherwise the next daemon sends it again.
    world.delivered(before.history[0]).await;
    world.icinga.by_hand("SET statement_timeout = '2s'").await;

    // In the middle of a transaction.
    world.icinga.by_hand("BEGIN").await;
    let notified = [(alice.contact, 1, PENDING)];
    let event = Event {
        object: TITLE,
        severity: Some("crit"),
        message: Some(MESSAGE),
        notified: &notified,
        ..Event::default()
    };
    let mut written = vec![world.icinga.write(event).await];
    world.daemon.signal("KILL");
    assert_eq!(world.daemon.wait().code(), None, "killed");
    world.icinga.by_hand("COMMIT").await;
    // Within the limits of a replay.
    for _ in 0..8 {
        written.push(notify(&world.icinga, &[alice.contact]).await);
    }
    world
        .database
        .eventually("pg_notification_queue_usage() = 0")
        .await;

    world.daemon = world.another_daemon("host = 127.0.0.1\nport = 0\nreplay_incidents = 20");
    alice.tab = come_back(&world, &alice.session_id).await;
    expect_all(&mut alice, &written).await;
    aftermath(&world, &mut [&mut alice], &[]).await;
}

#[tokio::test]
async fn while_somebody_else_keeps_the_queue_from_shrinking_our_sessions_hold_no_transaction() {
    let cluster = Cluster::private();
    let world = World::on(&cluster, "queue", Shape::V1_0).await;
    let mut alice = world.user("alice").await;
    let holder = world.database.connect().await;
    holder.run("LISTEN somebody").await;
    holder.run("BEGIN; NOTIFY somebody").await;
    // Bells alone are too small to fill a page of it.
    let other = world.database.connect().await;
    other
        .run("SELECT pg_notify('somebody', repeat(n::text, 7000)) FROM generate_series(1, 9) AS n")
        .await;

    let done = AtomicBool::new(false);
    let watching = async {
        let watcher = world.database.connect().await;
        let mut looks = 0;
        let idle = format!(
            "SELECT count(*)::text FROM pg_stat_activity \
             WHERE {ALL} AND state LIKE 'idle in transaction%'"
        );
        while !done.load(Ordering::Relaxed) {
            assert_eq!(watcher.text(&idle).await, "0", "idle in transaction");
            looks += 1;
        }
        looks
    };
    let delivering = async {
        for _ in 0..100 {
            let written = notify(&world.icinga, &[alice.contact]).await;
            expect(&mut alice, &written).await;
        }
        done.store(true, Ordering::Relaxed);
    };
    let (looks, ()) = tokio::join!(watching, delivering);
    assert!(looks > 0);
    world
        .database
        .eventually("pg_notification_queue_usage() > 0")
        .await;
    holder.run("COMMIT").await;
    aftermath(&world, &mut [&mut alice], &[]).await;
}

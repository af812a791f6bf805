//! Standbys: a failover, one that loses commits, and a standby instead of the primary.

use super::{aftermath, check, expect, expect_all, notify, reconnect};
use crate::common::daemon::{ConfigDir, Daemon};
use crate::common::icinga::{Shape, Written};
use crate::common::postgres::{Cluster, Database, PASSWORD};
use crate::common::world::{World, installed, resource};

/// A primary and its standby, and a daemon whose resource names both.
async fn with_standby(hint: &str) -> (Cluster, Cluster, World) {
    let cluster = Cluster::private();
    let (database, role) = installed(&cluster, hint, Shape::V1_0);
    database
        .psql()
        .command(&format!("ALTER ROLE \"{role}\" PASSWORD '{PASSWORD}'"))
        .success();
    let standby = Cluster::standby_of(&cluster);
    let resource = format!(
        "host = \"127.0.0.1,127.0.0.1\"\nport = \"{},{}\"\ndbname = {}\nusername = {role}\npassword = {PASSWORD}",
        cluster.port(),
        standby.port(),
        database.name()
    );
    let world = World::reached_by(database, role, Shape::V1_0, &resource).await;
    (cluster, standby, world)
}

/// Waits until the standby, whose database this is, has everything that Icinga has committed.
async fn replicated(world: &mut World, copy: &Database) {
    let end = world
        .icinga
        .session()
        .text("SELECT pg_current_wal_insert_lsn()::text")
        .await;
    let has_it = format!("pg_last_wal_replay_lsn() >= '{end}'::pg_lsn");
    copy.eventually(&has_it).await;
}

#[tokio::test]
async fn the_daemon_follows_a_failover_and_sends_what_was_committed_on_the_new_primary() {
    let (cluster, standby, mut world) = with_standby("failover").await;
    let (mut alice, mut bob) = (world.user("alice").await, world.user("bob").await);
    let before = notify(&world.icinga, &[alice.contact]).await;
    expect(&mut alice, &before).await;

    let copy = standby.same_database(&world.database);
    replicated(&mut world, &copy).await;
    cluster.stop();
    // The standby is tried, too, and not used.
    world.daemon.wait_for_log("does not allow writes");
    // The daemon must not reconnect before Icinga.
    world.daemon.signal("STOP");
    standby.promote();
    world.database = copy;
    reconnect(&mut world).await;
    let first = notify(&world.icinga, &[alice.contact, bob.contact]).await;
    world.daemon.signal("CONT");
    expect(&mut alice, &first).await;
    expect(&mut bob, &first).await;
    let second = notify(&world.icinga, &[bob.contact]).await;
    expect(&mut bob, &second).await;
    let refused = format!("127.0.0.1 port {}: ", cluster.port());
    aftermath(
        &world,
        &mut [&mut alice, &mut bob],
        &[&refused, "does not allow writes", "next attempt in "],
    )
    .await;
}

/// Asynchronous replication: the standby never received the last commits, and reuses their ids.
#[tokio::test]
async fn a_failover_that_loses_commits_loses_no_later_notification_and_repeats_none() {
    let (cluster, standby, mut world) = with_standby("lossy_failover").await;
    let (mut alice, mut bob) = (world.user("alice").await, world.user("bob").await);
    let before = notify(&world.icinga, &[alice.contact]).await;
    expect(&mut alice, &before).await;
    world.delivered(before.history[0]).await;

    // This delivery cannot be stored before the end of the primary.
    let locker = world.database.connect().await;
    locker
        .run("BEGIN; LOCK TABLE icinga_desktop.browser_position IN EXCLUSIVE MODE")
        .await;
    let unstored = notify(&world.icinga, &[bob.contact]).await;
    expect(&mut bob, &unstored).await;
    let copy = standby.same_database(&world.database);
    replicated(&mut world, &copy).await;
    standby.stop();
    locker.run("ROLLBACK").await;

    let mut lost = Vec::new();
    for _ in 0..100 {
        let written = notify(&world.icinga, &[alice.contact]).await;
        expect(&mut alice, &written).await;
        lost.push(written.history[0]);
    }
    world.delivered(lost[99]).await;
    world.daemon.signal("STOP");
    cluster.stop();
    standby.start();
    standby.promote();
    world.database = copy;
    reconnect(&mut world).await;
    let mut written = Vec::new();
    for _ in 0..20 {
        written.push(notify(&world.icinga, &[alice.contact, bob.contact]).await);
    }
    let reused = |written: &Written| lost.contains(&written.history[0]);
    assert!(
        written.iter().any(reused),
        "no id is used again: {written:?}"
    );
    world.daemon.signal("CONT");
    expect_all(&mut alice, &written).await;
    expect_all(&mut bob, &written).await;
    aftermath(
        &world,
        &mut [&mut alice, &mut bob],
        &["the timeline has changed"],
    )
    .await;
}

#[tokio::test]
async fn a_standby_is_named_as_the_cause_until_it_is_promoted() {
    let cluster = Cluster::private();
    let (original, role) = installed(&cluster, "standby", Shape::V1_0);
    let standby = Cluster::standby_of(&cluster);
    let database = standby.same_database(&original);
    let resource = resource(&database, &role);
    let (code, text) = check(&resource);
    assert_eq!(code, Some(1), "{text}");
    assert!(
        text.contains("FAIL  server: the server is a standby"),
        "{text}"
    );
    assert!(text.contains("name the primary"), "{text}");

    let config = ConfigDir::new("host = 127.0.0.1\nport = 0", &resource);
    let daemon = Daemon::launch(config);
    let line = daemon.wait_for_log("not listening: ");
    assert!(
        line.contains("standby") && line.contains("name the primary"),
        "{line}"
    );
    assert!(!daemon.log().contains("ready: "));
    standby.promote();
    daemon.wait_for_log("ready: ");
    let world = World::of(daemon, database, role, Shape::V1_0).await;
    let mut alice = world.user("alice").await;
    aftermath(&world, &mut [&mut alice], &["standby"]).await;
}

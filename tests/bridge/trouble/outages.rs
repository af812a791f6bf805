//! Databases that stop or crash, and sessions that are terminated.

use super::{
    ALL, LISTENING, QUERYING, aftermath, assert_asked_to_come_back, come_back, expect, expect_all,
    notify, reconnect,
};
use crate::common::daemon::{ConfigDir, Daemon};
use crate::common::icinga::{Icinga, Shape};
use crate::common::postgres::{Cluster, Database};
use crate::common::sse::{AGENT, Answer};
use crate::common::world::{User, World, installed, resource};

/// What ends the daemon's sessions, repeated until it has happened once.
async fn terminate(database: &Database, which: &str) {
    database
        .eventually(&format!(
            "SELECT count(pg_terminate_backend(pid)) > 0 FROM pg_stat_activity WHERE {which}"
        ))
        .await;
}

async fn streams_outlive_the_database(stop: impl Fn(&Cluster), cause: &str) {
    let cluster = Cluster::private();
    let mut world = World::on(&cluster, "away", Shape::V1_0).await;
    // The test's server loses this in a crash, for speed; Icinga's does not.
    world.icinga.by_hand("SET synchronous_commit = on").await;
    let (mut alice, mut bob) = (world.user("alice").await, world.user("bob").await);
    let before = notify(&world.icinga, &[alice.contact]).await;
    expect(&mut alice, &before).await;
    stop(&cluster);
    world.daemon.wait_for_log("not listening: ");
    world.daemon.wait_for_log("query session lost: ");
    // It has tried at least once, in vain, and must not reconnect before Icinga.
    world.daemon.wait_for_log("cannot connect to ");
    world.daemon.signal("STOP");
    cluster.start();
    reconnect(&mut world).await;
    let first = notify(&world.icinga, &[alice.contact, bob.contact]).await;
    let second = notify(&world.icinga, &[alice.contact]).await;
    world.daemon.signal("CONT");
    expect(&mut bob, &first).await;
    expect_all(&mut alice, &[first, second]).await;
    aftermath(
        &world,
        &mut [&mut alice, &mut bob],
        &[cause, "cannot connect to ", "next attempt in "],
    )
    .await;
}

#[tokio::test]
async fn streams_outlive_a_stop_of_the_database_and_get_what_was_committed_before_the_daemon_is_back()
 {
    streams_outlive_the_database(
        Cluster::stop,
        "terminating connection due to administrator command",
    )
    .await;
}

#[tokio::test]
async fn streams_outlive_a_crash_of_the_database_and_get_what_was_committed_before_the_daemon_is_back()
 {
    // "because of crash of another server process", or only the end of the connection.
    streams_outlive_the_database(Cluster::crash, "not listening: ").await;
}

#[tokio::test]
async fn without_a_database_at_its_start_the_daemon_asks_browsers_to_come_back_until_it_is_reachable()
 {
    let cluster = Cluster::private();
    let (database, role) = installed(&cluster, "no_start", Shape::V1_0);
    let icinga = Icinga::new(database.connect().await, Shape::V1_0);
    let contact = icinga.contact("alice").await;
    let session_id = icinga.sign_in("alice", AGENT).await;
    cluster.stop();
    let config = ConfigDir::new("host = 127.0.0.1\nport = 0", &resource(&database, &role));
    let daemon = Daemon::launch(config);
    assert_asked_to_come_back(Answer::subscribe(&daemon.address, &session_id).await).await;
    daemon.wait_for_log("cannot connect to ");
    assert!(!daemon.log().contains("ready: "));
    cluster.start();
    daemon.wait_for_log("ready: ");
    let world = World::of(daemon, database, role, Shape::V1_0).await;
    let mut alice = User {
        contact,
        tab: come_back(&world, &session_id).await,
        session_id,
    };
    let written = notify(&world.icinga, &[contact]).await;
    expect(&mut alice, &written).await;
    aftermath(
        &world,
        &mut [&mut alice],
        &["cannot connect to ", "next attempt in "],
    )
    .await;
}

#[tokio::test]
async fn terminated_sessions_are_replaced_and_lose_nothing() {
    let cluster = Cluster::private();
    for (which, times, cause) in [
        (ALL, 10, "lost: "),
        (LISTENING, 5, "not listening: "),
        (QUERYING, 5, "query session lost: "),
    ] {
        let world = World::on(&cluster, "terminated", Shape::V1_0).await;
        let mut alice = world.user("alice").await;
        let mut written = Vec::new();
        for _ in 0..times {
            written.push(notify(&world.icinga, &[alice.contact]).await);
            terminate(&world.database, which).await;
            written.push(notify(&world.icinga, &[alice.contact]).await);
        }
        expect_all(&mut alice, &written).await;
        aftermath(
            &world,
            &mut [&mut alice],
            &[cause, "terminating connection due to administrator command"],
        )
        .await;
    }
}

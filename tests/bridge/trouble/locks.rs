//! Tables that another session has locked.

use super::{aftermath, assert_asked_to_come_back, come_back, expect, notify};
use crate::common::daemon::{ConfigDir, Daemon};
use crate::common::icinga::Shape;
use crate::common::postgres::Cluster;
use crate::common::sse::{AGENT, Answer};
use crate::common::world::{World, installed, resource};

#[tokio::test]
async fn while_the_sessions_table_is_locked_sign_ins_are_postponed_and_events_go_on() {
    let cluster = Cluster::private();
    let world = World::on(&cluster, "locked", Shape::V1_0).await;
    let (mut alice, mut bob) = (world.user("alice").await, world.user("bob").await);
    let mut session_ids = Vec::new();
    for number in 0..30 {
        let name = format!("user{number}");
        world.icinga.contact(&name).await;
        session_ids.push(world.icinga.sign_in(&name, AGENT).await);
    }
    let locker = world.database.connect().await;
    locker
        .run("BEGIN; LOCK TABLE browser_session IN ACCESS EXCLUSIVE MODE")
        .await;
    let mut sign_ins = tokio::task::JoinSet::new();
    for session_id in session_ids {
        let address = world.daemon.address.clone();
        sign_ins.spawn(async move { Answer::subscribe(&address, &session_id).await });
    }
    world
        .database
        .eventually("SELECT count(*) > 0 FROM pg_locks WHERE NOT granted")
        .await;
    // After thirty statements that wait ten seconds each, these would not arrive in time.
    for _ in 0..3 {
        let written = notify(&world.icinga, &[alice.contact, bob.contact]).await;
        expect(&mut alice, &written).await;
        expect(&mut bob, &written).await;
    }
    while let Some(answer) = sign_ins.join_next().await {
        assert_asked_to_come_back(answer.unwrap()).await;
    }
    let written = notify(&world.icinga, &[alice.contact]).await;
    expect(&mut alice, &written).await;
    locker.run("ROLLBACK").await;
    // A second tab.
    come_back(&world, &alice.session_id).await;
    aftermath(
        &world,
        &mut [&mut alice, &mut bob],
        &["browsers are asked to come back later: ", "locked"],
    )
    .await;
}

#[tokio::test]
async fn a_daemon_that_starts_while_the_sessions_table_is_locked_waits_for_it() {
    let cluster = Cluster::private();
    let (database, role) = installed(&cluster, "locked_start", Shape::V1_0);
    let locker = database.connect().await;
    locker
        .run("BEGIN; LOCK TABLE browser_session IN ACCESS EXCLUSIVE MODE")
        .await;
    let config = ConfigDir::new("host = 127.0.0.1\nport = 0", &resource(&database, &role));
    let daemon = Daemon::launch(config);
    let line = daemon.wait_for_log("statement timeout");
    assert!(
        line.contains("locked") && line.contains("next attempt"),
        "{line}"
    );
    locker.run("ROLLBACK").await;
    daemon.wait_for_log("ready: ");
}

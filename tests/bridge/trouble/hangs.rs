//! Servers and sessions that hang: nothing is closed, and nothing is answered.

use super::{ALL, LISTENING, aftermath, come_back, expect, notify};
use crate::common::icinga::Shape;
use crate::common::postgres::Cluster;
use crate::common::world::World;

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_server_loses_and_doubles_nothing() {
    let cluster = Cluster::private();
    let world = World::on(&cluster, "frozen", Shape::V1_0).await;
    let mut alice = world.user("alice").await;
    let before = notify(&world.icinga, &[alice.contact]).await;
    expect(&mut alice, &before).await;
    let frozen = cluster.freeze();
    let contacts = [alice.contact];
    let writing = notify(&world.icinga, &contacts);
    tokio::pin!(writing);
    assert!(futures::poll!(&mut writing).is_pending());
    let warning = tokio::task::block_in_place(|| world.daemon.wait_for_log("no answer within "));
    assert!(warning.contains("overloaded or frozen"), "{warning}");
    assert!(
        futures::poll!(&mut writing).is_pending(),
        "the server is not frozen"
    );
    drop(frozen);
    let written = writing.await;
    expect(&mut alice, &written).await;
    world.daemon.wait_for_log("answers again");
    let after = notify(&world.icinga, &contacts).await;
    expect(&mut alice, &after).await;
    aftermath(&world, &mut [&mut alice], &["overloaded or frozen"]).await;
    assert!(!world.daemon.log().contains("deaf"), "it was only late");
}

async fn hanging_sessions_are_replaced(which: &str, causes: &[&str]) {
    let cluster = Cluster::private();
    let world = World::on(&cluster, "hanging", Shape::V1_0).await;
    let mut alice = world.user("alice").await;
    let before = notify(&world.icinga, &[alice.contact]).await;
    expect(&mut alice, &before).await;
    let pids = world
        .database
        .connect()
        .await
        .text(&format!(
            "SELECT string_agg(pid::text, ' ') FROM pg_stat_activity WHERE {which}"
        ))
        .await;
    let pids: Vec<u32> = pids.split(' ').map(|pid| pid.parse().unwrap()).collect();
    let frozen = cluster.freeze_only(pids);
    let written = notify(&world.icinga, &[alice.contact]).await;
    for cause in causes {
        world.daemon.wait_for_log(cause);
    }
    expect(&mut alice, &written).await;
    let after = notify(&world.icinga, &[alice.contact]).await;
    expect(&mut alice, &after).await;
    let tab = come_back(&world, &alice.session_id).await;
    drop(tab);
    // They continue, and find that their clients have gone.
    drop(frozen);
    aftermath(&world, &mut [&mut alice], causes).await;
}

#[tokio::test]
async fn a_listening_session_that_hangs_is_replaced_and_loses_nothing() {
    hanging_sessions_are_replaced(
        LISTENING,
        &["the listener is deaf: it did not receive its own notification"],
    )
    .await;
}

#[tokio::test]
async fn all_sessions_hanging_as_behind_a_proxy_whose_server_is_gone_are_replaced_and_lose_nothing()
{
    hanging_sessions_are_replaced(
        ALL,
        &[
            "overloaded or frozen",
            "still no answer, reconnecting",
            "query session lost: it does not answer",
            "sign-in session lost: it does not answer",
        ],
    )
    .await;
}

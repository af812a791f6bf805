//! Delivered means that the browser has returned.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::common::admin::{metrics, monitored, wait_for_metrics};
use crate::common::daemon::Daemon;
use crate::common::eventsource::{EventSource, Site};
use crate::common::postgres::Cluster;
use crate::common::sse::AGENT;
use crate::common::world::{User, World, resource};

const RETURNED: &str = "icinga_desktop_events_total{outcome=\"returned\"}";
const BY_TIME: &str = "icinga_desktop_returns_total{proof=\"time\"}";

/// Chromium does not send what it has read. When this machine is too busy for a punctual return, an event is sent again, and the
/// daemon counts that.
#[tokio::test]
async fn a_browser_that_names_nothing_gets_each_event_once_if_it_is_punctual() {
    let (world, admin) = monitored(Cluster::shared(), "punctual").await;
    let (contact, session_id) = world.signed_in("alice").await;
    let site = Site::daemon(&world.daemon.address, AGENT).unnamed();
    let mut tab = EventSource::open(&site, &session_id).await;
    let mut written = Vec::new();
    let mut seen = HashMap::new();
    for number in 0..10 {
        let event = world.incident(contact, &format!("o{number}")).await;
        written.push(event.incident);
        while !seen.contains_key(&event.incident) {
            *seen.entry(tab.event().await.incident()).or_insert(0) += 1;
        }
        if number % 3 == 0 {
            world.delivered_to(&session_id, event.history[0]).await;
        }
    }
    let mut alice = User {
        contact,
        session_id,
        tab,
    };
    let metrics = metrics(&admin).await;
    let again: i32 = seen.values().sum::<i32>() - 10;
    assert!(f64::from(again) <= metrics[RETURNED], "{seen:?}");
    assert!(metrics[BY_TIME] >= 1.0, "{metrics:?}");
    assert!(written.iter().all(|incident| seen.contains_key(incident)));
    if metrics[RETURNED] == 0.0 {
        world.nothing_else(&mut [&mut alice]).await;
    }
}

/// A laptop that changes its network again and again: no proxy notices that its data reaches nobody.
#[tokio::test]
async fn what_a_vanished_client_was_sent_comes_when_it_is_back_from_elsewhere() {
    let world = World::new("roaming").await;
    let (contact, session_id) = world.signed_in("alice").await;
    let mut vanished = Vec::new();
    for round in 0..3 {
        let client = format!("192.0.2.{round}");
        vanished.push(world.stream_from(&session_id, &client).await);
        // Nobody reads it.
        let missed = world.incident(contact, "missed").await;
        let mut back = world.stream_from(&session_id, "198.51.100.7").await;
        assert_eq!(back.event().await.incident(), missed.incident);
        drop(back);
        let site = Site::daemon(&world.daemon.address, AGENT);
        let mut alice = User {
            contact,
            session_id: session_id.clone(),
            tab: EventSource::resume(&site, &session_id, &missed.history[0].to_string()).await,
        };
        let fence = world.nothing_else(&mut [&mut alice]).await;
        world.delivered_to(&session_id, fence.history[0]).await;
    }
}

#[tokio::test]
async fn a_return_from_elsewhere_is_no_receipt_however_punctual() {
    let world = World::new("elsewhere").await;
    let (contact, session_id) = world.signed_in("alice").await;
    let mut stream = world.stream_from(&session_id, "192.0.2.1").await;
    let written = world.incident(contact, "o").await;
    assert_eq!(stream.event().await.incident(), written.incident);
    let mut end = stream.block().await.expect("an end");
    while end.retry.is_none() {
        end = stream.block().await.expect("an end");
    }
    let retry = end.retry.expect("a time after which to come back");
    assert!((100..=400).contains(&retry), "{end:?}");
    assert!(stream.block().await.is_none(), "a clean end");
    // At once, so that it cannot be too late for a return that knows the time.
    let mut moved = world.stream_from(&session_id, "192.0.2.2").await;
    assert_eq!(moved.event().await.incident(), written.incident);
}

#[tokio::test]
async fn a_third_stream_takes_the_place_of_the_oldest_once_and_is_postponed_after_that() {
    let (world, admin) = monitored(Cluster::shared(), "third").await;
    let (contact, session_id) = world.signed_in("alice").await;
    // Dead ones free their places, because each new one makes the daemon end them.
    for _ in 0..5 {
        world.stream(&session_id).await;
    }
    // These reconnect, and take turns.
    let mut tabs = Vec::new();
    for _ in 0..3 {
        let site = Site::daemon(&world.daemon.address, AGENT);
        tabs.push(EventSource::open_at_last(&site, &session_id).await);
    }
    let third = "icinga_desktop_postponed_total{reason=\"third_stream\"}";
    crate::common::wait::eventually(async || match metrics(&admin).await[third] {
        0.0 => Err("no browser was asked to come back"),
        _ => Ok(()),
    })
    .await;
    wait_for_metrics(&admin, &[("streams", 2.0)]).await;
    world.incident(contact, "o").await;
    wait_for_metrics(&admin, &[("events_total{outcome=\"delivered\"}", 1.0)]).await;
}

#[tokio::test]
async fn what_was_acknowledged_is_not_sent_again_after_a_kill() {
    let mut world = World::new("acknowledged").await;
    let mut alice = world.user("alice").await;
    let fence = world.nothing_else(&mut [&mut alice]).await;
    world
        .delivered_to(&alice.session_id, fence.history[0])
        .await;
    world.daemon.signal("KILL");
    world.daemon.wait();
    world.daemon = Daemon::start(&resource(&world.database, &world.role));
    alice.tab = world.open(&alice.session_id).await;
    world.nothing_else(&mut [&mut alice]).await;
}

/// A client that reads and never returns as asked is not sent the same event forever.
#[tokio::test]
async fn an_event_without_a_receipt_is_written_five_times() {
    let (world, admin) = monitored(Cluster::shared(), "unacknowledged").await;
    let (contact, session_id) = world.signed_in("alice").await;
    let mut stream = world.stream_from(&session_id, "192.0.2.0").await;
    let written = world.incident(contact, "o").await;
    for number in 1..=5 {
        assert_eq!(stream.event().await.incident(), written.incident);
        while stream.block().await.is_some() {}
        // From another address each time, which is never a receipt.
        stream = world
            .stream_from(&session_id, &format!("192.0.2.{number}"))
            .await;
    }
    wait_for_metrics(&admin, &[("events_total{outcome=\"unacknowledged\"}", 1.0)]).await;
}

/// Of a browser that just connected, the daemon does not know how late it returns. Its other tabs connect at about the same time,
/// and would acknowledge what the first one was sent, although that may have vanished without reading it.
#[tokio::test]
async fn the_first_stream_does_not_end_while_other_tabs_may_connect() {
    let world = World::new("first_end").await;
    let (contact, session_id) = world.signed_in("alice").await;
    let begun = Instant::now();
    let mut first = world.stream(&session_id).await;
    let written = world.incident(contact, "first").await;
    assert_eq!(first.event().await.incident(), written.incident);
    while first.block().await.is_some() {}
    assert!(begun.elapsed() >= Duration::from_secs(2));
}

/// A tab returned too late, so its event was also written to another tab's stream. That tab is alive, and has read more since.
#[tokio::test]
async fn a_tab_that_is_late_costs_another_tab_nothing() {
    let world = World::new("late").await;
    let (contact, session_id) = world.signed_in("alice").await;
    let mut late = world.stream(&session_id).await;
    let first = world.incident(contact, "first").await;
    assert_eq!(late.event().await.incident(), first.incident);
    while late.block().await.is_some() {}
    let site = Site::daemon(&world.daemon.address, AGENT);
    // It sends an id, so that it is not taken for the one that is awaited.
    let mut other = EventSource::resume(&site, &session_id, "m0000000000000000").await;
    assert_eq!(other.event().await.incident(), first.incident);
    let second = world.incident(contact, "second").await;
    assert_eq!(other.event().await.incident(), second.incident);
    let first_row = first.history[0].to_string();
    let mut late = EventSource::resume(&site, &session_id, &first_row).await;
    world.delivered_to(&session_id, second.history[0]).await;
    let last = world.incident(contact, "last").await;
    let shown = tokio::select! {
        event = late.event() => event,
        event = other.event() => event,
    };
    assert_eq!(shown.incident(), last.incident, "{shown:?}");
}

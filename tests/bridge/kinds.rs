//! `[daemon] notify`: which notifications become events, live and replayed.

use crate::common::eventsource::EventSource;
use crate::common::icinga::{Event, Written};
use crate::common::world::World;

/// Notifies a contact about an incident: of a change of its severity, or for `None` of something else, for example an escalation
/// by time or an acknowledgement.
async fn notify(world: &World, incident: i64, contact: i64, severity: Option<&str>) -> Written {
    let event = Event {
        incident: Some(incident),
        severity,
        notified: &[(contact, 1, "pending"), (contact, 2, "pending")],
        ..Event::default()
    };
    world.icinga.event(event).await
}

/// The ids of the next events of a stream.
async fn next(tab: &mut EventSource, count: usize) -> Vec<i64> {
    let mut ids = Vec::new();
    for _ in 0..count {
        let event = tab.event().await;
        ids.push(event.id.expect("an id").parse().expect("a number"));
    }
    ids
}

async fn severity_only(hint: &str) -> World {
    let mut world = World::new(hint).await;
    world.daemon = world.another_daemon("host = 127.0.0.1\nport = 0\nnotify = severity");
    world
}

#[tokio::test]
async fn severity_shows_openings_changes_and_a_contacts_first_notification() {
    let world = severity_only("kinds").await;
    let (mut alice, mut bob) = (world.user("alice").await, world.user("bob").await);
    let opened = world.incident(alice.contact, "db1!disk").await;
    let incident = opened.incident;
    // Nothing has changed, and alice knows the incident; bob does not.
    notify(&world, incident, alice.contact, None).await;
    let first = notify(&world, incident, bob.contact, None).await;
    notify(&world, incident, bob.contact, None).await;
    let changed = notify(&world, incident, alice.contact, Some("warning")).await;
    assert_eq!(
        next(&mut alice.tab, 2).await,
        [opened.history[0], changed.history[0]]
    );
    assert_eq!(next(&mut bob.tab, 1).await, [first.history[0]]);
    world.nothing_else(&mut [&mut alice, &mut bob]).await;
}

#[tokio::test]
async fn a_replay_shows_the_same_kinds_also_when_channels_have_answered() {
    let world = severity_only("kinds_replay").await;
    let mut alice = world.user("alice").await;
    let known = world.incident(alice.contact, "known").await;
    next(&mut alice.tab, 1).await;
    world.delivered(known.history[0]).await;
    drop(alice.tab);
    world.daemon.wait_for_log("client left");

    let acknowledged = notify(&world, known.incident, alice.contact, None).await;
    let opened = world.incident(alice.contact, "opened").await;
    for id in acknowledged.history.iter().chain(&opened.history) {
        world.icinga.answered(*id, "sent").await;
    }
    alice.tab = world.open(&alice.session_id).await;
    assert_eq!(next(&mut alice.tab, 1).await, [opened.history[0]]);
    world.nothing_else(&mut [&mut alice]).await;
}

#[tokio::test]
async fn by_default_every_notification_is_shown() {
    let world = World::new("kinds_default").await;
    let mut alice = world.user("alice").await;
    let opened = world.incident(alice.contact, "db1!disk").await;
    let acknowledged = notify(&world, opened.incident, alice.contact, None).await;
    let expected = [opened.history[0], acknowledged.history[0]];
    assert_eq!(next(&mut alice.tab, 2).await, expected);
    world.nothing_else(&mut [&mut alice]).await;
}

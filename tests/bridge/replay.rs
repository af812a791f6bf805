//! A browser receives what it missed when it reconnects, once: after a reload, a restart, a kill, and on another bridge.

use crate::common::apache::Apache;
use crate::common::daemon::{ConfigDir, Daemon};
use crate::common::eventsource::{EventSource, Site};
use crate::common::icinga::{Event, Icinga, Shape, Written};
use crate::common::postgres::Cluster;
use crate::common::sse::{AGENT, Answer};
use crate::common::world::{User, World, resource};

const PENDING: &str = "pending";

impl World {
    /// Notifies a contact of a change of a known incident.
    pub(super) async fn change(&self, contact: i64, incident: i64, severity: &str) -> Written {
        self.icinga
            .event(Event {
                incident: Some(incident),
                severity: Some(severity),
                notified: &[(contact, 1, PENDING)],
                ..Event::default()
            })
            .await
    }

    /// Closes a user's stream once nothing is on its way to it, and waits until the daemon has noticed.
    pub(super) async fn leave(&self, user: User) -> (i64, String) {
        let User {
            contact,
            session_id,
            mut tab,
        } = user;
        let fence = self.incident(contact, "before leaving").await;
        while tab.event().await.incident() != fence.incident {}
        self.delivered_to(&session_id, fence.history[0]).await;
        let left = self.daemon.log().matches("client left").count();
        drop(tab);
        self.daemon.wait_for_nth_log("client left", left + 1);
        (contact, session_id)
    }

    /// Opens the stream of a browser that was connected before.
    pub(super) async fn come_back(&self, contact: i64, session_id: String) -> User {
        let tab = self.open(&session_id).await;
        User {
            contact,
            session_id,
            tab,
        }
    }
}

#[tokio::test]
async fn a_reload_gets_the_newest_of_each_missed_incident_oldest_first() {
    let world = World::new("reload").await;
    let alice = world.user("alice").await;
    let (alice, session_id) = world.leave(alice).await;
    let flapping = world.incident(alice, "flapping").await.incident;
    let other = world.incident(alice, "other").await.incident;
    for severity in ["ok", "crit", "warning"] {
        world.change(alice, flapping, severity).await;
    }
    let mut alice = world.come_back(alice, session_id).await;
    assert_eq!(alice.tab.event().await.incident(), other);
    let event = alice.tab.event().await;
    assert_eq!(event.incident(), flapping);
    assert_eq!(event.json()["payload"]["severity"], "warning");
    world.nothing_else(&mut [&mut alice]).await;

    // And once more: what was replayed is not replayed again.
    let (contact, session_id) = world.leave(alice).await;
    let mut alice = world.come_back(contact, session_id).await;
    world.nothing_else(&mut [&mut alice]).await;
}

#[tokio::test]
async fn the_first_stream_of_a_browser_starts_now() {
    let world = World::new("first").await;
    let contact = world.icinga.contact("alice").await;
    world.incident(contact, "long ago").await;
    let mut alice = world.sign_in(contact, "alice").await;
    world.nothing_else(&mut [&mut alice]).await;
}

#[tokio::test]
async fn a_restart_and_a_kill_lose_nothing_and_double_nothing() {
    let mut world = World::new("restart").await;
    let mut alice = world.user("alice").await;
    for signal in ["TERM", "KILL"] {
        let before = world.incident(alice.contact, "before").await;
        assert_eq!(alice.tab.event().await.incident(), before.incident);
        world.delivered(before.history[0]).await;
        world.daemon.signal(signal);
        world.daemon.wait();
        alice.tab.end().await;
        let missed = world.incident(alice.contact, "missed").await;
        world.daemon = Daemon::start(&resource(&world.database, &world.role));
        alice.tab = world.open(&alice.session_id).await;
        assert_eq!(
            alice.tab.event().await.incident(),
            missed.incident,
            "{signal}"
        );
        world.nothing_else(&mut [&mut alice]).await;
    }
}

#[tokio::test]
async fn an_event_on_its_way_at_a_restart_is_not_sent_again() {
    let mut world = World::new("on_its_way").await;
    let mut alice = world.user("alice").await;
    let last = world.incident(alice.contact, "last").await;
    assert_eq!(alice.tab.event().await.incident(), last.incident);
    // At once: it is not delivered yet.
    world.daemon.signal("TERM");
    alice.tab.end().await;
    assert_eq!(world.daemon.wait().code(), Some(0));
    world.daemon = Daemon::start(&resource(&world.database, &world.role));
    alice.tab = world.open(&alice.session_id).await;
    world.nothing_else(&mut [&mut alice]).await;
}

#[tokio::test]
async fn another_bridge_knows_what_was_delivered() {
    let world = World::new("another").await;
    let other = Daemon::start(&resource(&world.database, &world.role));
    let alice = world.user("alice").await;
    let (contact, session_id) = world.leave(alice).await;
    let missed = world.incident(contact, "missed").await;
    let site = Site::daemon(&other.address, AGENT);
    let mut tab = EventSource::open(&site, &session_id).await;
    assert_eq!(tab.event().await.incident(), missed.incident);
    world.delivered(missed.history[0]).await;
    drop(tab);
    other.wait_for_log("client left");
    let mut alice = world.come_back(contact, session_id).await;
    world.nothing_else(&mut [&mut alice]).await;
}

#[tokio::test]
async fn what_is_beyond_the_bounds_is_summed_up() {
    let world = World::new("bounds").await;
    let alice = world.user("alice").await;
    let (contact, session_id) = world.leave(alice).await;
    let mut incidents = Vec::new();
    for number in 0..10 {
        incidents.push(
            world
                .incident(contact, &format!("o{number}"))
                .await
                .incident,
        );
    }
    let mut alice = world.come_back(contact, session_id).await;
    let summary = alice.tab.event().await;
    assert_eq!(summary.incident(), incidents[4]);
    assert_eq!(
        summary.json()["payload"]["title"],
        "5 more incidents changed while you were away"
    );
    let message = summary.json()["payload"]["message"].to_string();
    assert!(
        message.starts_with("\"5 more incidents changed since ") && message.ends_with(" UTC\""),
        "{message}"
    );
    for incident in &incidents[5..] {
        assert_eq!(alice.tab.event().await.incident(), *incident);
    }
    world.nothing_else(&mut [&mut alice]).await;

    // By age, too.
    let (contact, session_id) = world.leave(alice).await;
    let old = world.incident(contact, "old").await;
    let young = world.incident(contact, "young").await;
    world
        .icinga
        .by_hand(&format!(
            "UPDATE incident_history SET time = time - 3601000 WHERE incident_id = {}",
            old.incident
        ))
        .await;
    let mut alice = world.come_back(contact, session_id).await;
    let summary = alice.tab.event().await;
    assert_eq!(summary.incident(), old.incident);
    assert_eq!(
        summary.json()["payload"]["title"],
        "1 more incident changed while you were away"
    );
    assert_eq!(alice.tab.event().await.incident(), young.incident);
    world.nothing_else(&mut [&mut alice]).await;
    // None of it is sent again.
    let (contact, session_id) = world.leave(alice).await;
    let mut alice = world.come_back(contact, session_id).await;
    world.nothing_else(&mut [&mut alice]).await;
}

#[tokio::test]
async fn the_bounds_can_be_configured() {
    let mut world = World::new("configured").await;
    let config = ConfigDir::new(
        "host = 127.0.0.1\nport = 0\nreplay_incidents = 1",
        &resource(&world.database, &world.role),
    );
    world.daemon = Daemon::launch(config);
    world.daemon.wait_for_log("ready: ");
    let alice = world.user("alice").await;
    let (contact, session_id) = world.leave(alice).await;
    world.incident(contact, "a").await;
    world.incident(contact, "b").await;
    let newest = world.incident(contact, "c").await;
    let mut alice = world.come_back(contact, session_id).await;
    let title = alice.tab.event().await.json()["payload"]["title"].clone();
    assert_eq!(title, "2 more incidents changed while you were away");
    assert_eq!(alice.tab.event().await.incident(), newest.incident);
    world.nothing_else(&mut [&mut alice]).await;
}

#[tokio::test]
async fn a_lower_id_that_commits_after_a_higher_one_is_not_skipped() {
    let world = World::new("lower").await;
    let alice = world.user("alice").await;
    let slow = Icinga::new(world.database.connect().await, Shape::V1_0);
    slow.by_hand("BEGIN").await;
    let event = Event {
        object: "slow",
        severity: Some("crit"),
        notified: &[(alice.contact, 1, PENDING)],
        ..Event::default()
    };
    let lower = slow.write(event).await;
    // Delivers a higher id before it closes.
    let (contact, session_id) = world.leave(alice).await;
    slow.by_hand("COMMIT").await;
    let mut alice = world.come_back(contact, session_id).await;
    assert_eq!(alice.tab.event().await.incident(), lower.incident);
    world.nothing_else(&mut [&mut alice]).await;
}

#[tokio::test]
async fn what_a_gap_swallowed_reaches_open_streams_and_nothing_comes_twice() {
    let cluster = Cluster::private();
    let world = World::on(&cluster, "gap", Shape::V1_0).await;
    let (mut alice, mut bob) = (world.user("alice").await, world.user("bob").await);
    let icinga = &world.icinga;
    // Two channels: the second row must not look as if it was missed.
    let notified = [(alice.contact, 1, PENDING), (alice.contact, 2, PENDING)];
    let before = icinga
        .event(Event {
            object: "before",
            severity: Some("crit"),
            notified: &notified,
            ..Event::default()
        })
        .await;
    assert_eq!(alice.tab.event().await.incident(), before.incident);
    // The daemon cannot reconnect before these are committed: its role may not log in.
    let role = &world.role;
    world
        .icinga
        .by_hand(&format!("ALTER ROLE \"{role}\" NOLOGIN"))
        .await;
    world
        .icinga
        .by_hand(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'icinga-desktop-bridge%'",
        )
        .await;
    world.daemon.wait_for_log("not listening");
    let flapping = world.incident(alice.contact, "flapping").await.incident;
    world.change(alice.contact, flapping, "ok").await;
    let other = world.incident(bob.contact, "other").await.incident;
    world
        .icinga
        .by_hand(&format!("ALTER ROLE \"{role}\" LOGIN"))
        .await;
    // Not only the newest change, as for a browser that was disconnected: these streams were open.
    for severity in ["crit", "ok"] {
        let event = alice.tab.event().await;
        assert_eq!(event.incident(), flapping);
        assert_eq!(event.json()["payload"]["severity"], severity);
    }
    assert_eq!(bob.tab.event().await.incident(), other);
    world.nothing_else(&mut [&mut alice, &mut bob]).await;
}

#[tokio::test]
async fn a_browser_that_did_not_read_gets_everything_when_it_does() {
    let world = World::new("behind").await;
    let mut alice = world.user("alice").await;
    // The newest, which therefore receives events; nobody reads it.
    let stuck = world.stream(&alice.session_id).await;
    // Far more than the sockets and the browser's queue hold.
    let count = 3000;
    world
        .icinga
        .by_hand(&format!(
            "INSERT INTO object (id, source_id, name)
               SELECT sha256(n::text::bytea), 1, 'object ' || n FROM generate_series(1, {count}) n;
             INSERT INTO incident (object_id, started_at, severity)
               SELECT sha256(n::text::bytea), 0, 'crit' FROM generate_series(1, {count}) n;
             INSERT INTO incident_history (incident_id, contact_id, channel_id, time, message, type, notification_state)
               SELECT i.id, {}, 1, 0, repeat('x', 4000), 'notified', 'pending' FROM incident i ORDER BY i.id",
            alice.contact
        ))
        .await;
    world.daemon.wait_for_log("behind");
    drop(stuck);
    let mut seen = std::collections::HashSet::new();
    while seen.len() < count {
        let incident = alice.tab.event().await.incident();
        assert!(seen.insert(incident), "incident {incident} came twice");
    }
    world.nothing_else(&mut [&mut alice]).await;
}

#[tokio::test]
async fn a_role_without_the_right_to_store_positions_still_serves_and_says_so() {
    let mut world = World::new("unstored").await;
    world
        .icinga
        .by_hand(&format!(
            "REVOKE ALL ON icinga_desktop.browser_position FROM \"{}\"",
            world.role
        ))
        .await;
    world.daemon = Daemon::start(&resource(&world.database, &world.role));
    world
        .daemon
        .wait_for_log("no right to write icinga_desktop.browser_position");
    let mut alice = world.user("alice").await;
    world.nothing_else(&mut [&mut alice]).await;
    // It is ended soon after the event, and the tab does not return.
    alice.tab.end().await;
    let session_id = alice.session_id;
    drop(alice.tab);
    let missed = world.incident(alice.contact, "missed").await;
    let mut alice = world.come_back(alice.contact, session_id).await;
    // The last one may be sent again: it was not known to have arrived.
    while alice.tab.event().await.incident() != missed.incident {}
}

#[tokio::test]
async fn behind_apache_an_event_to_a_browser_that_has_left_waits_for_its_next_stream() {
    let world = World::new("apache").await;
    let apache = Apache::start(&world.daemon.address);
    let [site, _] = apache.sites();
    let contact = world.icinga.contact("alice").await;
    let session_id = world.icinga.sign_in("alice", AGENT).await;
    for _ in 0..3 {
        // Two that leave, which Apache does not report: they neither swallow an event nor keep the next tab out.
        for _ in 0..2 {
            let gone = Answer::open(&apache.address, &session_id, AGENT).await;
            drop(gone);
        }
        let missed = world.incident(contact, "missed").await;
        let mut alice = User {
            contact,
            session_id: session_id.clone(),
            tab: EventSource::open_at_last(&site, &session_id).await,
        };
        assert_eq!(alice.tab.event().await.incident(), missed.incident);
        let fence = world.nothing_else(&mut [&mut alice]).await;
        world.delivered(fence.history[0]).await;
    }
}

/// What a browser missed can never be read; as with a policy that takes forever.
#[tokio::test]
async fn what_cannot_be_read_is_summed_up_and_blocks_nobody() {
    let world = World::new("unreadable").await;
    let (alice, mut bob) = (world.user("alice").await, world.user("bob").await);
    let (contact, session_id) = world.leave(alice).await;
    let missed = world.incident(contact, "missed").await;
    let newest = world.incident(contact, "newest").await;
    world.nothing_else(&mut [&mut bob]).await;
    let (role, id) = (&world.role, missed.history[0]);
    world
        .icinga
        .by_hand(&format!(
            "ALTER TABLE incident_history ENABLE ROW LEVEL SECURITY;
             CREATE POLICY slow ON incident_history FOR SELECT TO \"{role}\"
               USING (CASE WHEN id = {id} THEN pg_sleep(60) IS NULL ELSE true END)"
        ))
        .await;
    let mut alice = world.come_back(contact, session_id).await;
    let summary = alice.tab.event().await.json();
    let title = &summary["payload"]["title"];
    assert_eq!(title, "Incidents changed while you were away", "{summary}");
    assert_eq!(summary["payload"]["incident_id"], newest.incident);
    let warning = "failed 3 times, a summary is sent instead";
    world.daemon.wait_for_log(warning);
    assert_eq!(world.daemon.log().matches(warning).count(), 1);
    world.nothing_else(&mut [&mut alice, &mut bob]).await;
    // It is not queried again.
    let (contact, session_id) = world.leave(alice).await;
    let mut alice = world.come_back(contact, session_id).await;
    world.nothing_else(&mut [&mut alice]).await;
}

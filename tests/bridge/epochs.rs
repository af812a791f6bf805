//! Ids that restart: what was delivered with old ids hides no new rows, and nothing is sent twice.

use crate::common::eventsource::{EventSource, Site};
use crate::common::icinga::{Event, Written};
use crate::common::sse::AGENT;
use crate::common::world::{User, World};

const PENDING: &str = "pending";

/// How ids restart. A migration of Icinga Notifications does the first.
const AGAIN: [&str; 2] = [
    "TRUNCATE object RESTART IDENTITY CASCADE",
    "DELETE FROM incident_history; ALTER SEQUENCE incident_history_id_seq RESTART",
];

/// The daemon's log line when it has noticed.
const NOTICED: &str = "its ids have restarted";

/// `[daemon]` of a restarted daemon.
const ANYWHERE: &str = "host = 127.0.0.1\nport = 0";

impl World {
    /// A contact that was sent rows with ids far above those that follow.
    async fn user_far_above(&self, name: &str) -> User {
        let mut user = self.user(name).await;
        self.icinga
            .by_hand("SELECT setval('incident_history_id_seq', 1000000)")
            .await;
        for _ in 0..3 {
            let fence = self.nothing_else(&mut [&mut user]).await;
            assert!(fence.history[0] > 1_000_000, "{fence:?}");
        }
        user
    }

    /// Notifies a contact of a new incident by a single row, the first one after ids have restarted.
    async fn first_row(&self, contact: i64) -> Written {
        let first = first_row(contact);
        self.icinga
            .by_hand(&format!("BEGIN; {first}; COMMIT"))
            .await;
        self.newest().await
    }

    /// The newest rows.
    async fn newest(&self) -> Written {
        let session = self.database.connect().await;
        let newest = |table: &str| format!("SELECT max(id)::text FROM {table}");
        let id = async |table| session.text(&newest(table)).await.parse().expect("an id");
        Written {
            incident: id("incident").await,
            history: vec![id("incident_history").await],
        }
    }

    /// Stops the daemon.
    fn stop(&mut self) {
        self.daemon.signal("TERM");
        self.daemon.wait();
    }

    /// Starts another one.
    fn start(&mut self) {
        self.daemon = self.another_daemon(ANYWHERE);
    }
}

fn first_row(contact: i64) -> String {
    format!(
        "INSERT INTO object (id, source_id, name) VALUES (sha256('first'), 1, 'first') ON CONFLICT DO NOTHING;
         INSERT INTO incident (object_id, started_at, severity) VALUES (sha256('first'), 0, 'crit');
         INSERT INTO incident_history (incident_id, contact_id, channel_id, time, type, notification_state)
           SELECT max(id), {contact}, 1, (extract(epoch FROM clock_timestamp()) * 1000)::bigint, 'notified', 'pending'
           FROM incident"
    )
}

/// The next event on a stream is the one of these rows.
async fn expect(user: &mut User, written: &Written) {
    let event = user.tab.event().await;
    let ids = (event.id.as_deref(), event.incident());
    let expected = written.history[0].to_string();
    assert_eq!(ids, (Some(expected.as_str()), written.incident));
}

/// A browser that disconnects and reconnects receives what it missed meanwhile, and nothing else.
async fn one_missed(world: &World, user: User) {
    let (contact, session_id) = world.leave(user).await;
    let missed = world.incident(contact, "missed").await;
    let mut user = world.come_back(contact, session_id).await;
    expect(&mut user, &missed).await;
    world.nothing_else(&mut [&mut user]).await;
}

#[tokio::test]
async fn connected_browsers_get_each_event_once_after_ids_have_started_again() {
    for again in AGAIN {
        let world = World::new("connected_again").await;
        let mut alice = world.user_far_above("alice").await;
        world.icinga.by_hand(again).await;
        let first = world.first_row(alice.contact).await;
        assert_eq!(first.history[0], 1, "{again}");
        expect(&mut alice, &first).await;
        for _ in 0..3 {
            let fence = world.nothing_else(&mut [&mut alice]).await;
            assert!(fence.history[0] < 1000);
        }
        world.daemon.wait_for_log(NOTICED);
        one_missed(&world, alice).await;
    }
}

#[tokio::test]
async fn ids_do_not_restart_when_their_sequence_gets_another_name() {
    let world = World::new("renamed").await;
    let mut alice = world.user_far_above("alice").await;
    let rename = "ALTER SEQUENCE incident_history_id_seq RENAME TO \"it's a \"\"name\"\"\"";
    world.icinga.by_hand(rename).await;
    for _ in 0..3 {
        world.nothing_else(&mut [&mut alice]).await;
    }
    one_missed(&world, alice).await;
    assert!(!world.daemon.log().contains(NOTICED));
}

/// A look queries the epoch, then waits for TRUNCATE's locks, and then reads rows with other ids.
#[tokio::test]
async fn what_a_look_finds_behind_a_truncate_comes_once() {
    let world = World::new("behind_truncate").await;
    // While it runs, it may add ids below those that the user was sent; after its end, they are read.
    let holder = world.database.connect().await;
    holder.run("BEGIN; SELECT pg_current_xact_id()").await;
    let mut alice = world.user_far_above("alice").await;
    let migration = world.database.connect().await;
    migration.run(&format!("BEGIN; {}", AGAIN[0])).await;
    holder.run("ROLLBACK").await;
    world.icinga.by_hand("NOTIFY icinga_desktop_bell").await;
    let waits = "EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock' \
                 AND query LIKE '%FROM incident h %')";
    world.database.eventually(waits).await;
    let first = first_row(alice.contact);
    migration.run(&format!("{first}; COMMIT")).await;
    expect(&mut alice, &world.newest().await).await;
    world.nothing_else(&mut [&mut alice]).await;
    world.daemon.wait_for_log(NOTICED);
}

#[tokio::test]
async fn browsers_that_were_away_get_what_was_committed_after_ids_have_started_again() {
    for again in AGAIN {
        for stopped in [false, true] {
            let mut world = World::new("away_again").await;
            let alice = world.user_far_above("alice").await;
            let (contact, session_id) = world.leave(alice).await;
            if stopped {
                world.stop();
            }
            world.icinga.by_hand(again).await;
            let first = world.first_row(contact).await;
            let second = world.incident(contact, "second").await;
            if stopped {
                world.start();
            } else {
                world.daemon.wait_for_log(NOTICED);
            }
            let mut alice = world.come_back(contact, session_id).await;
            expect(&mut alice, &first).await;
            expect(&mut alice, &second).await;
            world.nothing_else(&mut [&mut alice]).await;
            // Nothing of it is sent again, and later events arrive.
            one_missed(&world, alice).await;
        }
    }
}

#[tokio::test]
async fn browsers_that_were_connected_when_the_daemon_stopped_get_what_followed_once() {
    for again in AGAIN {
        let mut world = World::new("stopped_again").await;
        let mut alice = world.user_far_above("alice").await;
        world.stop();
        alice.tab.end().await;
        world.icinga.by_hand(again).await;
        let first = world.first_row(alice.contact).await;
        world.start();
        alice.tab = world.open(&alice.session_id).await;
        expect(&mut alice, &first).await;
        world.nothing_else(&mut [&mut alice]).await;
        // Once more: positions now have the new ids.
        let fence = world.nothing_else(&mut [&mut alice]).await;
        world.delivered(fence.history[0]).await;
        world.stop();
        alice.tab.end().await;
        let missed = world.incident(alice.contact, "missed").await;
        world.start();
        alice.tab = world.open(&alice.session_id).await;
        expect(&mut alice, &missed).await;
        world.nothing_else(&mut [&mut alice]).await;
    }
}

#[tokio::test]
async fn a_new_sign_in_after_ids_have_started_again_gets_new_events_only() {
    for again in AGAIN {
        for stopped in [false, true] {
            let mut world = World::new("sign_in_again").await;
            let alice = world.user_far_above("alice").await;
            let bob = world.icinga.contact("bob").await;
            if stopped {
                world.stop();
            }
            world.icinga.by_hand(again).await;
            world.first_row(bob).await;
            if stopped {
                world.start();
            } else {
                world.daemon.wait_for_log(NOTICED);
            }
            let mut bob = world.sign_in(bob, "bob").await;
            world.nothing_else(&mut [&mut bob]).await;
            // And another sign-in of a contact that was sent higher ids.
            world.icinga.sign_out(&alice.session_id).await;
            let mut alice = world.sign_in(alice.contact, "alice").await;
            world.nothing_else(&mut [&mut alice, &mut bob]).await;
        }
    }
}

#[tokio::test]
async fn last_event_ids_from_before_ids_have_started_again_hide_nothing() {
    // The id that a new row also has, and one that is far above.
    for last_event_id in ["1", "4611686018427403856"] {
        for stopped in [false, true] {
            let mut world = World::new("last_event_id_again").await;
            let mut alice = world.user("alice").await;
            let before = world.first_row(alice.contact).await;
            expect(&mut alice, &before).await;
            let (contact, session_id) = world.leave(alice).await;
            if stopped {
                world.stop();
            }
            world.icinga.by_hand(AGAIN[0]).await;
            let first = world.first_row(contact).await;
            assert_eq!(
                (&before.history[..], &first.history[..]),
                (&[1][..], &[1][..])
            );
            let second = world.incident(contact, "second").await;
            if stopped {
                world.start();
            } else {
                world.daemon.wait_for_log(NOTICED);
            }
            let site = Site::daemon(&world.daemon.address, AGENT);
            let tab = EventSource::resume(&site, &session_id, last_event_id).await;
            let mut alice = User {
                contact,
                session_id,
                tab,
            };
            expect(&mut alice, &first).await;
            expect(&mut alice, &second).await;
            world.nothing_else(&mut [&mut alice]).await;
        }
    }
}

#[tokio::test]
async fn severities_of_before_are_not_those_of_incidents_with_the_same_ids() {
    let world = World::new("severities_again").await;
    let mut alice = world.user("alice").await;
    let icinga = &world.icinga;
    // A lower id that may still be committed keeps the daemon from settling those above it.
    let other = world.database.connect().await;
    other.run("BEGIN; SELECT pg_current_xact_id()").await;
    icinga
        .by_hand("BEGIN; SELECT nextval('incident_history_id_seq'); ROLLBACK")
        .await;
    let before = world.incident(alice.contact, "before").await;
    let changed = world.change(alice.contact, before.incident, "ok").await;
    expect(&mut alice, &before).await;
    expect(&mut alice, &changed).await;
    icinga.by_hand(AGAIN[0]).await;
    world.daemon.wait_for_log(NOTICED);
    let written = icinga
        .event(Event {
            object: "after",
            severity: Some("warning"),
            notified: &[(alice.contact, 1, PENDING)],
            ..Event::default()
        })
        .await;
    assert_eq!(written.incident, before.incident);
    let event = alice.tab.event().await;
    assert_eq!(event.incident(), written.incident);
    assert_eq!(event.json()["payload"]["severity"], "warning");
    other.run("ROLLBACK").await;
}

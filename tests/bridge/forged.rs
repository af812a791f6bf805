//! Notifications that no trigger sent: any role that can connect to the database can send them. They show nothing, hide nothing,
//! and change no position.

use crate::common::icinga::Event;
use crate::common::postgres::Session;
use crate::common::world::World;

const CHANNELS: [&str; 5] = [
    "icinga_desktop_bell",
    "icinga_desktop_incident",
    "icinga_desktop_session",
    "icinga_desktop_pulse",
    "icinga_desktop_ask",
];

/// An id that no sequence has reached.
const FAR: i64 = 4_611_686_018_427_403_856;

/// A role that can connect, and nothing else.
async fn stranger(world: &World) -> Session {
    let role = world.database.role("stranger");
    world.database.connect_as(&role).await
}

/// Sends all possible payloads about these incidents and this contact, in one transaction.
async fn forge(stranger: &Session, incidents: &[i64], history_id: i64, contact: i64) {
    let mut payloads = vec![
        String::new(),
        "truncated".to_owned(),
        "hunter2".to_owned(),
        "{\"tx\":\"hunter2\"}".to_owned(),
        format!("{{\"tx\":\"1\",\"hunter2\":\"{}\"}}", "x".repeat(7900)),
        format!("{{\"browser\":\"{}\"}}", "00".repeat(32)),
        format!("{{\"token\":\"{}\"}}", "00".repeat(32)),
        format!("{{\"contact_id\":{contact}}}"),
        format!("{{\"contact_id\":{FAR}}}"),
    ];
    for incident in incidents.iter().chain(&[-1, 0, 999_999, FAR, i64::MAX]) {
        payloads.push(format!("{{\"incident_id\":{incident}}}"));
        // Payloads of version 2 of the triggers.
        payloads.push(format!(
            r#"{{"tx":"2","incident_id":{incident},"severity":"crit"}}"#
        ));
        for (history, state) in [
            (history_id, "pending"),
            (history_id, "suppressed"),
            (FAR, "pending"),
        ] {
            payloads.push(format!(
                r#"{{"tx":"3","history_id":{history},"incident_id":{incident},"contact_id":{contact},"state":"{state}"}}"#
            ));
        }
    }
    stranger.run("BEGIN").await;
    for channel in CHANNELS {
        for payload in &payloads {
            let notify = format!("SELECT pg_notify('{channel}', $${payload}$$)");
            stranger.run(&notify).await;
        }
    }
    stranger
        .run(&format!(
            r#"SELECT pg_notify('icinga_desktop_incident', format('{{"incident_id":%s}}', n)),
                 pg_notify('icinga_desktop_incident', format(
                   '{{"tx":"4","history_id":%s,"incident_id":1,"contact_id":{contact},"state":"pending"}}', {FAR} + n))
               FROM generate_series(1, 10000) n;
               COMMIT"#
        ))
        .await;
}

/// Asserts that no position has rows that do not exist.
async fn assert_positions_are_of_rows(world: &World) {
    let session = world.database.connect().await;
    let beyond = "SELECT count(*)::text FROM icinga_desktop.browser_position, (SELECT max(id) FROM incident_history) m (newest)
                  WHERE floor > newest OR newest < ANY (above)";
    assert_eq!(session.text(beyond).await, "0");
}

#[tokio::test]
async fn what_no_trigger_sent_shows_nothing_and_hides_nothing() {
    let mut world = World::new("foreign").await;
    let stranger = stranger(&world).await;
    let (mut alice, mut bob) = (world.user("alice").await, world.user("bob").await);
    let icinga = &world.icinga;
    // One that Icinga notifies a contact of, one that it notifies nobody of, and one that is changed by hand.
    let written = world.incident(alice.contact, "notified").await;
    icinga.answered(written.history[0], "sent").await;
    let silent = icinga.incident("silent", "crit").await;
    let by_hand = icinga.incident("by hand", "ok").await;
    for incident in [written.incident, silent, by_hand] {
        for contact in [alice.contact, bob.contact] {
            icinga
                .incident_contact(incident, contact, "recipient")
                .await;
        }
    }
    icinga
        .by_hand(&format!(
            "UPDATE incident SET severity = 'err' WHERE id = {by_hand}"
        ))
        .await;
    assert_eq!(alice.tab.event().await.incident(), written.incident);
    assert_eq!(alice.tab.event().await.incident(), by_hand);
    assert_eq!(bob.tab.event().await.incident(), by_hand);

    let incidents = [written.incident, silent, by_hand];
    // A moment after all that; then long after it, as far as the daemon knows.
    for restarted in [false, true] {
        if restarted {
            world.daemon.signal("TERM");
            world.daemon.wait();
            world.daemon = world.another_daemon("host = 127.0.0.1\nport = 0");
            for user in [&mut alice, &mut bob] {
                user.tab = world.open(&user.session_id).await;
            }
        }
        forge(&stranger, &incidents, written.history[0], bob.contact).await;
        forge(&stranger, &incidents, FAR, alice.contact).await;
        // Twice: a look publishes rows before incidents.
        world.nothing_else(&mut [&mut alice, &mut bob]).await;
        let fence = world.nothing_else(&mut [&mut alice, &mut bob]).await;
        for history_id in fence.history {
            world.delivered(history_id).await;
        }
        assert_positions_are_of_rows(&world).await;
        let log = world.daemon.log();
        assert!(log.contains("was ignored"), "{log}");
        assert!(!log.contains("hunter2"), "{log}");
    }
}

/// A role that can connect to the database can also guess the number of a transaction.
#[tokio::test]
async fn a_forged_notification_cannot_take_part_in_somebody_elses_transaction() {
    let mut world = World::new("forged").await;
    let mut alice = world.user("alice").await;
    let stranger = stranger(&world).await;
    for state in ["suppressed", "pending"] {
        let incident = world.icinga.incident("forged", "warning").await;
        // Its opening notifies nobody; a contact is notified afterwards.
        world.nothing_else(&mut [&mut alice]).await;
        world.icinga.session().run("BEGIN").await;
        let tx = "SELECT pg_current_xact_id()::text";
        let tx = world.icinga.session().text(tx).await;
        // It is the last one received before the transaction's own.
        stranger
            .run(&format!(
                r#"SELECT pg_notify('icinga_desktop_incident', '{{"tx":"{tx}","history_id":1,"incident_id":{incident},"contact_id":{},"state":"{state}"}}')"#,
                alice.contact
            ))
            .await;
        let written = world
            .icinga
            .write(Event {
                incident: Some(incident),
                severity: Some("crit"),
                notified: &[(alice.contact, 1, "pending")],
                ..Event::default()
            })
            .await;
        world.icinga.session().run("COMMIT").await;
        let event = alice.tab.event().await;
        assert_eq!(event.id, Some(written.history[0].to_string()), "{state}");
    }
    world.nothing_else(&mut [&mut alice]).await;
}

//! Tables that change while the daemon runs: restored from a dump, moved by an upgrade of Icinga Notifications, renamed.

use std::path::PathBuf;

use crate::common::admin::{monitored, wait_for_interval_looks};
use crate::common::icinga::{Event, Icinga, Shape, Written};
use crate::common::postgres::{Cluster, Database};
use crate::common::world::{User, World};

const PENDING: &str = "pending";

/// The daemon's log line when it has noticed.
const LOOKED_AT_AGAIN: &str = "they are examined again";

/// The daemon's log line while incidents that are changed by hand cannot be shown.
const SHOWN_TO_NOBODY: &str = "are not shown until this is fixed";

/// A dump of a database, in a directory that its server's user may write to.
struct Dump<'a> {
    database: &'a Database,
    file: PathBuf,
}

impl<'a> Dump<'a> {
    fn of(database: &'a Database) -> Self {
        let file = database
            .socket_directory()
            .join(format!("{}.dump", database.name()));
        let dump = Self { database, file };
        dump.run("pg_dump", &["--format=custom", "--file"]);
        dump
    }

    /// Restores all of it, or sections of it, over what is there.
    fn restore(&self, options: &[&str]) {
        let mut options = options.to_vec();
        options.extend(["--exit-on-error", "--dbname", self.database.name()]);
        self.run("pg_restore", &options);
    }

    fn run(&self, program: &str, options: &[&str]) {
        let mut command = self.database.server_command(program);
        command
            .env("PGHOST", self.database.socket_directory())
            .env("PGPORT", self.database.port().to_string())
            .env("PGUSER", "postgres")
            .args(options)
            .arg(&self.file);
        if program == "pg_dump" {
            command.arg(self.database.name());
        }
        let output = command.output().expect("it is beside the server");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{program} failed: {errors}");
    }
}

/// The next event on a stream is the one of these rows.
async fn expect(user: &mut User, written: &Written) {
    let event = user.tab.event().await;
    let ids = (event.id.as_deref(), event.incident());
    let expected = written.history[0].to_string();
    assert_eq!(ids, (Some(expected.as_str()), written.incident));
}

/// Changes a severity without Icinga Notifications.
async fn change_by_hand(world: &World, incident: i64, severity: &str) {
    let update = format!("UPDATE incident SET severity = '{severity}' WHERE id = {incident}");
    world.icinga.by_hand(&update).await;
}

/// The next event on a stream is about an incident changed this way.
async fn expect_by_hand(user: &mut User, incident: i64, severity: &str) {
    let event = user.tab.event().await;
    assert_eq!((event.incident(), event.id.clone()), (incident, None));
    assert_eq!(event.json()["payload"]["severity"], severity);
}

#[tokio::test]
async fn after_a_restore_under_the_running_daemon_events_come_once() {
    let world = World::new("restored").await;
    let mut alice = world.user("alice").await;
    let bob = world.user("bob").await;
    for _ in 0..3 {
        world.nothing_else(&mut [&mut alice]).await;
    }
    let (bob, bobs_session) = world.leave(bob).await;
    let missed = world.incident(bob, "missed before the dump").await;
    let dump = Dump::of(&world.database);
    let lost = world.incident(alice.contact, "lost by the restore").await;
    expect(&mut alice, &lost).await;
    dump.restore(&["--clean", "--if-exists"]);
    let written = world.incident(alice.contact, "after it").await;
    assert_eq!(written.history, lost.history);
    expect(&mut alice, &written).await;
    world.nothing_else(&mut [&mut alice]).await;
    // Browsers that were disconnected receive what they missed before and after, and nothing that they had received.
    let also_missed = world.incident(bob, "missed after the restore").await;
    let mut bob = world.come_back(bob, bobs_session).await;
    expect(&mut bob, &missed).await;
    expect(&mut bob, &also_missed).await;
    world.nothing_else(&mut [&mut alice, &mut bob]).await;
}

#[tokio::test]
async fn rows_that_a_restore_brings_back_while_the_daemon_looks_are_not_sent_again() {
    let cluster = Cluster::private();
    let (world, admin) = monitored(&cluster, "in_steps").await;
    let mut alice = world.user("alice").await;
    for _ in 0..3 {
        world.nothing_else(&mut [&mut alice]).await;
    }
    let dump = Dump::of(&world.database);
    // Empty tables that the daemon may read, as they exist for a long time while a big dump is restored.
    world
        .icinga
        .by_hand("DROP SCHEMA public, icinga_desktop CASCADE; CREATE SCHEMA public; GRANT USAGE ON SCHEMA public TO PUBLIC")
        .await;
    dump.restore(&["--section=pre-data"]);
    world.daemon.wait_for_log("its ids have restarted");
    world.daemon.wait_for_log("triggers missing or disabled");
    dump.restore(&["--section=data"]);
    wait_for_interval_looks(&admin, 2.0).await;
    dump.restore(&["--section=post-data"]);
    world.daemon.wait_for_log("all are in place again");
    let written = world.incident(alice.contact, "after it").await;
    expect(&mut alice, &written).await;
    world.nothing_else(&mut [&mut alice]).await;
}

/// Notifies a contact of a new incident with that message.
async fn said(world: &World, contact: i64, message: &str) {
    let event = Event {
        object: message,
        severity: Some("crit"),
        message: Some(message),
        notified: &[(contact, 1, PENDING)],
        ..Event::default()
    };
    world.icinga.event(event).await;
}

/// The message of the next event.
async fn heard(user: &mut User) -> String {
    let message = &user.tab.event().await.json()["payload"]["message"];
    message.as_str().expect("a text").to_owned()
}

#[tokio::test]
async fn where_a_row_has_no_message_that_of_its_event_is_shown() {
    for shape in [Shape::V0_1, Shape::V0_2] {
        let world = World::on(Cluster::shared(), "events", shape).await;
        let mut alice = world.user("alice").await;
        said(&world, alice.contact, "DISK CRITICAL").await;
        assert_eq!(heard(&mut alice).await, "DISK CRITICAL");
        let (contact, session_id) = world.leave(alice).await;
        said(&world, contact, "DISK WARNING").await;
        let mut alice = world.come_back(contact, session_id).await;
        assert_eq!(heard(&mut alice).await, "DISK WARNING");
        // The message of the row comes first.
        world
            .icinga
            .by_hand(
                "INSERT INTO incident_history (incident_id, event_id, contact_id, time, message, type, notification_state)
                 SELECT incident_id, event_id, contact_id, time, 'of the row', type, 'pending' FROM incident_history
                 WHERE type = 'notified' AND event_id IS NOT NULL ORDER BY id DESC LIMIT 1",
            )
            .await;
        assert_eq!(heard(&mut alice).await, "of the row");
    }
}

#[tokio::test]
async fn without_the_right_to_read_events_their_messages_are_missing_until_it_is_granted() {
    let mut world = World::on(Cluster::shared(), "no_events", Shape::V0_1).await;
    let role = world.role.clone();
    let psql = |sql: String| world.database.psql().command(&sql).success();
    psql(format!(
        "REVOKE SELECT (id, message) ON event FROM \"{role}\""
    ));
    let daemon = world.another_daemon("host = 127.0.0.1\nport = 0");
    let line = daemon.wait_for_log("no right to read table event");
    assert!(line.contains("sql/grants.sql"), "{line}");
    world.daemon = daemon;
    let mut alice = world.user("alice").await;
    said(&world, alice.contact, "DISK CRITICAL").await;
    assert_eq!(heard(&mut alice).await, "");
    let (contact, session_id) = world.leave(alice).await;
    said(&world, contact, "DISK WARNING").await;
    let _alice = world.come_back(contact, session_id).await;
    let (exit, text) = world.run(&["check"]).await;
    assert_eq!(exit, Some(1), "{text}");
    for part in [
        "FAIL  messages: no right to read table event",
        "sql/grants.sql",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    (world.database.psql().variable("role", &role))
        .file("sql/grants.sql")
        .success();
    let (exit, text) = world.run(&["check"]).await;
    assert_eq!(exit, Some(0), "{text}");
    assert!(text.contains("ok    messages: "), "{text}");
}

#[tokio::test]
async fn icingas_upgrade_that_moves_a_column_is_followed() {
    let mut world = World::on(Cluster::shared(), "moved", Shape::V0_2).await;
    let mut alice = world.user("alice").await;
    let incident = world.icinga.incident("o", "ok").await;
    world
        .icinga
        .incident_contact(incident, alice.contact, "recipient")
        .await;
    world.nothing_else(&mut [&mut alice]).await;
    change_by_hand(&world, incident, "warning").await;
    expect_by_hand(&mut alice, incident, "warning").await;

    world
        .icinga
        .by_hand(
            "BEGIN;
             ALTER TABLE incident ADD COLUMN mute_reason text, ADD COLUMN message text;
             UPDATE incident SET mute_reason = (SELECT mute_reason FROM object WHERE object.id = object_id);
             ALTER TABLE object DROP COLUMN mute_reason;
             ALTER TABLE incident_history DROP COLUMN event_id;
             DROP TABLE event;
             COMMIT",
        )
        .await;
    world.icinga = Icinga::new(world.database.connect().await, Shape::V1_0);
    said(&world, alice.contact, "DISK CRITICAL").await;
    assert_eq!(heard(&mut alice).await, "DISK CRITICAL");
    change_by_hand(&world, incident, "crit").await;
    expect_by_hand(&mut alice, incident, "crit").await;
    world.daemon.wait_for_log(LOOKED_AT_AGAIN);
    world.icinga.mute(incident, Some("in downtime")).await;
    change_by_hand(&world, incident, "err").await;
    for _ in 0..2 {
        world.nothing_else(&mut [&mut alice]).await;
    }
    world.icinga.mute(incident, None).await;
    change_by_hand(&world, incident, "alert").await;
    expect_by_hand(&mut alice, incident, "alert").await;
    world.nothing_else(&mut [&mut alice]).await;
    assert!(!world.daemon.log().contains(SHOWN_TO_NOBODY));
}

#[tokio::test]
async fn without_a_column_for_changes_by_hand_icingas_own_come_and_the_log_says_what_does_not() {
    for shape in [Shape::V0_2, Shape::V1_0] {
        let world = World::on(Cluster::shared(), "column_gone", shape).await;
        let mut alice = world.user("alice").await;
        // Icinga's own statements continue without it.
        let icinga = Icinga::new(world.database.connect().await, Shape::V0_2);
        let incident = icinga.incident("o", "ok").await;
        icinga
            .incident_contact(incident, alice.contact, "recipient")
            .await;
        let table = if shape == Shape::V0_2 {
            "object"
        } else {
            "incident"
        };
        icinga
            .by_hand(&format!("ALTER TABLE {table} DROP COLUMN mute_reason"))
            .await;
        change_by_hand(&world, incident, "warning").await;
        let line = world.daemon.wait_for_log(SHOWN_TO_NOBODY);
        assert!(line.contains("mute_reason"), "{line}");
        for severity in ["crit", "ok"] {
            let change = Event {
                incident: Some(incident),
                severity: Some(severity),
                notified: &[(alice.contact, 1, PENDING)],
                ..Event::default()
            };
            let written = icinga.event(change).await;
            expect(&mut alice, &written).await;
        }
        // Once it is fixed, the daemon notices by itself.
        icinga
            .by_hand(&format!("ALTER TABLE {table} ADD COLUMN mute_reason text"))
            .await;
        world.daemon.wait_for_log("are shown again");
        change_by_hand(&world, incident, "alert").await;
        expect_by_hand(&mut alice, incident, "alert").await;
    }
}

#[tokio::test]
async fn what_is_written_while_a_column_has_another_name_comes_once_it_has_its_own_again() {
    for (table, column) in [("incident_history", "contact_id"), ("object", "name")] {
        let world = World::new("renamed").await;
        let mut alice = world.user("alice").await;
        let opened = world.incident(alice.contact, "opened").await;
        expect(&mut alice, &opened).await;
        let rename = |from, to| format!("ALTER TABLE {table} RENAME COLUMN {from} TO {to}");
        world.icinga.by_hand(&rename(column, "renamed")).await;
        let contact = if table == "incident_history" {
            "renamed"
        } else {
            "contact_id"
        };
        let escalation = |channel| {
            format!(
                "INSERT INTO incident_history (incident_id, {contact}, channel_id, time, message, type, notification_state)
                 VALUES ({}, {}, {channel}, 1, 'meanwhile', 'notified', 'pending')",
                opened.incident, alice.contact
            )
        };
        world.icinga.by_hand(&escalation(1)).await;
        world.daemon.wait_for_log(LOOKED_AT_AGAIN);
        world.daemon.wait_for_log("no query session");
        // Two channels of one event.
        let both = format!("BEGIN; {}; {}; COMMIT", escalation(1), escalation(2));
        world.icinga.by_hand(&both).await;
        world.icinga.by_hand(&rename("renamed", column)).await;
        for _ in 0..2 {
            let event = alice.tab.event().await;
            assert_eq!(event.incident(), opened.incident);
            assert_eq!(event.json()["payload"]["message"], "meanwhile");
        }
        world.nothing_else(&mut [&mut alice]).await;
    }
}

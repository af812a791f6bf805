//! Rule B: a severity changed by others than Icinga Notifications is announced, and one changed by Icinga Notifications is not.

use crate::common::icinga::{Icinga, Shape};
use crate::common::postgres::Session;

use super::support::{bell, bystander, notified_row, severity};

#[tokio::test]
async fn a_severity_changed_by_hand_is_announced() {
    for shape in Shape::ALL {
        let (_database, icinga, mut listener) = bystander(shape, "by_hand").await;
        let incident = icinga.incident("db1!disk", "crit").await;
        listener.heard().await;
        for statement in [
            format!("UPDATE incident SET severity = 'err' WHERE id = {incident}"),
            format!(
                "INSERT INTO incident (id, object_id, started_at, severity) \
                 SELECT id, object_id, started_at, 'ok' FROM incident WHERE id = {incident} \
                 ON CONFLICT (id) DO UPDATE SET severity = EXCLUDED.severity"
            ),
        ] {
            icinga.by_hand(&statement).await;
            assert_eq!(listener.heard().await, [severity(incident)], "{statement}");
        }
    }
}

#[tokio::test]
async fn each_incident_of_a_transaction_is_announced_once() {
    let (_database, icinga, mut listener) = bystander(Shape::V1_0, "several").await;
    let first = icinga.incident("db1!disk", "crit").await;
    let second = icinga.incident("db2!disk", "crit").await;
    listener.heard().await;
    icinga
        .by_hand(
            "BEGIN; UPDATE incident SET severity = 'err'; UPDATE incident SET severity = 'ok'; COMMIT",
        )
        .await;
    assert_eq!(listener.heard().await, [severity(first), severity(second)]);
}

#[tokio::test]
async fn a_severity_that_stays_is_not_announced() {
    let (_database, icinga, mut listener) = bystander(Shape::V1_0, "stays").await;
    let incident = icinga.incident("db1!disk", "crit").await;
    listener.heard().await;
    icinga
        .by_hand(
            "UPDATE incident SET severity = severity, started_at = 1;
             BEGIN; UPDATE incident SET severity = 'ok'; ROLLBACK",
        )
        .await;
    icinga.mute(incident, Some("downtime")).await;
    assert_eq!(listener.heard().await, []);
}

/// A statement that writes a row of the history.
fn history(incident: i64, kind: &str) -> String {
    format!(
        "INSERT INTO incident_history (incident_id, time, type) VALUES ({incident}, 0, '{kind}')"
    )
}

/// Runs statements in one transaction.
async fn transaction(session: &Session, statements: &[String]) {
    session
        .run(&format!("BEGIN; {}; COMMIT", statements.join("; ")))
        .await;
}

#[tokio::test]
async fn a_severity_that_icinga_changes_is_left_to_icinga() {
    for shape in Shape::ALL {
        let (database, icinga, mut listener) = bystander(shape, "icingas").await;
        let writer = database.connect().await;
        let anna = icinga.contact("anna").await;
        let incident = icinga.incident("db1!disk", "crit").await;
        listener.heard().await;
        let notified = notified_row(incident, anna);
        let changed = history(incident, "incident_severity_changed");
        // Icinga saves the severity with an upsert.
        let save = |severity: &str| {
            format!(
                "INSERT INTO incident (id, object_id, started_at, severity) \
                 SELECT id, object_id, started_at, '{severity}' FROM incident WHERE id = {incident} \
                 ON CONFLICT (id) DO UPDATE SET severity = EXCLUDED.severity"
            )
        };
        for (order, statements) in [
            ("0.1, 0.2", [changed.clone(), save("ok"), notified.clone()]),
            ("HEAD", [changed.clone(), notified, save("crit")]),
            (
                "it notifies nobody",
                [changed, history(incident, "muted"), save("ok")],
            ),
        ] {
            transaction(&writer, &statements).await;
            assert_eq!(listener.heard().await, [bell()], "{order}, {shape:?}");
        }
    }
}

#[tokio::test]
async fn a_new_incident_is_not_announced_by_its_severity() {
    let (_database, icinga, mut listener) = bystander(Shape::V1_0, "new").await;
    icinga.object("db1!disk").await;
    // As Icinga does: a new value is saved again.
    icinga
        .by_hand(
            "BEGIN;
             INSERT INTO incident (object_id, started_at, severity) SELECT id, 0, 'crit' FROM object;
             INSERT INTO incident_history (incident_id, time, type) SELECT id, 0, 'opened' FROM incident;
             UPDATE incident SET severity = 'err';
             COMMIT",
        )
        .await;
    assert_eq!(listener.heard().await, [bell()]);
}

#[tokio::test]
async fn what_another_transaction_wrote_does_not_count() {
    let (database, icinga, mut listener) = bystander(Shape::V1_0, "another").await;
    let incident = icinga.incident("db1!disk", "crit").await;
    listener.heard().await;
    // The same session, right before, and another one at the same time.
    icinga.by_hand(&history(incident, "muted")).await;
    let other = Icinga::new(database.connect().await, Shape::V1_0);
    other
        .by_hand(&format!("BEGIN; {}", history(incident, "muted")))
        .await;
    icinga.by_hand("UPDATE incident SET severity = 'ok'").await;
    assert_eq!(listener.heard().await, [bell(), severity(incident)]);
}

#[tokio::test]
async fn history_that_a_savepoint_took_back_does_not_count() {
    let (_database, icinga, mut listener) = bystander(Shape::V1_0, "taken_back").await;
    let incident = icinga.incident("db1!disk", "crit").await;
    listener.heard().await;
    let row = history(incident, "muted");
    for (fire, new) in [("", "ok"), ("SET CONSTRAINTS ALL IMMEDIATE;", "err")] {
        icinga
            .by_hand(&format!(
                "BEGIN; SAVEPOINT a; {row}; {fire} ROLLBACK TO a; UPDATE incident SET severity = '{new}'; COMMIT"
            ))
            .await;
        assert_eq!(listener.heard().await, [severity(incident)], "{fire}");
    }
}

#[tokio::test]
async fn a_severity_of_a_savepoint_is_announced_if_the_savepoint_stays() {
    let (_database, icinga, mut listener) = bystander(Shape::V1_0, "of_savepoint").await;
    let incident = icinga.incident("db1!disk", "crit").await;
    listener.heard().await;
    icinga
        .by_hand("BEGIN; SAVEPOINT a; UPDATE incident SET severity = 'ok'; ROLLBACK TO a; COMMIT")
        .await;
    assert_eq!(listener.heard().await, []);
    icinga
        .by_hand("BEGIN; SAVEPOINT a; UPDATE incident SET severity = 'ok'; RELEASE a; COMMIT")
        .await;
    assert_eq!(listener.heard().await, [severity(incident)]);
}

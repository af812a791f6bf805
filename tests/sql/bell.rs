//! Rule A: at most one of the transactions that commit rings, once, whatever rows of the history it wrote.

use crate::common::icinga::{Event, Icinga, Shape};

use super::support::{alarm, bell, bystander, notified_row, truncated};

/// Fires the deferred triggers now: the transaction has rung, and has not committed.
const FIRE: &str = "SET CONSTRAINTS ALL IMMEDIATE";

#[tokio::test]
async fn a_transaction_of_icingas_rings_once_whatever_it_writes() {
    for shape in Shape::ALL {
        let (_database, mut icinga, mut listener) = bystander(shape, "once").await;
        let anna = icinga.contact("anna").await;
        let bert = icinga.contact("bert").await;
        let new = Event {
            object: "db1!disk",
            severity: Some("crit"),
            message: Some("DISK CRITICAL"),
            notified: &[
                (anna, 1, "pending"),
                (anna, 2, "pending"),
                (bert, 1, "suppressed"),
            ],
            ..Event::default()
        };
        let incident = icinga.event(new).await.incident;
        assert_eq!(listener.heard().await, [bell()], "{shape:?}");
        icinga
            .event(alarm(incident, "ok", &[(bert, 1, "pending")]))
            .await;
        assert_eq!(listener.heard().await, [bell()], "{shape:?}");
        assert_eq!(icinga.session().warnings(), [""; 0]);
    }
}

#[tokio::test]
async fn every_type_of_history_row_rings_and_so_does_a_new_incident() {
    let (_database, icinga, mut listener) = bystander(Shape::V1_0, "types").await;
    let anna = icinga.contact("anna").await;
    let incident = icinga.incident("db1!disk", "crit").await;
    listener.heard().await;
    for (contact, kind) in [("NULL", "opened"), ("NULL", "muted"), ("NULL", "notified")] {
        icinga
            .by_hand(&format!(
                "INSERT INTO incident_history (incident_id, contact_id, time, type) \
                 VALUES ({incident}, {contact}, 0, '{kind}')"
            ))
            .await;
        assert_eq!(listener.heard().await, [bell()], "{kind}");
    }
    icinga.by_hand(&notified_row(incident, anna)).await;
    assert_eq!(listener.heard().await, [bell()]);

    icinga
        .by_hand("INSERT INTO incident (object_id, started_at, severity) SELECT id, 0, 'crit' FROM object")
        .await;
    assert_eq!(listener.heard().await, [bell()]);
}

#[tokio::test]
async fn the_answer_of_a_channel_does_not_ring() {
    let (_database, icinga, mut listener) = bystander(Shape::V1_0, "answered").await;
    let anna = icinga.contact("anna").await;
    let incident = icinga.incident("db1!disk", "ok").await;
    let notified = [(anna, 1, "pending"), (anna, 2, "pending")];
    let written = icinga.event(alarm(incident, "crit", &notified)).await;
    listener.heard().await;
    icinga.answered(written.history[1], "sent").await;
    icinga.answered(written.history[0], "failed").await;
    assert_eq!(listener.heard().await, []);
}

#[tokio::test]
async fn transactions_that_commit_while_another_one_rings_ride_along() {
    let (database, ringer, mut listener) = bystander(Shape::V1_0, "riders").await;
    let anna = ringer.contact("anna").await;
    let incident = ringer.incident("db1!disk", "ok").await;
    listener.heard().await;
    let row = notified_row(incident, anna);

    ringer.by_hand(&format!("BEGIN; {row}; {FIRE}")).await;
    for _ in 0..2 {
        let rider = Icinga::new(database.connect().await, Shape::V1_0);
        rider.by_hand(&row).await;
    }
    assert_eq!(listener.heard().await, []);
    ringer.by_hand("COMMIT").await;
    assert_eq!(listener.heard().await, [bell()]);

    // The lock went with the transaction.
    ringer.by_hand(&row).await;
    assert_eq!(listener.heard().await, [bell()]);
}

#[tokio::test]
async fn a_ringer_that_rolls_back_is_silent_and_leaves_the_bell_to_others() {
    let (database, ringer, mut listener) = bystander(Shape::V1_0, "rolled_back").await;
    let anna = ringer.contact("anna").await;
    let incident = ringer.incident("db1!disk", "ok").await;
    listener.heard().await;
    let row = notified_row(incident, anna);

    for end in ["ROLLBACK", "SELECT pg_terminate_backend(pg_backend_pid())"] {
        let ringer = database.connect().await;
        ringer.run(&format!("BEGIN; {row}; {FIRE}")).await;
        let rider = Icinga::new(database.connect().await, Shape::V1_0);
        rider.by_hand(&row).await;
        // Terminated, the session cannot report that it succeeded.
        let _ = ringer.batch_execute(end).await;
        database
            .eventually(
                "NOT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND database = \
                (SELECT oid FROM pg_database WHERE datname = current_database()))",
            )
            .await;
        assert_eq!(listener.heard().await, [], "{end}");

        rider.by_hand(&row).await;
        assert_eq!(listener.heard().await, [bell()], "{end}");
    }
}

#[tokio::test]
async fn nobody_waits_for_a_transaction_that_rings() {
    let (database, ringer, _listener) = bystander(Shape::V1_0, "no_wait").await;
    let anna = ringer.contact("anna").await;
    let incident = ringer.incident("db1!disk", "ok").await;
    ringer
        .by_hand(&format!("BEGIN; {}; {FIRE}", notified_row(incident, anna)))
        .await;

    let other = Icinga::new(database.connect().await, Shape::V1_0);
    // A wait fails.
    other
        .by_hand("SET lock_timeout = '1ms'; SET statement_timeout = '10s'")
        .await;
    let event = Event {
        object: "db2!disk",
        severity: Some("crit"),
        notified: &[(anna, 1, "pending")],
        ..Event::default()
    };
    other.event(event).await;
}

#[tokio::test]
async fn a_savepoint_that_is_rolled_back_takes_its_bell_along() {
    let (_database, icinga, mut listener) = bystander(Shape::V1_0, "savepoints").await;
    let anna = icinga.contact("anna").await;
    let incident = icinga.incident("db1!disk", "ok").await;
    listener.heard().await;
    let row = notified_row(incident, anna);

    icinga
        .by_hand(&format!("BEGIN; SAVEPOINT a; {row}; ROLLBACK TO a; COMMIT"))
        .await;
    icinga
        .by_hand(&format!(
            "BEGIN; SAVEPOINT a; {row}; {FIRE}; ROLLBACK TO a; COMMIT"
        ))
        .await;
    assert_eq!(listener.heard().await, []);

    for kept in [
        format!("BEGIN; SAVEPOINT a; {row}; {FIRE}; ROLLBACK TO a; {row}; COMMIT"),
        format!("BEGIN; SAVEPOINT a; {row}; RELEASE a; SAVEPOINT b; {row}; RELEASE b; COMMIT"),
        format!("BEGIN; {row}; {FIRE}; SAVEPOINT a; {row}; ROLLBACK TO a; {row}; COMMIT"),
    ] {
        icinga.by_hand(&kept).await;
        assert_eq!(listener.heard().await, [bell()], "{kept}");
    }
}

#[tokio::test]
async fn truncating_rings_with_a_word_of_its_own() {
    let (database, icinga, mut listener) = bystander(Shape::V1_0, "truncated").await;
    let anna = icinga.contact("anna").await;
    let incident = icinga.incident("db1!disk", "ok").await;
    listener.heard().await;
    let ringer = database.connect().await;
    for truncate in [
        "TRUNCATE object RESTART IDENTITY CASCADE",
        "TRUNCATE incident_history",
    ] {
        icinga.by_hand(truncate).await;
        assert_eq!(listener.heard().await, [truncated()], "{truncate}");
    }

    // Also while another transaction rings, whose lock of the bell is visible here.
    ringer
        .run("BEGIN; SELECT pg_advisory_xact_lock(hashtextextended('icinga_desktop.bell', 0))")
        .await;
    let again = icinga.incident("db1!disk", "ok").await;
    assert!(again <= incident, "the ids started again");
    icinga.by_hand(&notified_row(again, anna)).await;
    assert_eq!(listener.heard().await, []);
    icinga.by_hand("TRUNCATE object CASCADE").await;
    assert_eq!(listener.heard().await, [truncated()]);
}

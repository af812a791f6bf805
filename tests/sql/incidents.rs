//! What the triggers announce of incidents and their history: notified rows and changed severities, nothing else.

use crate::common::icinga::{Event, Shape};

use super::support::{begin, bystander, notified, severity};

#[tokio::test]
async fn an_incident_in_icingas_order_is_announced_exactly_so() {
    for shape in Shape::ALL {
        let (_database, mut icinga, mut listener) = bystander(shape, "order").await;
        let anna = icinga.contact("anna").await;
        let bert = icinga.contact("bert").await;

        let tx = begin(icinga.session()).await;
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
        let opened = icinga.write(new).await;
        icinga.session().run("COMMIT").await;
        let incident = opened.incident;
        assert_eq!(
            listener.heard().await,
            [
                severity(&tx, incident, "crit"),
                notified(&tx, opened.history[0], incident, anna, "pending"),
                notified(&tx, opened.history[1], incident, anna, "pending"),
                notified(&tx, opened.history[2], incident, bert, "suppressed"),
            ],
            "{shape:?}"
        );

        let tx = begin(icinga.session()).await;
        let change = Event {
            incident: Some(incident),
            severity: Some("ok"),
            notified: &[(bert, 1, "pending")],
            ..Event::default()
        };
        let changed = icinga.write(change).await;
        icinga.session().run("COMMIT").await;
        assert_eq!(
            listener.heard().await,
            [
                notified(&tx, changed.history[0], incident, bert, "pending"),
                severity(&tx, incident, "ok"),
            ],
            "{shape:?}"
        );
        assert_eq!(icinga.session().warnings(), [""; 0]);
    }
}

#[tokio::test]
async fn a_notified_row_without_a_state_is_announced_with_null() {
    let (_database, mut icinga, mut listener) = bystander(Shape::V1_0, "no_state").await;
    let anna = icinga.contact("anna").await;
    let incident = icinga.incident("db1!disk", "crit").await;
    listener.heard().await;
    icinga
        .session()
        .run(&format!(
            "INSERT INTO incident_history (incident_id, contact_id, time, type) VALUES ({incident}, {anna}, 0, 'notified')"
        ))
        .await;
    let heard = listener.heard().await;
    assert_eq!(heard.len(), 1);
    assert!(
        heard[0]
            .1
            .ends_with(&format!(r#","contact_id":{anna},"state":null}}"#)),
        "{heard:?}"
    );
}

#[tokio::test]
async fn the_answer_of_a_channel_announces_nothing() {
    let (_database, icinga, mut listener) = bystander(Shape::V1_0, "answered").await;
    let anna = icinga.contact("anna").await;
    let event = Event {
        object: "db1!disk",
        severity: Some("crit"),
        notified: &[(anna, 1, "pending"), (anna, 2, "pending")],
        ..Event::default()
    };
    let written = icinga.event(event).await;
    assert_eq!(listener.heard().await.len(), 3);
    icinga.answered(written.history[1], "sent").await;
    icinga.answered(written.history[0], "failed").await;
    assert_eq!(listener.heard().await, []);
}

#[tokio::test]
async fn rows_about_nobody_or_of_other_types_announce_nothing() {
    let (_database, mut icinga, mut listener) = bystander(Shape::V1_0, "other_types").await;
    let anna = icinga.contact("anna").await;
    let incident = icinga.incident("db1!disk", "crit").await;
    listener.heard().await;
    icinga
        .session()
        .run(&format!(
            "INSERT INTO incident_history (incident_id, contact_id, time, type) VALUES
               ({incident}, NULL, 0, 'notified'), ({incident}, {anna}, 0, 'recipient_role_changed'),
               ({incident}, {anna}, 0, 'opened'), ({incident}, NULL, 0, 'muted')"
        ))
        .await;
    assert_eq!(listener.heard().await, []);
}

#[tokio::test]
async fn a_severity_that_stays_announces_nothing() {
    let (_database, mut icinga, mut listener) = bystander(Shape::V1_0, "stays").await;
    let incident = icinga.incident("db1!disk", "crit").await;
    listener.heard().await;
    let same = Event {
        incident: Some(incident),
        severity: Some("crit"),
        message: Some("still"),
        ..Event::default()
    };
    icinga.event(same).await;
    icinga.mute(incident, Some("downtime")).await;
    icinga
        .session()
        .run("UPDATE incident SET severity = severity, started_at = 1")
        .await;
    assert_eq!(listener.heard().await, []);
}

#[tokio::test]
async fn a_rolled_back_transaction_announces_nothing() {
    let (_database, mut icinga, mut listener) = bystander(Shape::V1_0, "rolled_back").await;
    let anna = icinga.contact("anna").await;
    icinga.session().run("BEGIN").await;
    let event = Event {
        object: "db1!disk",
        severity: Some("crit"),
        notified: &[(anna, 1, "pending")],
        ..Event::default()
    };
    icinga.write(event).await;
    icinga.session().run("ROLLBACK").await;
    assert_eq!(listener.heard().await, []);
}

#[tokio::test]
async fn savepoints_announce_what_survives_them_under_the_one_transaction() {
    let (_database, mut icinga, mut listener) = bystander(Shape::V1_0, "savepoints").await;
    let anna = icinga.contact("anna").await;
    let incident = icinga.incident("db1!disk", "ok").await;
    listener.heard().await;
    let event = |severity| Event {
        incident: Some(incident),
        severity: Some(severity),
        ..Event::default()
    };

    let tx = begin(icinga.session()).await;
    icinga.session().run("SAVEPOINT a").await;
    icinga.write(event("emerg")).await;
    icinga.session().run("ROLLBACK TO a; SAVEPOINT b").await;
    let kept = icinga
        .write(Event {
            notified: &[(anna, 1, "pending")],
            ..event("crit")
        })
        .await;
    icinga.session().run("RELEASE b; COMMIT").await;
    assert_eq!(
        listener.heard().await,
        [
            notified(&tx, kept.history[0], incident, anna, "pending"),
            severity(&tx, incident, "crit"),
        ]
    );
}

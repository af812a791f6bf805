//! The triggers look nothing up, however large and unknown to the planner the history is.
//!
//! Not by the clock, but by PostgreSQL's own count of scans: look-ups in a trigger cost the writer most where it is least
//! expected, namely when PostgreSQL changes the plan of such a look-up because a table has grown.

use crate::common::icinga::{Event, Icinga, Shape};
use crate::common::postgres::{Cluster, Database};

/// What every writer of an Icinga transaction scans anyway, for foreign keys and for itself: table, and the scans, rows and
/// index entries that this session has counted for it so far.
const SCANS: &str = "SELECT string_agg(concat_ws(' ', relname, seq_scan, seq_tup_read, idx_scan, idx_tup_fetch), E'\\n' ORDER BY relname) \
     FROM pg_stat_xact_user_tables \
     WHERE relname IN ('contact', 'incident', 'incident_contact', 'incident_history')";

const CONTACTS: usize = 5;

/// A database with a large history of which PostgreSQL knows nothing, and its contacts.
async fn large_history(shape: Shape) -> (Database, Vec<i64>) {
    let database = Cluster::shared().database("large_history");
    database.psql().file(shape.fixture()).success();
    database.psql().file("sql/install.sql").success();
    let icinga = Icinga::new(database.connect().await, shape);
    icinga
        .by_hand("ALTER TABLE incident_history SET (autovacuum_enabled = off)")
        .await;
    let mut contacts = Vec::new();
    for number in 1..=CONTACTS {
        contacts.push(icinga.contact(&format!("user{number}")).await);
    }
    let incident = icinga.incident("old", "crit").await;
    icinga
        .by_hand(&format!(
            "BEGIN;
             -- Neither announced nor checked one by one.
             SET LOCAL session_replication_role = replica;
             INSERT INTO incident_history (incident_id, contact_id, channel_id, time, type, notification_state)
               SELECT {incident}, {first} + n % {CONTACTS}, 1, n, 'notified', 'sent' FROM generate_series(1, 200000) AS n;
             COMMIT",
            first = contacts[0]
        ))
        .await;
    (database, contacts)
}

/// Opens an incident, notifies everybody, and changes its severity by hand, all within the caller's transaction.
async fn write(icinga: &Icinga, contacts: &[i64]) {
    let notified: Vec<_> = contacts
        .iter()
        .map(|contact| (*contact, 1, "pending"))
        .collect();
    let written = icinga
        .write(Event {
            object: "new",
            severity: Some("crit"),
            message: Some("CRITICAL"),
            notified: &notified,
            ..Event::default()
        })
        .await;
    icinga
        .by_hand(&format!(
            "UPDATE incident SET severity = 'err' WHERE id = {}",
            written.incident
        ))
        .await;
}

/// How much the counters grow over [`write`], in a transaction that begins with `before`; and how many notifications it
/// sends.
async fn scans(
    database: &Database,
    shape: Shape,
    contacts: &[i64],
    before: &str,
) -> (Vec<i64>, usize) {
    let mut listener = database.listen(&["icinga_desktop_incident"]).await;
    // A session of its own: its plans are as new, and its counters as low, as those of the others.
    let mut icinga = Icinga::new(database.connect().await, shape);
    icinga.by_hand("BEGIN").await;
    icinga.by_hand(before).await;
    let start = icinga.session().text(SCANS).await;
    write(&icinga, contacts).await;
    let end = icinga.session().text(SCANS).await;
    icinga.by_hand("COMMIT").await;
    let numbers = |counters: &str| -> Vec<i64> {
        counters
            .split_whitespace()
            .filter_map(|word| word.parse().ok())
            .collect()
    };
    let (start, end) = (numbers(&start), numbers(&end));
    assert_eq!(
        (start.len(), end.len()),
        (16, 16),
        "four tables of four counters"
    );
    let growth = std::iter::zip(start, end).map(|(start, end)| end - start);
    (growth.collect(), listener.heard().await.len())
}

#[tokio::test]
async fn the_triggers_look_nothing_up_in_a_large_history_that_was_never_analysed() {
    for shape in Shape::ALL {
        let (database, contacts) = large_history(shape).await;
        let disabled = "ALTER TABLE incident_history DISABLE TRIGGER icinga_desktop_notified;
             ALTER TABLE incident DISABLE TRIGGER icinga_desktop_severity_insert;
             ALTER TABLE incident DISABLE TRIGGER icinga_desktop_severity_update";
        let enabled = disabled.replace("DISABLE", "ENABLE");
        let (without, silence) = scans(&database, shape, &contacts, disabled).await;
        let (with, announced) = scans(&database, shape, &contacts, &enabled).await;
        assert_eq!((silence, announced), (0, CONTACTS + 2));
        assert_eq!(with, without, "{shape:?}");

        // The counters would show it: this one looks up what a trigger might want to know.
        let looking = "CREATE FUNCTION look() RETURNS trigger LANGUAGE plpgsql AS
               'BEGIN PERFORM FROM incident_history WHERE contact_id = NEW.contact_id AND id < NEW.id LIMIT 1; RETURN NULL; END';
             CREATE TRIGGER look AFTER INSERT ON incident_history FOR EACH ROW EXECUTE FUNCTION look()";
        let (with_look_ups, _) = scans(&database, shape, &contacts, looking).await;
        assert_ne!(with_look_ups, without, "{shape:?}");
    }
}

//! A client that writes as Icinga does notices nothing of the triggers: they fail without failing the writer, hold nobody up,
//! and look nothing up, however large and unknown to the planner the history is.

use std::time::Duration;

use crate::common::icinga::{Event, Icinga, Shape};
use crate::common::postgres::{Cluster, Database};

use super::support::{
    INCIDENT, SESSION, begin, bystander, installed, notified, severity, sign_in_of,
};

#[tokio::test]
async fn a_writer_that_may_not_notify_goes_on_and_is_warned() {
    let database = installed(Shape::V1_0, "revoked");
    let role = database.role("writer");
    let session = database.connect().await;
    session
        .run(&format!(
            "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {role};
             GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {role};
             REVOKE EXECUTE ON FUNCTION pg_catalog.pg_notify(text, text) FROM PUBLIC"
        ))
        .await;
    let mut listener = database.listen(&[INCIDENT, SESSION]).await;
    let mut icinga = Icinga::new(database.connect_as(&role).await, Shape::V1_0);
    let anna = icinga.contact("anna").await;
    let event = Event {
        object: "db1!disk",
        severity: Some("crit"),
        notified: &[(anna, 1, "pending")],
        ..Event::default()
    };
    let written = icinga.event(event).await;
    let browser = icinga.sign_in("anna", "Firefox").await;
    icinga.sign_out(&browser).await;
    icinga.delete_contact(anna).await;

    let reason =
        "permission denied for function pg_notify (SQLSTATE 42501); the transaction goes on";
    assert_eq!(
        icinga.session().warnings(),
        [
            format!(
                "icinga_desktop: severity crit of incident {} is not announced: {reason}",
                written.incident
            ),
            format!(
                "icinga_desktop: contact {anna} gets no desktop notification of incident {}: {reason}",
                written.incident
            ),
            format!("icinga_desktop: a sign-in or sign-out is not announced: {reason}"),
            format!("icinga_desktop: a sign-in or sign-out is not announced: {reason}"),
            format!("icinga_desktop: a change of contact {anna} is not announced: {reason}"),
        ]
    );
    assert_eq!(listener.heard().await, []);
    let committed = session
        .text(&format!(
            "SELECT count(*)::text FROM incident_history WHERE id = {}",
            written.history[0]
        ))
        .await;
    assert_eq!(committed, "1");
}

#[tokio::test]
async fn a_nearly_full_queue_is_not_filled_further() {
    let (_database, mut icinga, mut listener) = bystander(Shape::V1_0, "queue").await;
    let anna = icinga.contact("anna").await;
    // Filling eight gigabytes would prove the same.
    icinga
        .session()
        .run(
            "CREATE OR REPLACE FUNCTION pg_catalog.pg_notification_queue_usage() RETURNS double precision \
             LANGUAGE sql AS 'SELECT 0.91::double precision'",
        )
        .await;
    let event = Event {
        object: "db1!disk",
        severity: Some("crit"),
        notified: &[(anna, 1, "pending")],
        ..Event::default()
    };
    icinga.event(event).await;
    icinga.sign_in("anna", "Firefox").await;
    icinga.delete_contact(anna).await;
    let warnings = icinga.session().warnings();
    assert_eq!(warnings.len(), 4, "{warnings:?}");
    for warning in warnings {
        assert!(
            warning.ends_with(
                "the NOTIFY queue is nearly full (SQLSTATE 54000); the transaction goes on"
            ),
            "{warning}"
        );
    }
    assert_eq!(listener.heard().await, []);
}

/// Each of these would be taken for an unqualified name, because pg_catalog is searched last.
const EVIL: &str = "CREATE SCHEMA evil;
     CREATE FUNCTION evil.fail(VARIADIC text[]) RETURNS text LANGUAGE plpgsql AS
       $$ BEGIN RAISE WARNING 'evil was called'; RETURN 'evil'; END $$;
     CREATE FUNCTION evil.pg_notify(text, text) RETURNS void LANGUAGE sql AS $$ SELECT evil.fail($1, $2) $$;
     CREATE FUNCTION evil.format(text, bigint) RETURNS text LANGUAGE sql AS $$ SELECT evil.fail($1) $$;
     CREATE FUNCTION evil.format(text, notification_state) RETURNS text LANGUAGE sql AS $$ SELECT evil.fail($1) $$;
     CREATE FUNCTION evil.format(text, xid8, bigint, severity) RETURNS text LANGUAGE sql AS $$ SELECT evil.fail($1) $$;
     CREATE FUNCTION evil.format(text, xid8, bigint, bigint, bigint, text) RETURNS text LANGUAGE sql AS
       $$ SELECT evil.fail($1) $$;
     CREATE FUNCTION evil.pg_current_xact_id() RETURNS xid8 LANGUAGE sql AS $$ SELECT evil.fail(''); SELECT '7'::xid8 $$;
     CREATE FUNCTION evil.pg_notification_queue_usage() RETURNS double precision LANGUAGE sql AS
       $$ SELECT evil.fail(''); SELECT 1.0::double precision $$;
     CREATE FUNCTION evil.greater(double precision, double precision) RETURNS boolean LANGUAGE sql AS
       $$ SELECT evil.fail(''); SELECT true $$;
     CREATE FUNCTION evil.greater(double precision, numeric) RETURNS boolean LANGUAGE sql AS
       $$ SELECT evil.fail(''); SELECT true $$;
     CREATE OPERATOR evil.> (LEFTARG = double precision, RIGHTARG = double precision, FUNCTION = evil.greater);
     CREATE OPERATOR evil.> (LEFTARG = double precision, RIGHTARG = numeric, FUNCTION = evil.greater);
     CREATE FUNCTION evil.same(citext, citext) RETURNS boolean LANGUAGE sql AS $$ SELECT evil.fail(''); SELECT false $$;
     CREATE OPERATOR evil.= (LEFTARG = citext, RIGHTARG = citext, FUNCTION = evil.same);
     CREATE TABLE evil.contact (id bigint, username citext);
     SET search_path = evil, public, pg_catalog";

#[tokio::test]
async fn a_writer_with_a_hostile_search_path_is_announced_all_the_same() {
    let (_database, mut icinga, mut listener) = bystander(Shape::V1_0, "hostile").await;
    let anna = icinga.contact("anna").await;
    let incident = icinga.incident("db1!disk", "ok").await;
    listener.heard().await;
    icinga.session().run(EVIL).await;
    let evil = icinga.session().text("SELECT format('', 1::bigint)").await;
    assert_eq!(evil, "evil");
    assert_eq!(icinga.session().warnings(), ["evil was called"]);

    let tx = begin(icinga.session()).await;
    let event = Event {
        incident: Some(incident),
        severity: Some("crit"),
        notified: &[(anna, 1, "pending")],
        ..Event::default()
    };
    let written = icinga.write(event).await;
    icinga
        .session()
        .run(
            "INSERT INTO browser_session VALUES ('abc', 'Anna', 'Firefox', 0);
             UPDATE public.contact SET username = NULL, deleted = 'y'; COMMIT",
        )
        .await;
    assert_eq!(icinga.session().warnings(), [""; 0]);
    assert_eq!(
        listener.heard().await,
        [
            notified(&tx, written.history[0], incident, anna, "pending"),
            severity(&tx, incident, "crit"),
            // Once for both: the server folds equal notifications of a transaction.
            sign_in_of(anna),
        ]
    );
}

#[tokio::test]
async fn nobody_waits_for_a_writer_that_announces() {
    let (database, mut icinga, _listener) = bystander(Shape::V1_0, "no_lock").await;
    let anna = icinga.contact("anna").await;
    let event = Event {
        object: "db1!disk",
        severity: Some("crit"),
        notified: &[(anna, 1, "pending")],
        ..Event::default()
    };
    icinga.session().run("BEGIN").await;
    icinga.write(event).await;
    let second = Icinga::new(database.connect().await, Shape::V1_0);
    tokio::time::timeout(
        Duration::from_secs(10),
        second.event(Event {
            object: "db2!disk",
            ..event
        }),
    )
    .await
    .expect("another incident is written meanwhile");
}

// No look-ups. Not by the clock, but by PostgreSQL's own count of scans: look-ups in a trigger cost the writer most where it
// is least expected, namely when PostgreSQL changes the plan of such a look-up because a table has grown.

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

//! The triggers' effect on a client that writes as Icinga does: none. They fail without failing the writer, use little memory,
//! and look nothing up, however large the history is, and even without statistics.

use crate::common::icinga::{Event, Icinga, Shape};
use crate::common::postgres::{Cluster, Database};

use super::support::{
    BELL, INCIDENT, INSTALL, SESSION, bell, browser, bystander, contact, installed, notified_row,
    severity, truncated,
};

/// Writes everything that the triggers announce. The transaction with history warns once, however many rows it has.
async fn write_everything(icinga: &Icinga) {
    let anna = icinga.contact("anna").await;
    let incident = icinga.incident("db1!disk", "crit").await;
    let row = notified_row(incident, anna);
    icinga
        .by_hand(&format!("BEGIN; {row}; {row}; {row}; COMMIT"))
        .await;
    icinga.by_hand("UPDATE incident SET severity = 'ok'").await;
    let id = icinga.sign_in("anna", "Firefox").await;
    icinga.sign_out(&id).await;
    icinga.delete_contact(anna).await;
}

/// The warnings that [`write_everything`] gives if every NOTIFY fails for `reason`.
fn warnings_of_everything(reason: &str) -> Vec<String> {
    [
        "desktop notifications will be late",
        "desktop notifications will be late",
        "an incident's new severity is not announced",
        "a sign-out is not announced",
        "a change of a contact is not announced",
    ]
    .map(|what| format!("icinga_desktop: {what}: {reason}; the transaction goes on"))
    .into()
}

/// A database in which PUBLIC lost the right to call `function`, and a session of a role that writes all the same.
async fn restricted(function: &str) -> (Database, Icinga) {
    let database = installed(Shape::V1_0, "restricted");
    let role = database.role("writer");
    let session = database.connect().await;
    session
        .run(&format!(
            "GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON ALL TABLES IN SCHEMA public TO {role};
             GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {role};
             REVOKE EXECUTE ON FUNCTION pg_catalog.{function} FROM PUBLIC"
        ))
        .await;
    let icinga = Icinga::new(database.connect_as(&role).await, Shape::V1_0);
    (database, icinga)
}

#[tokio::test]
async fn a_writer_without_the_right_to_notify_goes_on_and_is_warned() {
    let (database, mut icinga) = restricted("pg_notify(text, text)").await;
    let mut listener = database.listen(&[BELL, INCIDENT, SESSION]).await;
    write_everything(&icinga).await;
    let reason = "permission denied for function pg_notify (SQLSTATE 42501)";
    assert_eq!(icinga.session().warnings(), warnings_of_everything(reason));

    let committed = icinga
        .session()
        .text("SELECT count(*)::text FROM incident_history WHERE type = 'notified'")
        .await;
    assert_eq!(committed, "3");
    icinga.by_hand("TRUNCATE incident_history").await;
    assert_eq!(
        icinga.session().warnings(),
        [format!(
            "icinga_desktop: TRUNCATE of the history is not announced: {reason}; the transaction goes on"
        )]
    );
    assert_eq!(listener.heard().await, []);
}

#[tokio::test]
async fn a_writer_without_the_right_to_change_settings_goes_on_and_is_warned() {
    let (_database, mut icinga) = restricted("set_config(text, text, boolean)").await;
    icinga.incident("db1!disk", "crit").await;
    let warnings = icinga.session().warnings();
    let expected = "icinga_desktop: desktop notifications will be late: permission denied for function set_config \
         (SQLSTATE 42501); the transaction goes on";
    // The incident, and that it was opened.
    assert_eq!(warnings, [expected, expected]);
}

#[tokio::test]
async fn a_nearly_full_queue_is_not_filled_further() {
    let (_database, mut icinga, mut listener) = bystander(Shape::V1_0, "queue").await;
    // Filling eight gigabytes would prove the same.
    icinga
        .session()
        .run(
            "CREATE OR REPLACE FUNCTION pg_catalog.pg_notification_queue_usage() RETURNS double precision \
             LANGUAGE sql AS 'SELECT 0.91::double precision'",
        )
        .await;
    write_everything(&icinga).await;
    let reason = "the NOTIFY queue is nearly full (SQLSTATE 54000)";
    assert_eq!(icinga.session().warnings(), warnings_of_everything(reason));
    icinga.by_hand("TRUNCATE incident_history").await;
    assert_eq!(icinga.session().warnings().len(), 1);
    assert_eq!(listener.heard().await, []);
}

/// Each of these would be called instead of an unqualified name, because pg_catalog is searched last.
const EVIL: &str = "CREATE SCHEMA evil;
     CREATE FUNCTION evil.fail(VARIADIC text[]) RETURNS text LANGUAGE plpgsql AS
       $$ BEGIN RAISE WARNING 'evil was called'; RETURN 'evil'; END $$;
     CREATE FUNCTION evil.pg_notify(text, text) RETURNS void LANGUAGE sql AS $$ SELECT evil.fail($1, $2) $$;
     CREATE FUNCTION evil.format(text, bigint) RETURNS text LANGUAGE sql AS $$ SELECT evil.fail($1) $$;
     CREATE FUNCTION evil.format(text, text) RETURNS text LANGUAGE sql AS $$ SELECT evil.fail($1) $$;
     CREATE FUNCTION evil.current_setting(text, boolean) RETURNS text LANGUAGE sql AS $$ SELECT evil.fail($1) $$;
     CREATE FUNCTION evil.set_config(text, text, boolean) RETURNS text LANGUAGE sql AS $$ SELECT evil.fail($1) $$;
     CREATE FUNCTION evil.pg_try_advisory_xact_lock(bigint) RETURNS boolean LANGUAGE sql AS
       $$ SELECT evil.fail(''); SELECT false $$;
     CREATE FUNCTION evil.has_function_privilege(text, text) RETURNS boolean LANGUAGE sql AS
       $$ SELECT evil.fail(''); SELECT false $$;
     CREATE FUNCTION evil.encode(bytea, text) RETURNS text LANGUAGE sql AS $$ SELECT evil.fail($2) $$;
     CREATE FUNCTION evil.sha256(bytea) RETURNS bytea LANGUAGE sql AS $$ SELECT evil.fail(''); SELECT ''::bytea $$;
     CREATE FUNCTION evil.convert_to(text, name) RETURNS bytea LANGUAGE sql AS
       $$ SELECT evil.fail(''); SELECT ''::bytea $$;
     CREATE FUNCTION evil.pg_notification_queue_usage() RETURNS double precision LANGUAGE sql AS
       $$ SELECT evil.fail(''); SELECT 1.0::double precision $$;
     CREATE FUNCTION evil.greater(double precision, double precision) RETURNS boolean LANGUAGE sql AS
       $$ SELECT evil.fail(''); SELECT true $$;
     CREATE FUNCTION evil.greater(double precision, numeric) RETURNS boolean LANGUAGE sql AS
       $$ SELECT evil.fail(''); SELECT true $$;
     CREATE OPERATOR evil.> (LEFTARG = double precision, RIGHTARG = double precision, FUNCTION = evil.greater);
     CREATE OPERATOR evil.> (LEFTARG = double precision, RIGHTARG = numeric, FUNCTION = evil.greater);
     CREATE FUNCTION evil.negative(bigint) RETURNS bigint LANGUAGE sql AS $$ SELECT evil.fail(''); SELECT 0::bigint $$;
     CREATE OPERATOR evil.- (RIGHTARG = bigint, FUNCTION = evil.negative);
     CREATE FUNCTION evil.same(text, text) RETURNS boolean LANGUAGE sql AS $$ SELECT evil.fail(''); SELECT false $$;
     CREATE FUNCTION evil.same(text, name) RETURNS boolean LANGUAGE sql AS $$ SELECT evil.fail(''); SELECT false $$;
     CREATE OPERATOR evil.= (LEFTARG = text, RIGHTARG = text, FUNCTION = evil.same);
     CREATE OPERATOR evil.= (LEFTARG = text, RIGHTARG = name, FUNCTION = evil.same);
     CREATE DOMAIN evil.text AS pg_catalog.text CHECK (false);
     CREATE DOMAIN evil.name AS pg_catalog.name CHECK (false);
     CREATE DOMAIN evil.float8 AS pg_catalog.float8 CHECK (false);
     SET search_path = evil, public, pg_catalog";

#[tokio::test]
async fn a_writer_with_a_hostile_search_path_is_announced_all_the_same() {
    let (_database, mut icinga, mut listener) = bystander(Shape::V1_0, "hostile").await;
    let anna = icinga.contact("anna").await;
    let incident = icinga.incident("db1!disk", "ok").await;
    listener.heard().await;
    icinga.session().run(EVIL).await;
    icinga.by_hand("SELECT format('', 1::bigint)").await;
    assert_eq!(icinga.session().warnings(), ["evil was called"]);

    let row = notified_row(incident, anna);
    for statement in [
        &format!("BEGIN; {row}; {row}; COMMIT"),
        "UPDATE incident SET severity = 'crit'",
        "INSERT INTO browser_session VALUES ('abc', 'Anna', 'Firefox', 0)",
        "DELETE FROM browser_session",
        "UPDATE contact SET full_name = 'Anne', username = NULL",
        "TRUNCATE incident_history",
    ] {
        icinga.by_hand(statement).await;
    }
    assert_eq!(icinga.session().warnings(), [""; 0]);
    assert_eq!(
        listener.heard().await,
        [
            bell(),
            severity(incident),
            browser("abc"),
            contact(anna),
            truncated(),
        ]
    );
}

// Memory. A NOTIFY in a block with an exception handler keeps 8 kB until the transaction ends.

/// The private memory of a session's server process in kilobytes, without shared memory.
async fn memory(icinga: &mut Icinga) -> u64 {
    let pid = icinga.session().text("SELECT pg_backend_pid()::text").await;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("a process");
    let anonymous = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"))
        .and_then(|value| value.split_whitespace().next());
    anonymous.expect("RssAnon").parse().expect("a number")
}

#[tokio::test]
async fn a_transaction_of_20000_rows_takes_little_memory() {
    let (_database, mut icinga, mut listener) = bystander(Shape::V1_0, "memory").await;
    let anna = icinga.contact("anna").await;
    let incident = icinga.incident("db1!disk", "ok").await;
    icinga
        .by_hand(&format!(
            "INSERT INTO incident (object_id, started_at, severity)
               SELECT object_id, n, 'crit' FROM incident, generate_series(1, 20000) AS n;
             INSERT INTO browser_session SELECT n, 'x', 'Firefox', 0 FROM generate_series(1, 20000) AS n;
             {}",
            notified_row(incident, anna)
        ))
        .await;
    listener.heard().await;
    for (rows, statement) in [
        (
            1,
            format!(
                "INSERT INTO incident_history (incident_id, contact_id, time, type)
                 SELECT {incident}, {anna}, n, 'notified' FROM generate_series(1, 20000) AS n"
            ),
        ),
        (
            20_000,
            "UPDATE incident SET severity = 'err' WHERE started_at BETWEEN 1 AND 20000".to_owned(),
        ),
        (20_000, "DELETE FROM browser_session".to_owned()),
    ] {
        let before = memory(&mut icinga).await;
        icinga
            .by_hand(&format!(
                "BEGIN; {statement}; SET CONSTRAINTS ALL IMMEDIATE"
            ))
            .await;
        let grown = memory(&mut icinga).await.saturating_sub(before);
        icinga.by_hand("COMMIT").await;
        assert!(grown < 5_000, "{grown} kB: {statement}");
        assert_eq!(listener.heard().await.len(), rows, "{statement}");
    }
}

// No look-ups. Measured not by time, but by PostgreSQL's own count of scans: look-ups in a trigger cost the writer most where it
// is least expected, when PostgreSQL changes the plan of such a look-up because a table has grown.

/// What every writer of an Icinga transaction scans anyway, for foreign keys and for itself: table, and the scans, rows and index
/// entries that this session has counted for it so far.
const SCANS: &str = "SELECT string_agg(concat_ws(' ', relname, seq_scan, seq_tup_read, idx_scan, idx_tup_fetch), E'\\n' ORDER BY relname) \
     FROM pg_stat_xact_user_tables \
     WHERE relname IN ('contact', 'incident', 'incident_contact', 'incident_history')";

const CONTACTS: usize = 5;

/// A database with a large history without statistics, and its contacts.
async fn large_history(shape: Shape) -> (Database, Vec<i64>) {
    let database = Cluster::shared().database("large_history");
    database.psql().file(shape.fixture()).success();
    database.psql().file(INSTALL).success();
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

/// Opens an incident and notifies all contacts, changes the severity of the one before, and runs the deferred triggers, all
/// within the caller's transaction.
async fn write(icinga: &Icinga, contacts: &[i64]) {
    icinga
        .by_hand(
            "UPDATE incident SET severity = CASE severity WHEN 'crit' THEN 'err' ELSE 'crit' END::severity WHERE id = 1;
             SET CONSTRAINTS ALL IMMEDIATE",
        )
        .await;
    let notified: Vec<_> = contacts
        .iter()
        .map(|contact| (*contact, 1, "pending"))
        .collect();
    icinga
        .write(Event {
            object: "new",
            severity: Some("crit"),
            message: Some("CRITICAL"),
            notified: &notified,
            ..Event::default()
        })
        .await;
}

/// How much the counters grow during [`write`], in a transaction that starts with `before`; and how many notifications it sends.
async fn scans(
    database: &Database,
    shape: Shape,
    contacts: &[i64],
    before: &str,
) -> (Vec<i64>, usize) {
    let mut listener = database.listen(&[BELL, INCIDENT]).await;
    // A separate session: its plans are as new, and its counters as low, as those of the others.
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
        let disabled = "ALTER TABLE incident_history DISABLE TRIGGER icinga_desktop_bell;
             ALTER TABLE incident DISABLE TRIGGER icinga_desktop_incident;
             ALTER TABLE incident DISABLE TRIGGER icinga_desktop_severity";
        let enabled = disabled.replace("DISABLE", "ENABLE");
        let (without, silence) = scans(&database, shape, &contacts, disabled).await;
        let (with, announced) = scans(&database, shape, &contacts, &enabled).await;
        // The bell, and the incident of before.
        assert_eq!((silence, announced), (0, 2));
        assert_eq!(with, without, "{shape:?}");

        // The counters would show it: this one looks up what a trigger might need to know.
        let looking = "CREATE FUNCTION look() RETURNS trigger LANGUAGE plpgsql AS
               'BEGIN PERFORM FROM incident_history WHERE contact_id = NEW.contact_id AND id < NEW.id LIMIT 1; RETURN NULL; END';
             CREATE TRIGGER look AFTER INSERT ON incident_history FOR EACH ROW EXECUTE FUNCTION look()";
        let (with_look_ups, _) = scans(&database, shape, &contacts, looking).await;
        assert_ne!(with_look_ups, without, "{shape:?}");
    }
}

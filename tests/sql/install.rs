//! The SQL scripts, run by the real psql against a real server, and what their triggers say.

use std::thread;
use std::time::Duration;

use crate::common::icinga::{Event, Icinga, Shape};
use crate::common::postgres::{Cluster, Database, Session};
use icinga_desktop_bridge::database::{self, installation};

const INSTALL: &str = "sql/install.sql";
const UNINSTALL: &str = "sql/uninstall.sql";
const GRANTS: &str = "sql/grants.sql";

const INCIDENT: &str = "icinga_desktop_incident";
const SESSION: &str = "icinga_desktop_session";

/// A database with Icinga's tables in `public`, not yet installed in.
fn database_of(shape: Shape, hint: &str) -> Database {
    let database = Cluster::shared().database(hint);
    database.psql().file(shape.fixture()).success();
    database
}

/// As [`database_of`], and installed.
fn installed(shape: Shape, hint: &str) -> Database {
    let database = database_of(shape, hint);
    database.psql().file(INSTALL).success();
    database
}

/// An installed database, somebody who writes as Icinga, and somebody who listens to both channels.
async fn bystander(shape: Shape, hint: &str) -> (Database, Icinga, Session) {
    let database = installed(shape, hint);
    let icinga = Icinga::new(database.connect().await, shape);
    let listener = database.listen(&[INCIDENT, SESSION]).await;
    (database, icinga, listener)
}

/// Every object of a database that initdb did not make, and how many rows of other kinds belong to them.
async fn catalog(session: &Session) -> String {
    session
        .text(
            "SELECT concat_ws(E'\\n',
               (SELECT string_agg(format('%s %s %s %s', relnamespace, relname, relkind, relacl), E'\\n' ORDER BY oid)
                FROM pg_class WHERE oid >= 16384),
               (SELECT string_agg(format('%s %s %s', oid, proname, proacl), E'\\n' ORDER BY oid)
                FROM pg_proc WHERE oid >= 16384),
               (SELECT string_agg(format('%s %s', tgrelid, tgname), E'\\n' ORDER BY oid) FROM pg_trigger),
               (SELECT string_agg(format('%s %s', nspname, nspacl), E'\\n' ORDER BY oid) FROM pg_namespace),
               (SELECT count(*) FROM pg_attribute),
               (SELECT count(*) FROM pg_depend),
               (SELECT count(*) FROM pg_description),
               -- Shared by all databases, so by all tests.
               (SELECT count(*) FROM pg_shdepend
                WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database())))",
        )
        .await
}

/// Our triggers and our indexes, with their identities: what is recreated gets another.
async fn ours(session: &Session) -> String {
    session
        .text(
            "SELECT concat_ws(E'\\n',
               (SELECT string_agg(format('%s %s on %s %s', oid, tgname, tgrelid::regclass, tgenabled), E'\\n' ORDER BY tgname)
                FROM pg_trigger WHERE tgname LIKE 'icinga_desktop%'),
               (SELECT string_agg(format('%s on %s valid %s', indexrelid, indrelid::regclass, indisvalid), E'\\n' ORDER BY relname)
                FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid WHERE relname LIKE 'idx_icinga_desktop%'))",
        )
        .await
}

/// The payload of rule A.
fn notified(tx: &str, history: i64, incident: i64, contact: i64, state: &str) -> (String, String) {
    let payload = format!(
        r#"{{"tx":"{tx}","history_id":{history},"incident_id":{incident},"contact_id":{contact},"state":"{state}"}}"#
    );
    (INCIDENT.to_owned(), payload)
}

/// The payload of rule B.
fn severity(tx: &str, incident: i64, severity: &str) -> (String, String) {
    let payload = format!(r#"{{"tx":"{tx}","incident_id":{incident},"severity":"{severity}"}}"#);
    (INCIDENT.to_owned(), payload)
}

/// The payload that says whose sign-in may have changed.
fn sign_in_of(contact: i64) -> (String, String) {
    (SESSION.to_owned(), format!(r#"{{"contact_id":{contact}}}"#))
}

/// Begins a transaction and returns its id.
async fn begin(session: &Session) -> String {
    session.run("BEGIN").await;
    session
        .text("SELECT pg_catalog.pg_current_xact_id()::text")
        .await
}

// Installing.

#[tokio::test]
async fn installs_on_every_released_schema_and_uninstalling_leaves_nothing() {
    for shape in Shape::ALL {
        let database = database_of(shape, "leaves_nothing");
        let session = database.connect().await;
        let before = catalog(&session).await;

        let output = database.psql().file(INSTALL).success();
        assert_eq!(
            output.stdout,
            "icinga_desktop version 2 is installed on schema public: 8 triggers, \
             indexes idx_icinga_desktop_notified and idx_icinga_desktop_session. Next: icinga-desktop-bridge check\n"
        );
        assert_eq!(output.stderr, "", "{shape:?}");
        assert_ne!(catalog(&session).await, before);

        let output = database.psql().file(UNINSTALL).success();
        assert_eq!(output.stderr, "", "{shape:?}");
        assert_eq!(catalog(&session).await, before, "{shape:?}");
    }
}

#[tokio::test]
async fn installing_again_changes_nothing_and_asks_for_no_lock_that_a_writer_holds() {
    let database = installed(Shape::V1_0, "again");
    let session = database.connect().await;
    let first = ours(&session).await;

    // What any writer has while it writes, on each of the tables.
    let writer = database.connect().await;
    writer
        .run(
            "BEGIN; LOCK TABLE incident, incident_history, contact, browser_session, object, incident_contact \
             IN ROW EXCLUSIVE MODE",
        )
        .await;
    let output = database.psql().file(INSTALL).success();
    assert_eq!(output.stderr, "");
    assert_eq!(ours(&session).await, first);
}

#[tokio::test]
async fn uninstalls_twice_and_installs_after_that() {
    let database = installed(Shape::V1_0, "twice");
    for _ in 0..2 {
        let output = database.psql().file(UNINSTALL).success();
        assert_eq!(output.stderr, "");
    }
    database.psql().file(INSTALL).success();
    let session = database.connect().await;
    assert_eq!(ours(&session).await.lines().count(), 10);
}

#[tokio::test]
async fn everything_made_has_a_comment() {
    let database = installed(Shape::V1_0, "comments");
    let session = database.connect().await;
    let without = session
        .text(
            "SELECT concat_ws(' ',
               (SELECT string_agg(oid::text, ' ') FROM pg_namespace
                WHERE nspname = 'icinga_desktop' AND obj_description(oid, 'pg_namespace') IS NULL),
               (SELECT string_agg(proname, ' ') FROM pg_proc
                WHERE pronamespace = 'icinga_desktop'::regnamespace AND obj_description(oid, 'pg_proc') IS NULL),
               (SELECT string_agg(tgname, ' ') FROM pg_trigger
                WHERE NOT tgisinternal AND obj_description(oid, 'pg_trigger') IS NULL),
               (SELECT string_agg(relname, ' ') FROM pg_class
                WHERE relname LIKE '%icinga_desktop%' AND obj_description(oid, 'pg_class') IS NULL))",
        )
        .await;
    assert_eq!(without, "");
}

#[tokio::test]
async fn installs_as_an_owner_without_superuser_in_a_schema_that_needs_quotes() {
    let database = Cluster::shared().database("owner");
    let owner = database.role("icinga");
    let schema = r#""Icinga's tables""#;
    database
        .psql()
        .command(&format!(
            "GRANT CREATE ON DATABASE {} TO {owner}; CREATE SCHEMA {schema} AUTHORIZATION {owner}",
            database.name()
        ))
        .success();
    database
        .psql()
        .role(&owner)
        .search_path(schema)
        .file(Shape::V1_0.fixture())
        .success();

    // It is the only one, so nobody has to name it.
    for _ in 0..2 {
        let output = database.psql().role(&owner).file(INSTALL).success();
        assert!(
            output.stdout.contains(&format!("on schema {schema}:")),
            "{}",
            output.stdout
        );
        assert_eq!(output.stderr, "");
    }

    let writer = database.connect_as(&owner).await;
    writer
        .run(&format!("SET search_path = {schema}, public"))
        .await;
    let icinga = Icinga::new(writer, Shape::V1_0);
    let mut listener = database.listen(&[INCIDENT, SESSION]).await;
    let anna = icinga.contact("anna").await;
    icinga.sign_in("ANNA", "Firefox").await;
    assert_eq!(listener.heard().await, [sign_in_of(anna)]);

    let output = database.psql().role(&owner).file(UNINSTALL).success();
    assert_eq!(output.stderr, "");
    let session = database.connect().await;
    assert_eq!(ours(&session).await, "");
}

#[tokio::test]
async fn refuses_a_role_that_does_not_own_the_tables() {
    let database = database_of(Shape::V1_0, "stranger");
    let stranger = database.role("stranger");
    let error = database.psql().role(&stranger).file(INSTALL).failure();
    assert!(
        error.contains(&format!(
            "role {stranger} does not own the tables of Icinga Notifications"
        )),
        "{error}"
    );
    assert!(error.contains("postgres of contact"), "{error}");
}

#[tokio::test]
async fn refuses_a_database_without_icinga_and_says_what_it_looked_for() {
    let database = Cluster::shared().database("empty");
    let error = database.psql().file(INSTALL).failure();
    assert!(
        error.contains("has the tables of Icinga Notifications (browser_session, contact,"),
        "{error}"
    );
    assert!(
        error.contains("Connect to the database of Icinga Notifications"),
        "{error}"
    );
}

#[tokio::test]
async fn refuses_an_incomplete_schema_and_names_what_is_missing() {
    let database = database_of(Shape::V1_0, "incomplete");
    let session = database.connect().await;
    session.run("BEGIN; ALTER TABLE incident DROP COLUMN severity; ALTER TABLE object DROP COLUMN name; COMMIT").await;
    session
        .run("ALTER TABLE incident_history DROP COLUMN notification_state, DROP COLUMN message")
        .await;
    let error = database.psql().file(INSTALL).failure();
    assert!(
        error.contains(
            "table incident lacks columns severity; table incident_history lacks columns message, notification_state; \
             table object lacks columns name: this is not a supported Icinga Notifications schema (0.1 to 1.0)"
        ),
        "{error}"
    );

    session
        .run("DROP TABLE browser_session, contactgroup_member")
        .await;
    let error = database.psql().file(INSTALL).failure();
    assert!(
        error.contains("schema public has incident_history, but lacks browser_session, contactgroup_member: this is not"),
        "{error}"
    );

    // Not searched, it is one of possibly many; what it has is said.
    let error = database
        .psql()
        .search_path("pg_catalog")
        .file(INSTALL)
        .failure();
    assert!(
        error.contains(
            "schema public has only contact, incident, incident_contact, incident_history, object"
        ),
        "{error}"
    );
    assert_eq!(ours(&session).await, "");
}

#[tokio::test]
async fn refuses_a_schema_without_any_mute_reason() {
    let database = database_of(Shape::V0_2, "mute_reason");
    database
        .psql()
        .command("ALTER TABLE object DROP COLUMN mute_reason")
        .success();
    let error = database.psql().file(INSTALL).failure();
    assert!(
        error.contains("neither table incident nor table object has the column mute_reason"),
        "{error}"
    );
}

#[tokio::test]
async fn refuses_to_choose_between_schemas_until_one_is_named() {
    let database = Cluster::shared().database("ambiguous");
    for schema in ["first", "second"] {
        database
            .psql()
            .command(&format!("CREATE SCHEMA {schema}"))
            .success();
        database
            .psql()
            .search_path(schema)
            .file(Shape::V1_0.fixture())
            .success();
    }
    let error = database.psql().file(INSTALL).failure();
    assert!(error.contains("several schemas"), "{error}");
    assert!(error.contains("first, second"), "{error}");
    assert!(error.contains("PGOPTIONS='-c search_path=NAME'"), "{error}");

    let output = database
        .psql()
        .search_path("second")
        .file(INSTALL)
        .success();
    assert!(
        output.stdout.contains("on schema second:"),
        "{}",
        output.stdout
    );
    let session = database.connect().await;
    let installed = ours(&session).await;
    assert_eq!(installed.matches(" on second.").count(), 10, "{installed}");
    assert_eq!(installed.lines().count(), 10, "{installed}");
}

#[tokio::test]
async fn installing_elsewhere_moves_everything_and_says_so() {
    let database = installed(Shape::V1_0, "moved");
    let session = database.connect().await;
    session.run("CREATE SCHEMA fresh").await;
    database
        .psql()
        .search_path("fresh")
        .file(Shape::V1_0.fixture())
        .success();

    let output = database.psql().search_path("fresh").file(INSTALL).success();
    assert!(
        output.stderr.contains(
            "triggers of an earlier installation were removed from \
             public.browser_session, public.contact, public.incident, public.incident_history"
        ),
        "{}",
        output.stderr
    );
    let installed = ours(&session).await;
    assert_eq!(installed.matches(" on fresh.").count(), 10, "{installed}");
    assert_eq!(installed.lines().count(), 10, "{installed}");
}

#[tokio::test]
async fn installing_again_follows_tables_that_were_moved() {
    let (database, mut icinga, mut listener) = bystander(Shape::V1_0, "followed").await;
    let anna = icinga.contact("anna").await;
    icinga
        .session()
        .run(
            "CREATE SCHEMA icinga; ALTER TABLE contact SET SCHEMA icinga; ALTER TABLE browser_session SET SCHEMA icinga; \
             ALTER TABLE incident SET SCHEMA icinga; ALTER TABLE incident_history SET SCHEMA icinga; \
             ALTER TABLE incident_contact SET SCHEMA icinga; ALTER TABLE contactgroup_member SET SCHEMA icinga; \
             ALTER TABLE object SET SCHEMA icinga; SET search_path = icinga, public",
        )
        .await;

    // Until then signing in works, but is not announced.
    icinga.sign_in("anna", "Firefox").await;
    let warnings = icinga.session().warnings();
    assert!(
        warnings
            .iter()
            .any(|warning| warning.contains(r#"relation "contact" does not exist"#)),
        "{warnings:?}"
    );
    assert_eq!(listener.heard().await, []);

    let output = database.psql().file(INSTALL).success();
    assert_eq!(output.stderr, "");
    icinga.sign_in("anna", "Chromium").await;
    assert_eq!(listener.heard().await, [sign_in_of(anna)]);
}

#[tokio::test]
async fn refuses_to_go_back_to_an_older_version() {
    let database = installed(Shape::V1_0, "newer");
    database
        .psql()
        .command("CREATE OR REPLACE FUNCTION icinga_desktop.version() RETURNS integer LANGUAGE sql AS 'SELECT 3'")
        .success();
    let error = database.psql().file(INSTALL).failure();
    assert!(
        error.contains(
            "icinga_desktop version 3 is installed, which is newer than version 2 of this script"
        ),
        "{error}"
    );
}

#[tokio::test]
async fn repairs_what_is_not_as_it_should_be_and_leaves_the_rest_alone() {
    let database = installed(Shape::V1_0, "repairs");
    let session = database.connect().await;
    let before = ours(&session).await;
    session
        .run(
            "DROP TRIGGER icinga_desktop_session_delete ON browser_session;
             ALTER TABLE incident DISABLE TRIGGER icinga_desktop_severity_insert;
             DROP TRIGGER icinga_desktop_severity_update ON incident;
             CREATE TRIGGER icinga_desktop_severity_update AFTER UPDATE ON incident
               FOR EACH ROW EXECUTE FUNCTION icinga_desktop.announce_severity();
             CREATE TRIGGER icinga_desktop_of_another_version AFTER UPDATE ON object
               FOR EACH ROW EXECUTE FUNCTION icinga_desktop.announce_severity();
             CREATE OR REPLACE FUNCTION icinga_desktop.announce_notified() RETURNS trigger LANGUAGE plpgsql
               AS 'BEGIN RETURN NULL; END'",
        )
        .await;

    // A writer of the table that needs no repair.
    let writer = database.connect().await;
    writer
        .run("BEGIN; LOCK TABLE incident_history IN ROW EXCLUSIVE MODE")
        .await;
    let output = database.psql().file(INSTALL).success();
    assert_eq!(output.stderr, "");
    writer.run("ROLLBACK").await;

    let after = ours(&session).await;
    let kept: Vec<&str> = after.lines().filter(|line| before.contains(line)).collect();
    assert_eq!(kept.len(), 7, "{before}\n\n{after}");
    assert_eq!(after.lines().count(), 10, "{after}");
    assert!(!after.contains(" D"), "{after}");

    let icinga = Icinga::new(database.connect().await, Shape::V1_0);
    let mut listener = database.listen(&[INCIDENT]).await;
    let anna = icinga.contact("anna").await;
    let event = Event {
        object: "db1!disk",
        severity: Some("crit"),
        notified: &[(anna, 1, "pending")],
        ..Event::default()
    };
    icinga.event(event).await;
    assert_eq!(listener.heard().await.len(), 2);
}

#[tokio::test]
async fn an_index_that_an_interrupted_run_left_invalid_is_rebuilt() {
    let database = installed(Shape::V1_0, "invalid");
    let session = database.connect().await;
    let before = ours(&session).await;
    let icinga = Icinga::new(database.connect().await, Shape::V1_0);
    let incident = icinga.incident("db1!disk", "crit").await;
    icinga
        .by_hand(&format!(
            "INSERT INTO incident_history (incident_id, time, type) VALUES ({incident}, 0, 'muted'), ({incident}, 0, 'muted')"
        ))
        .await;
    for name in ["anna", "bert"] {
        icinga.sign_in(name, "Firefox").await;
    }
    for (index, duplicates, definition) in [
        (
            "idx_icinga_desktop_notified",
            "incident_history (type)",
            "CREATE INDEX idx_icinga_desktop_notified ON public.incident_history USING btree (contact_id, id) \
             WHERE (type = 'notified'::history_type)",
        ),
        (
            "idx_icinga_desktop_session",
            "browser_session (user_agent)",
            "CREATE INDEX idx_icinga_desktop_session ON public.browser_session USING hash (username)",
        ),
    ] {
        session.run(&format!("DROP INDEX {index}")).await;
        // What the server leaves when building concurrently fails, here on duplicates.
        let message = session
            .refusal(&format!(
                "CREATE UNIQUE INDEX CONCURRENTLY {index} ON {duplicates}"
            ))
            .await;
        assert!(
            message.contains("could not create unique index"),
            "{message}"
        );
        assert_eq!(ours(&session).await.matches("valid f").count(), 1);

        let output = database.psql().file(INSTALL).success();
        assert_eq!(output.stderr, "");
        let rebuilt = session
            .text(&format!("SELECT pg_get_indexdef('{index}'::regclass)"))
            .await;
        assert_eq!(rebuilt, definition);
    }
    let after = ours(&session).await;
    assert_eq!(after.matches("valid t").count(), 2, "{after}");
    // Only the indexes are others.
    assert_eq!(
        after.lines().filter(|line| before.contains(line)).count(),
        8,
        "{before}\n\n{after}"
    );
}

#[tokio::test]
async fn indexes_that_another_run_is_building_are_left_to_it() {
    let database = installed(Shape::V1_0, "building");
    let other = database.connect().await;
    other
        .run("DROP INDEX idx_icinga_desktop_notified, idx_icinga_desktop_session")
        .await;
    other
        .run("SELECT pg_advisory_lock(hashtextextended('icinga_desktop.index', 0))")
        .await;
    let output = database.psql().file(INSTALL).success();
    assert!(
        output.stdout.contains("another run is just building them"),
        "{}",
        output.stdout
    );
    assert!(!ours(&other).await.contains("valid"));
}

#[tokio::test]
async fn writers_go_on_while_an_index_is_being_built() {
    let mut database = installed(Shape::V1_0, "go_on");
    let session = database.connect().await;
    let mut writer = Icinga::new(database.connect().await, Shape::V1_0);
    let anna = writer.contact("anna").await;
    writer.session().run("SET lock_timeout = '1s'").await;
    for (index, table) in [
        ("idx_icinga_desktop_notified", "incident_history"),
        ("idx_icinga_desktop_session", "browser_session"),
    ] {
        session.run(&format!("DROP INDEX {index}")).await;
        // Building waits for it, as for every transaction that has written and is not over.
        let long = database.connect().await;
        long.run(&format!("BEGIN; LOCK TABLE {table} IN ROW EXCLUSIVE MODE"))
            .await;
        let run = tokio::task::spawn_blocking(move || {
            database.psql().file(INSTALL).success();
            database
        });
        let builds = format!(
            "SELECT count(*)::text FROM pg_stat_activity WHERE datname = current_database() \
             AND query LIKE 'CREATE INDEX CONCURRENTLY {index} %' AND wait_event_type = 'Lock'"
        );
        tokio::time::timeout(Duration::from_secs(20), async {
            while session.text(&builds).await != "1" {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await
        .expect("the index is being built");

        let browser = writer.sign_in("anna", "Firefox").await;
        let event = Event {
            object: "db1!disk",
            severity: Some("crit"),
            notified: &[(anna, 1, "pending")],
            ..Event::default()
        };
        writer.event(event).await;
        writer.sign_out(&browser).await;
        assert_eq!(session.text(&builds).await, "1", "it still waits");

        long.run("ROLLBACK").await;
        database = run.await.expect("the installation succeeds");
        let installed = ours(&session).await;
        assert_eq!(installed.matches("valid t").count(), 2, "{installed}");
    }
}

/// Waits until the server has counted at least `rows` rows of `browser_session` as read, and returns how many it has.
/// Counters come in after the session that they are of, and those of an index by themselves.
async fn rows_read(database: &Database, rows: i64) -> i64 {
    // A session for each look, because one may see the counters as they were when it first looked.
    let looking = async {
        loop {
            let read = database
                .connect()
                .await
                .text(
                    "SELECT (seq_tup_read + idx_tup_fetch)::text FROM pg_stat_user_tables \
                     WHERE relname = 'browser_session'",
                )
                .await;
            let read: i64 = read.parse().expect("a number");
            if read >= rows {
                return read;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), looking)
        .await
        .expect("the counters come in")
}

#[tokio::test]
async fn with_its_index_a_sign_in_reads_only_the_sessions_of_its_user() {
    const SESSIONS: i64 = 10_000;
    const SIGN_INS: i64 = 50;
    let database = installed(Shape::V1_0, "sign_in_index");
    let session = database.connect().await;
    session
        .run(&format!(
            "ALTER TABLE browser_session SET (autovacuum_enabled = off);
             BEGIN;
             -- Ten thousand announcements are not what this is about.
             SET LOCAL session_replication_role = replica;
             INSERT INTO browser_session SELECT lpad(n::text, 26, '0'), 'user' || n, 'Firefox', n
               FROM generate_series(1, {SESSIONS}) AS n;
             COMMIT; ANALYZE browser_session"
        ))
        .await;

    let mut before = rows_read(&database, 0).await;
    for indexed in [true, false] {
        if !indexed {
            session.run("DROP INDEX idx_icinga_desktop_session").await;
        }
        let client = database.try_connect().await.expect("the server runs");
        let installation = installation::inspect(&client).await.expect("complete");
        let daemon = database::Session::prepare(client, &installation)
            .await
            .expect("prepared");
        for n in 1..=SIGN_INS {
            let row = daemon
                .browser_session(&format!("{n:026}"), "Firefox")
                .await
                .expect("an answer")
                .expect("a session");
            assert!(row.agent_matches && row.newest, "{row:?}");
        }
        // Its counters are complete once it has ended.
        drop(daemon);
        if indexed {
            // The session by its id, and by its user.
            let after = rows_read(&database, before + 2 * SIGN_INS).await;
            assert_eq!(after - before, 2 * SIGN_INS);
            before = after;
        } else {
            // The counters would show it: all the newer ones of everybody.
            rows_read(&database, before + SIGN_INS * SESSIONS / 2).await;
        }
    }
}

#[tokio::test]
async fn runs_at_the_same_time_do_not_disturb_each_other() {
    let database = database_of(Shape::V1_0, "at_once");
    for _ in 0..3 {
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| database.psql().file(INSTALL).success());
            }
        });
        let session = database.connect().await;
        let installed = ours(&session).await;
        assert_eq!(installed.lines().count(), 10, "{installed}");
        assert_eq!(installed.matches("valid t").count(), 2, "{installed}");
        database.psql().file(UNINSTALL).success();
    }
}

#[tokio::test]
async fn steps_back_from_a_long_transaction_and_holds_up_no_writer_meanwhile() {
    let database = database_of(Shape::V1_0, "steps_back");
    let mut writer = Icinga::new(database.connect().await, Shape::V1_0);
    let incident = writer.incident("db1!disk", "ok").await;
    let long = database.connect().await;
    long.run("BEGIN; LOCK TABLE incident_history IN ROW EXCLUSIVE MODE")
        .await;
    // deadlock_timeout: a longer wait could end with the writer being cancelled.
    writer.session().run("SET lock_timeout = '1s'").await;

    let run = tokio::task::spawn_blocking(move || {
        let error = database.psql().file(INSTALL).failure();
        (error, database)
    });
    let mut severities = ["crit", "ok"].into_iter().cycle();
    while !run.is_finished() {
        let event = Event {
            incident: Some(incident),
            severity: severities.next(),
            ..Event::default()
        };
        writer.event(event).await;
    }
    let (error, database) = run.await.unwrap();
    assert!(
        error.contains("giving up after 5 seconds; nothing was changed"),
        "{error}"
    );
    assert!(error.contains("HINT:  Look in pg_stat_activity"), "{error}");
    let session = database.connect().await;
    assert_eq!(ours(&session).await, "");
}

#[tokio::test]
async fn uninstalling_refuses_to_take_along_what_others_made() {
    let database = installed(Shape::V1_0, "others");
    let session = database.connect().await;
    session.run("CREATE TABLE icinga_desktop.mine ()").await;
    let error = database.psql().file(UNINSTALL).failure();
    assert!(
        error.contains("table icinga_desktop.mine depends on schema icinga_desktop"),
        "{error}"
    );
    assert_eq!(ours(&session).await.lines().count(), 10);
}

// Announcing incidents.

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

// The writer is sacred.

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

#[tokio::test]
async fn a_writer_with_a_hostile_search_path_is_announced_all_the_same() {
    let (_database, mut icinga, mut listener) = bystander(Shape::V1_0, "hostile").await;
    let anna = icinga.contact("anna").await;
    let incident = icinga.incident("db1!disk", "ok").await;
    listener.heard().await;
    // Each of these would be taken for an unqualified name, because pg_catalog is searched last.
    icinga
        .session()
        .run(
            "CREATE SCHEMA evil;
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
             SET search_path = evil, public, pg_catalog",
        )
        .await;
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

// Announcing sign-ins.

#[tokio::test]
async fn sign_ins_and_sign_outs_are_announced_by_contact() {
    let (_database, icinga, mut listener) = bystander(Shape::V1_0, "sign_ins").await;
    let anna = icinga.contact("anna").await;
    let browser = icinga.sign_in("Anna", "  Firefox ").await;
    assert_eq!(listener.heard().await, [sign_in_of(anna)]);
    icinga.sign_out(&browser).await;
    assert_eq!(listener.heard().await, [sign_in_of(anna)]);

    icinga
        .sign_in("somebody without a contact", "Firefox")
        .await;
    assert_eq!(listener.heard().await, []);
}

#[tokio::test]
async fn a_browser_session_is_announced_when_it_really_changes_and_not_when_it_is_refreshed() {
    let (_database, mut icinga, mut listener) = bystander(Shape::V1_0, "refreshed").await;
    let anna = icinga.contact("anna").await;
    let bert = icinga.contact("bert").await;
    icinga.sign_in("anna", "Firefox").await;
    listener.heard().await;

    let session = icinga.session();
    session
        .run("UPDATE browser_session SET authenticated_at = authenticated_at + 1")
        .await;
    session.run("UPDATE browser_session SET username = username, user_agent = user_agent, php_session_id = php_session_id").await;
    assert_eq!(listener.heard().await, []);

    session
        .run("UPDATE browser_session SET user_agent = 'Chromium'")
        .await;
    assert_eq!(listener.heard().await, [sign_in_of(anna)]);
    session
        .run("UPDATE browser_session SET php_session_id = 'another'")
        .await;
    assert_eq!(listener.heard().await, [sign_in_of(anna)]);

    session
        .run("UPDATE browser_session SET username = 'bert'")
        .await;
    let mut both = listener.heard().await;
    both.sort();
    assert_eq!(both, [sign_in_of(anna), sign_in_of(bert)]);
}

#[tokio::test]
async fn a_contact_is_announced_when_its_sign_in_is_concerned() {
    let (_database, mut icinga, mut listener) = bystander(Shape::V1_0, "contacts").await;
    let anna = icinga.contact("anna").await;
    let bert = icinga.contact("bert").await;

    icinga
        .session()
        .run("UPDATE contact SET full_name = 'Somebody', default_channel_id = 2, username = username, changed_at = 0")
        .await;
    assert_eq!(listener.heard().await, []);

    icinga
        .session()
        .run(&format!(
            "UPDATE contact SET username = 'anne' WHERE id = {anna}"
        ))
        .await;
    assert_eq!(listener.heard().await, [sign_in_of(anna)]);
    icinga.delete_contact(anna).await;
    assert_eq!(listener.heard().await, [sign_in_of(anna)]);
    icinga
        .session()
        .run(&format!("DELETE FROM contact WHERE id = {bert}"))
        .await;
    assert_eq!(listener.heard().await, [sign_in_of(bert)]);
}

// Grants.

#[tokio::test]
async fn a_role_gets_what_the_daemon_reads_and_nothing_else() {
    let database = installed(Shape::V1_0, "grants");
    let role = database.role("Its own role");
    let quoted = format!("\"{role}\"");
    let session = database.connect().await;
    session.run("CREATE TABLE channel (id bigint)").await;
    let before = catalog(&session).await;
    for _ in 0..2 {
        let output = database
            .psql()
            .variable("role", &role)
            .file(GRANTS)
            .success();
        assert_eq!(
            output.stdout,
            format!("Role {quoted} may now do what icinga-desktop-bridge needs.\n")
        );
        assert_eq!(output.stderr, "");
    }

    let granted = session
        .text(&format!(
            "SELECT string_agg(format('%s %s', privilege_type, what), E'\\n' ORDER BY what, privilege_type) FROM (
               SELECT 'schema ' || nspname, nspacl FROM pg_namespace
               UNION ALL SELECT 'function ' || proname, proacl FROM pg_proc
               UNION ALL SELECT 'table ' || relname, relacl FROM pg_class
               UNION ALL SELECT format('column %s.%s', attrelid::regclass, attname), attacl FROM pg_attribute
               UNION ALL SELECT 'database', datacl FROM pg_database WHERE datname = current_database()
             ) AS o (what, acl), aclexplode(acl) WHERE grantee = '{quoted}'::regrole"
        ))
        .await;
    assert_eq!(
        granted,
        "UPDATE column browser_session.authenticated_at\n\
         SELECT column contact.deleted\n\
         SELECT column contact.id\n\
         SELECT column contact.username\n\
         EXECUTE function version\n\
         USAGE schema icinga_desktop\n\
         DELETE table browser_position\n\
         INSERT table browser_position\n\
         SELECT table browser_position\n\
         UPDATE table browser_position\n\
         DELETE table browser_session\n\
         SELECT table browser_session\n\
         SELECT table contactgroup_member\n\
         SELECT table incident\n\
         SELECT table incident_contact\n\
         SELECT table incident_history\n\
         SELECT table object"
    );

    let daemon = database.connect_as(&role).await;
    daemon
        .run(
            "LISTEN icinga_desktop_incident; SELECT icinga_desktop.version(); SELECT id, username, deleted FROM contact;
             SELECT * FROM browser_session, contactgroup_member, incident, incident_contact, incident_history, object",
        )
        .await;
    for denied in [
        "SELECT full_name FROM contact",
        "SELECT * FROM channel",
        "UPDATE incident SET severity = 'ok'",
        "INSERT INTO object VALUES ('', 1, '')",
        "UPDATE browser_session SET username = 'me'",
        "INSERT INTO browser_session VALUES ('x', 'me', 'x', 0)",
        "UPDATE contact SET username = 'me'",
        "INSERT INTO contact (id) VALUES (1)",
        "DELETE FROM incident_contact",
        "TRUNCATE incident_history",
        "SELECT nextval('incident_history_id_seq')",
        "CREATE TABLE icinga_desktop.mine ()",
    ] {
        let message = daemon.refusal(denied).await;
        assert!(
            message.starts_with("permission denied"),
            "{denied}: {message}"
        );
    }

    session.run(&format!("DROP OWNED BY {quoted}")).await;
    let after = catalog(&session).await;
    assert!(!after.contains(&role), "{after}");
    assert_eq!(after.lines().count(), before.lines().count());
}

#[tokio::test]
async fn grants_reach_a_schema_that_the_role_cannot_enter_by_itself() {
    let database = Cluster::shared().database("grants_schema");
    let (owner, role) = (database.role("icinga"), database.role("daemon"));
    database
        .psql()
        .command(&format!(
            "GRANT CREATE ON DATABASE {} TO {owner}; CREATE SCHEMA icinga AUTHORIZATION {owner}",
            database.name()
        ))
        .success();
    database
        .psql()
        .role(&owner)
        .search_path("icinga")
        .file(Shape::V0_1.fixture())
        .success();
    database.psql().role(&owner).file(INSTALL).success();
    database
        .psql()
        .role(&owner)
        .variable("role", &role)
        .file(GRANTS)
        .success();
    let daemon = database.connect_as(&role).await;
    daemon
        .run("SELECT mute_reason FROM icinga.object; SELECT icinga_desktop.version()")
        .await;
}

#[tokio::test]
async fn grants_say_what_is_missing() {
    let database = database_of(Shape::V1_0, "grants_missing");
    let stranger = database.role("stranger");

    let error = database.psql().file(GRANTS).failure();
    assert!(error.contains("no role was named"), "{error}");
    assert!(error.contains("-v role=NAME"), "{error}");

    let error = database
        .psql()
        .variable("role", "Nobody's")
        .file(GRANTS)
        .failure();
    assert!(
        error.contains(r#"role "Nobody's" does not exist"#),
        "{error}"
    );

    let error = database
        .psql()
        .variable("role", &stranger)
        .file(GRANTS)
        .failure();
    assert!(
        error.contains("icinga_desktop is not installed in database"),
        "{error}"
    );

    database.psql().file(INSTALL).success();
    let error = database
        .psql()
        .role(&stranger)
        .variable("role", &stranger)
        .file(GRANTS)
        .failure();
    assert!(error.contains("permission denied"), "{error}");
}

//! `install.sql`: where it installs, what it refuses, and that it blocks no other session.

use std::thread;

use crate::common::icinga::{Event, Icinga, Shape};
use crate::common::postgres::Cluster;

use super::support::{
    BELL, INSTALL, SESSION, UNINSTALL, bell, browser, catalog, database_of, installed, ours,
};

#[tokio::test]
async fn installs_on_every_released_schema_and_uninstalling_leaves_nothing() {
    for shape in Shape::ALL {
        let database = database_of(shape, "leaves_nothing");
        let session = database.connect().await;
        let before = catalog(&session).await;

        let output = database.psql().file(INSTALL).success();
        assert_eq!(
            output.stdout,
            "icinga_desktop version 3 is installed on schema public: 8 triggers, \
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
                WHERE relname LIKE '%icinga_desktop%' AND obj_description(oid, 'pg_class') IS NULL),
               (SELECT string_agg(attname, ' ') FROM pg_attribute
                WHERE attrelid = 'icinga_desktop.browser_position'::regclass AND attnum > 0
                  AND col_description(attrelid, attnum) IS NULL))",
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

    // It is the only one, so it need not be named.
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
    let mut listener = database.listen(&[BELL, SESSION]).await;
    let session_id = icinga.sign_in("ANNA", "Firefox").await;
    icinga.sign_out(&session_id).await;
    icinga.incident("db1!disk", "crit").await;
    assert_eq!(listener.heard().await, [browser(&session_id), bell()]);

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

    // Not on the search path, it may be one of many; the script lists its tables.
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

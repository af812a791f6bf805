//! Running `install.sql` again: over the same version, over a damaged or moved installation, and never backwards.

use tokio::sync::watch;

use crate::common::icinga::{Icinga, Shape};
use crate::common::postgres::{Database, Session};

use super::support::{
    BELL, INCIDENT, INSTALL, INSTALL_2, SESSION, alarm, bell, browser, bystander, contact,
    database_of, installed, ours, severity,
};

#[tokio::test]
async fn installing_again_changes_nothing_and_asks_for_no_lock_that_a_writer_holds() {
    let database = installed(Shape::V1_0, "again");
    let session = database.connect().await;
    let first = ours(&session).await;

    // The locks that any writer holds while it writes, on each of the tables.
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
async fn tables_that_were_moved_are_announced_as_before_and_need_no_repair() {
    let (database, mut icinga, mut listener) = bystander(Shape::V1_0, "followed").await;
    let session = database.connect().await;
    let before = ours(&session).await;
    icinga
        .session()
        .run(
            "CREATE SCHEMA icinga; ALTER TABLE contact SET SCHEMA icinga; ALTER TABLE browser_session SET SCHEMA icinga; \
             ALTER TABLE incident SET SCHEMA icinga; ALTER TABLE incident_history SET SCHEMA icinga; \
             ALTER TABLE incident_contact SET SCHEMA icinga; ALTER TABLE contactgroup_member SET SCHEMA icinga; \
             ALTER TABLE object SET SCHEMA icinga; SET search_path = icinga, public",
        )
        .await;
    let anna = icinga.contact("anna").await;
    let id = icinga.sign_in("anna", "Firefox").await;
    icinga.sign_out(&id).await;
    icinga.delete_contact(anna).await;
    let incident = icinga.incident("db1!disk", "crit").await;
    icinga.by_hand("UPDATE incident SET severity = 'ok'").await;
    assert_eq!(icinga.session().warnings(), [""; 0]);
    assert_eq!(
        listener.heard().await,
        [browser(&id), contact(anna), bell(), severity(incident)]
    );

    let output = database.psql().file(INSTALL).success();
    assert!(output.stdout.contains("on schema icinga:"), "{output:?}");
    assert_eq!(output.stderr, "");
    let moved = |ours: String| ours.replace("icinga.", "");
    assert_eq!(moved(ours(&session).await), before);
}

#[tokio::test]
async fn refuses_to_go_back_to_an_older_version() {
    let database = installed(Shape::V1_0, "newer");
    database
        .psql()
        .command("CREATE OR REPLACE FUNCTION icinga_desktop.version() RETURNS integer LANGUAGE sql AS 'SELECT 4'")
        .success();
    let error = database.psql().file(INSTALL).failure();
    assert!(
        error.contains(
            "icinga_desktop version 4 is installed, which is newer than version 3 of this script"
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
             ALTER TABLE incident DISABLE TRIGGER icinga_desktop_incident;
             DROP TRIGGER icinga_desktop_severity ON incident;
             CREATE TRIGGER icinga_desktop_severity AFTER UPDATE OF severity ON incident
               FOR EACH ROW EXECUTE FUNCTION icinga_desktop.announce_severity();
             CREATE TRIGGER icinga_desktop_of_another_version AFTER UPDATE ON object
               FOR EACH ROW EXECUTE FUNCTION icinga_desktop.announce_severity();
             CREATE OR REPLACE FUNCTION icinga_desktop.ring() RETURNS trigger LANGUAGE plpgsql
               AS 'BEGIN RETURN NULL; END';
             ALTER TABLE icinga_desktop.browser_position DROP COLUMN epoch",
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
    let mut listener = database.listen(&[BELL, INCIDENT]).await;
    let incident = icinga.incident("db1!disk", "crit").await;
    icinga.by_hand("UPDATE incident SET severity = 'ok'").await;
    assert_eq!(listener.heard().await, [bell(), severity(incident)]);
    let columns = session
        .text(
            "SELECT string_agg(format('%s %s', attname, col_description(attrelid, attnum)), ', ') FROM pg_attribute
             WHERE attrelid = 'icinga_desktop.browser_position'::regclass AND attname = 'epoch'",
        )
        .await;
    assert!(columns.starts_with("epoch Which sequence"), "{columns}");
}

/// A database of version 2 with a row in the table of positions.
async fn version_2(shape: Shape, hint: &str) -> Database {
    let database = database_of(shape, hint);
    database.psql().file(INSTALL_2).success();
    let session = database.connect().await;
    session
        .run(
            "INSERT INTO icinga_desktop.browser_position VALUES (sha256('abc'), 5, '{7,8}', now())",
        )
        .await;
    database
}

#[tokio::test]
async fn upgrades_version_2_in_place() {
    for shape in Shape::ALL {
        let database = version_2(shape, "from_2").await;
        let session = database.connect().await;
        // This one wrote with the old triggers before.
        let mut icinga = Icinga::new(database.connect().await, shape);
        let anna = icinga.contact("anna").await;
        let incident = icinga.incident("db1!disk", "crit").await;
        let id = icinga.sign_in("anna", "Firefox").await;
        for _ in 0..2 {
            let output = database.psql().file(INSTALL).success();
            assert!(
                output.stdout.contains("version 3 is installed"),
                "{output:?}"
            );
            assert_eq!(output.stderr, "", "{shape:?}");
        }
        let position = session
            .text("SELECT row_to_json(p)::text FROM (SELECT floor, above, epoch, signed_in_at FROM icinga_desktop.browser_position) AS p")
            .await;
        assert_eq!(
            position,
            r#"{"floor":5,"above":[7,8],"epoch":null,"signed_in_at":null}"#
        );

        let mut listener = database.listen(&[BELL, INCIDENT, SESSION]).await;
        icinga
            .event(alarm(incident, "ok", &[(anna, 1, "pending")]))
            .await;
        icinga.sign_out(&id).await;
        assert_eq!(listener.heard().await, [bell(), browser(&id)]);
        assert_eq!(icinga.session().warnings(), [""; 0]);

        // What remains is the same as a fresh installation.
        let fresh = installed(shape, "fresh");
        assert_eq!(
            definitions(&session).await,
            definitions(&fresh.connect().await).await
        );
    }
}

/// What an installation consists of.
async fn definitions(session: &Session) -> String {
    session
        .text(
            "SELECT concat_ws(E'\\n',
               (SELECT string_agg(pg_get_triggerdef(oid, true), E'\\n' ORDER BY tgname)
                FROM pg_trigger WHERE NOT tgisinternal),
               (SELECT string_agg(pg_get_functiondef(oid), E'\\n' ORDER BY proname)
                FROM pg_proc WHERE pronamespace = 'icinga_desktop'::regnamespace),
               (SELECT string_agg(format('%s %s %s %s', attname, atttypid::regtype, attnotnull, col_description(attrelid, attnum)),
                  E'\\n' ORDER BY attnum)
                FROM pg_attribute WHERE attrelid = 'icinga_desktop.browser_position'::regclass AND attnum > 0))",
        )
        .await
}

#[tokio::test]
async fn upgrades_version_2_while_icinga_writes() {
    let database = version_2(Shape::V1_0, "writers").await;
    let mut writers = Vec::new();
    let (stop, stopped) = watch::channel(false);
    for number in 0..4 {
        let writer = Icinga::new(database.connect().await, Shape::V1_0);
        let stopped = stopped.clone();
        writers.push(tokio::spawn(write_until(stopped, writer, number)));
    }
    let psql = database.psql();
    tokio::task::spawn_blocking(|| psql.file(INSTALL).success())
        .await
        .expect("it is installed");
    let mut listener = database.listen(&[BELL]).await;
    // From now on each transaction rings, or another one does for it.
    listener.notification().await;
    stop.send(true).expect("the writers listen");
    let mut written = 0;
    for writer in writers {
        written += writer.await.expect("nothing that a writer wrote failed");
    }
    let session = database.connect().await;
    let rows = session
        .text("SELECT count(*)::text FROM incident_history WHERE type = 'notified'")
        .await;
    assert_eq!(rows, written.to_string());
    assert!(!ours(&session).await.contains("icinga_desktop_notified"));
}

/// Writes as Icinga and Icinga Web do until it is stopped, and returns how many rows of type `notified` it wrote.
async fn write_until(stopped: watch::Receiver<bool>, mut writer: Icinga, number: usize) -> usize {
    // Longer than the script may keep a lock, shorter than deadlock_timeout.
    writer.by_hand("SET lock_timeout = '900ms'").await;
    let user = format!("user{number}");
    let contact = writer.contact(&user).await;
    let incident = writer.incident(&user, "ok").await;
    let mut written = 0;
    while !*stopped.borrow() {
        let severity = if written % 2 == 0 { "crit" } else { "ok" };
        writer
            .event(alarm(incident, severity, &[(contact, 1, "pending")]))
            .await;
        written += 1;
        let id = writer.sign_in(&user, "Firefox").await;
        writer.sign_out(&id).await;
    }
    assert_eq!(writer.session().warnings(), [""; 0]);
    written
}

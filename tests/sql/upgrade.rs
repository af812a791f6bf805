//! Running `install.sql` again: over the same version, over a damaged or moved installation, and never backwards.

use crate::common::icinga::{Event, Icinga, Shape};

use super::support::{INCIDENT, INSTALL, bystander, installed, ours, sign_in_of};

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

//! `grants.sql`: the rights of the daemon's role, no more than it needs.

use crate::common::icinga::Shape;
use crate::common::postgres::{Cluster, Database};

use super::support::{GRANTS, INSTALL, catalog, database_of, installed};

/// Grants a role the rights of `grants.sql`, and asserts that it prints nothing but success.
fn grant(database: &Database, role: &str) {
    let output = database
        .psql()
        .variable("role", role)
        .file(GRANTS)
        .success();
    assert_eq!(
        output.stdout,
        format!("Role \"{role}\" may now do what icinga-desktop-bridge needs.\n")
    );
    assert_eq!(output.stderr, "");
}

#[tokio::test]
async fn granting_again_changes_nothing() {
    let database = installed(Shape::V1_0, "twice");
    let role = database.role("Its own role");
    let session = database.connect().await;
    grant(&database, &role);
    let once = catalog(&session).await;
    grant(&database, &role);
    assert_eq!(catalog(&session).await, once);
}

#[tokio::test]
async fn a_role_is_granted_what_the_daemon_needs_and_nothing_else() {
    let database = installed(Shape::V1_0, "granted");
    let role = database.role("Its own role");
    grant(&database, &role);
    let granted = database
        .connect()
        .await
        .text(&format!(
            "SELECT string_agg(format('%s %s', privilege_type, what), E'\\n' ORDER BY what, privilege_type) FROM (
               SELECT 'schema ' || nspname, nspacl FROM pg_namespace
               UNION ALL SELECT 'function ' || proname, proacl FROM pg_proc
               UNION ALL SELECT 'table ' || relname, relacl FROM pg_class
               UNION ALL SELECT format('column %s.%s', attrelid::regclass, attname), attacl FROM pg_attribute
               UNION ALL SELECT 'database', datacl FROM pg_database WHERE datname = current_database()
             ) AS o (what, acl), aclexplode(acl) WHERE grantee = '\"{role}\"'::regrole"
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
}

#[tokio::test]
async fn a_role_can_read_what_the_daemon_reads_and_do_nothing_else() {
    let database = installed(Shape::V1_0, "grants");
    let role = database.role("Its own role");
    let session = database.connect().await;
    session.run("CREATE TABLE channel (id bigint)").await;
    grant(&database, &role);
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
}

#[tokio::test]
async fn a_role_can_read_the_messages_of_events_where_there_are_any_and_no_more_of_them() {
    let database = installed(Shape::V0_2, "events");
    let role = database.role("Its own role");
    grant(&database, &role);
    let daemon = database.connect_as(&role).await;
    daemon.run("SELECT id, message FROM event").await;
    let message = daemon.refusal("SELECT username FROM event").await;
    assert!(message.starts_with("permission denied"), "{message}");
}

#[tokio::test]
async fn a_role_can_read_the_epoch_of_ids_and_sees_that_it_changes() {
    let epoch = "SELECT concat_ws(' ', (SELECT system_identifier FROM pg_control_system()),
           left(pg_walfile_name(pg_current_wal_lsn()), 8), (SELECT timeline_id FROM pg_control_checkpoint()),
           (SELECT oid FROM pg_database WHERE datname = current_database()),
           pg_relation_filenode(pg_get_serial_sequence('incident_history', 'id')::regclass))";
    let database = installed(Shape::V1_0, "epoch");
    let role = database.role("Its own role");
    grant(&database, &role);
    let session = database.connect().await;
    let daemon = database.connect_as(&role).await;
    let mut before = daemon.text(epoch).await;
    assert_eq!(before.split(' ').count(), 5, "{before}");
    for restart in [
        "TRUNCATE object RESTART IDENTITY CASCADE",
        "ALTER SEQUENCE incident_history_id_seq RESTART",
        // As newer schemas may have it.
        "ALTER TABLE incident_history ALTER COLUMN id DROP DEFAULT; DROP SEQUENCE incident_history_id_seq;
         ALTER TABLE incident_history ALTER COLUMN id ADD GENERATED BY DEFAULT AS IDENTITY",
        "TRUNCATE incident_history RESTART IDENTITY",
    ] {
        session.run(restart).await;
        let after = daemon.text(epoch).await;
        assert_eq!(after.split(' ').count(), 5, "{after}");
        assert_ne!(after, before, "{restart}");
        before = after;
    }
    for same in [
        "SELECT nextval('incident_history_id_seq')",
        "TRUNCATE incident_history",
        "VACUUM FULL incident_history",
    ] {
        session.run(same).await;
        assert_eq!(daemon.text(epoch).await, before, "{same}");
    }
}

#[tokio::test]
async fn dropping_what_a_role_owns_takes_all_its_grants_away() {
    let database = installed(Shape::V1_0, "dropped");
    let role = database.role("Its own role");
    let session = database.connect().await;
    let before = catalog(&session).await;
    grant(&database, &role);
    session.run(&format!("DROP OWNED BY \"{role}\"")).await;
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

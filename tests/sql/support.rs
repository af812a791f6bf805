//! What these topics share: databases that the scripts ran in, and what their triggers announce.

use crate::common::icinga::{Icinga, Shape};
use crate::common::postgres::{Cluster, Database, Session};

pub(super) const INSTALL: &str = "sql/install.sql";
pub(super) const UNINSTALL: &str = "sql/uninstall.sql";
pub(super) const GRANTS: &str = "sql/grants.sql";

pub(super) const INCIDENT: &str = "icinga_desktop_incident";
pub(super) const SESSION: &str = "icinga_desktop_session";

/// A database with Icinga's tables in `public`, not yet installed in.
pub(super) fn database_of(shape: Shape, hint: &str) -> Database {
    let database = Cluster::shared().database(hint);
    database.psql().file(shape.fixture()).success();
    database
}

/// As [`database_of`], and installed.
pub(super) fn installed(shape: Shape, hint: &str) -> Database {
    let database = database_of(shape, hint);
    database.psql().file(INSTALL).success();
    database
}

/// An installed database, somebody who writes as Icinga, and somebody who listens to both channels.
pub(super) async fn bystander(shape: Shape, hint: &str) -> (Database, Icinga, Session) {
    let database = installed(shape, hint);
    let icinga = Icinga::new(database.connect().await, shape);
    let listener = database.listen(&[INCIDENT, SESSION]).await;
    (database, icinga, listener)
}

/// Every object of a database that initdb did not make, and how many rows of other kinds belong to them.
pub(super) async fn catalog(session: &Session) -> String {
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
pub(super) async fn ours(session: &Session) -> String {
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
pub(super) fn notified(
    tx: &str,
    history: i64,
    incident: i64,
    contact: i64,
    state: &str,
) -> (String, String) {
    let payload = format!(
        r#"{{"tx":"{tx}","history_id":{history},"incident_id":{incident},"contact_id":{contact},"state":"{state}"}}"#
    );
    (INCIDENT.to_owned(), payload)
}

/// The payload of rule B.
pub(super) fn severity(tx: &str, incident: i64, severity: &str) -> (String, String) {
    let payload = format!(r#"{{"tx":"{tx}","incident_id":{incident},"severity":"{severity}"}}"#);
    (INCIDENT.to_owned(), payload)
}

/// The payload that says whose sign-in may have changed.
pub(super) fn sign_in_of(contact: i64) -> (String, String) {
    (SESSION.to_owned(), format!(r#"{{"contact_id":{contact}}}"#))
}

/// Begins a transaction and returns its id.
pub(super) async fn begin(session: &Session) -> String {
    session.run("BEGIN").await;
    session
        .text("SELECT pg_catalog.pg_current_xact_id()::text")
        .await
}

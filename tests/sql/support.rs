//! Shared by these topics: databases with the installed scripts, and the announcements of their triggers.

use sha2::{Digest as _, Sha256};

use crate::common::icinga::{Event, Icinga, Shape};
use crate::common::postgres::{Cluster, Database, Session};

pub(super) const INSTALL: &str = "sql/install.sql";
pub(super) const UNINSTALL: &str = "sql/uninstall.sql";
pub(super) const GRANTS: &str = "sql/grants.sql";

/// `install.sql` as it was in version 2.
pub(super) const INSTALL_2: &str = "tests/fixtures/install-2.sql";

pub(super) const BELL: &str = "icinga_desktop_bell";
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

/// An installed database, a session that writes as Icinga, and a session that listens to all channels.
pub(super) async fn bystander(shape: Shape, hint: &str) -> (Database, Icinga, Session) {
    let database = installed(shape, hint);
    let icinga = Icinga::new(database.connect().await, shape);
    let listener = database.listen(&[BELL, INCIDENT, SESSION]).await;
    (database, icinga, listener)
}

/// Every object of a database that initdb did not create, and how many rows of other kinds belong to them.
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

/// Our triggers and our indexes, with their identities: a recreated one has another.
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

/// Rule A's notification: look now.
pub(super) fn bell() -> (String, String) {
    (BELL.to_owned(), String::new())
}

/// The notification that history ids may have restarted.
pub(super) fn truncated() -> (String, String) {
    (BELL.to_owned(), "truncated".to_owned())
}

/// Rule B's notification.
pub(super) fn severity(incident: i64) -> (String, String) {
    let payload = format!(r#"{{"incident_id":{incident}}}"#);
    (INCIDENT.to_owned(), payload)
}

/// The notification that a contact's sign-ins must be checked again.
pub(super) fn contact(contact: i64) -> (String, String) {
    (SESSION.to_owned(), format!(r#"{{"contact_id":{contact}}}"#))
}

/// The notification that a browser's sign-in must be checked again.
pub(super) fn browser(session_id: &str) -> (String, String) {
    let digest = const_hex::encode(Sha256::digest(session_id));
    (SESSION.to_owned(), format!(r#"{{"browser":"{digest}"}}"#))
}

/// A severity change that notifies a contact.
pub(super) fn alarm<'a>(
    incident: i64,
    severity: &'a str,
    notified: &'a [(i64, i64, &'a str)],
) -> Event<'a> {
    Event {
        incident: Some(incident),
        severity: Some(severity),
        notified,
        ..Event::default()
    }
}

/// The SQL that writes one `notified` row.
pub(super) fn notified_row(incident: i64, contact: i64) -> String {
    format!(
        "INSERT INTO incident_history (incident_id, contact_id, time, type) \
         VALUES ({incident}, {contact}, 0, 'notified')"
    )
}

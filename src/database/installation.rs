//! Examines what `sql/install.sql` has installed in the database, and whether it fits this daemon.
//!
//! Done whenever a query session connects, because a restored database may lack parts of it, and by `check`.

use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use super::error::{NO_POOLER, QueryError, describe};

/// The version of `sql/install.sql` that this daemon requires.
pub(crate) const VERSION: i32 = 3;

/// All triggers of `sql/install.sql` with their tables.
pub(crate) const TRIGGERS: [(&str, &str); 8] = [
    ("icinga_desktop_bell", "incident_history"),
    ("icinga_desktop_truncate", "incident_history"),
    ("icinga_desktop_incident", "incident"),
    ("icinga_desktop_severity", "incident"),
    ("icinga_desktop_contact_update", "contact"),
    ("icinga_desktop_contact_delete", "contact"),
    ("icinga_desktop_session_update", "browser_session"),
    ("icinga_desktop_session_delete", "browser_session"),
];

/// The command to install and upgrade. The packages put the scripts there, and so do the commands of `doc/install.md`.
pub(crate) const INSTALL: &str =
    "psql -v ON_ERROR_STOP=1 -f /usr/share/icinga-desktop-bridge/sql/install.sql DATABASE";

/// The command to grant a role the rights that it needs.
pub(crate) const GRANT: &str = "psql -v ON_ERROR_STOP=1 -v role=ROLE -f /usr/share/icinga-desktop-bridge/sql/grants.sql DATABASE";

/// An installation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installation {
    /// The schema of Icinga's tables.
    pub(crate) schema: String,
    /// The schema of the type `citext`. Without it, user names would be compared with case.
    pub(crate) citext_schema: String,
    /// Whether `mute_reason` is a column of incidents (1.0) or of objects (0.x).
    pub(crate) mute_on_incident: bool,
    /// Whether incidents have a column `message` (1.0).
    pub(crate) message_on_incident: bool,
    /// Whether history rows refer to table `event`, which has their messages (0.x).
    pub(crate) events: Events,
    /// Whether the role may write positions.
    pub(crate) stores_positions: bool,
    /// The identifier that PostgreSQL gave the cluster; `None` if the role may not query it and the server's timeline. Every role
    /// may, unless an administrator revoked that.
    pub(crate) cluster: Option<String>,
    /// The database's identifier in the cluster.
    pub(crate) database: u32,
    /// The names of the sequences that number the rows of `incident_history` and `incident`, as SQL literals; `NULL` if the table
    /// has none.
    pub(crate) sequences: [String; 2],
}

/// Table `event`, which has the message of history rows without one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Events {
    /// The table does not exist, as in schema 1.0.
    Absent,
    /// The role may not read it, so these messages are missing.
    Forbidden,
    /// The role may read it.
    Readable,
}

/// The message about [`Events::Forbidden`].
pub(crate) const EVENTS_FORBIDDEN: &str = "no right to read table event: notifications whose message is only there are shown without it; run";

/// Why the installation cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// `sql/install.sql` was not run in this database.
    #[error(
        "the triggers are not installed in this database; as the owner of Icinga's tables run: {INSTALL}"
    )]
    Missing,
    /// The role may not use it.
    #[error(
        "role \"{role}\" may not use schema icinga_desktop; run: {}", GRANT.replace("ROLE", role)
    )]
    Forbidden {
        /// The role of the session.
        role: String,
    },
    /// It has another version.
    #[error("the triggers are version {found}, this daemon needs {VERSION}; {}", advice(*found))]
    Version {
        /// The version found.
        found: i32,
    },
    /// Some triggers are missing or disabled.
    #[error("triggers missing or disabled: {}; run again: {INSTALL}", .0.join(", "))]
    Incomplete(Vec<String>),
    /// The tables are in more than one schema.
    #[error("the triggers are on tables of several schemas ({}); uninstall and install again", .0.join(", "))]
    Ambiguous(Vec<String>),
    /// The query for the recipients of an incident failed.
    #[error("the query for the recipients of an incident failed: {0}")]
    NoRecipients(String),
    /// A query of the daemon fails.
    #[error("a query of the daemon failed: {source}{}", remedy(source))]
    Refused {
        /// The installation.
        installation: Installation,
        /// The server's error.
        source: QueryError,
    },
    /// The server did not answer.
    #[error("the query for the triggers failed: {}", describe(.0))]
    Query(#[from] tokio_postgres::Error),
}

fn advice(found: i32) -> String {
    if found < VERSION {
        format!("run: {INSTALL}")
    } else {
        "upgrade this daemon".to_owned()
    }
}

fn remedy(error: &QueryError) -> String {
    match error.code() {
        Some(&SqlState::INSUFFICIENT_PRIVILEGE) => format!("; run: {GRANT}"),
        // Icinga's tables were found just before, and this session's search_path was set to their schema.
        Some(&SqlState::UNDEFINED_TABLE) => format!(": {NO_POOLER}"),
        _ => String::new(),
    }
}

impl Error {
    /// Whether an administrator has to act. Otherwise a retry may help: the connection broke, the server is busy or stopping, or
    /// a table is locked.
    pub(crate) fn is_permanent(&self) -> bool {
        // Class 42: rights, and objects that do not exist.
        let needs_a_change =
            |code: Option<&SqlState>| code.is_some_and(|code| code.code().starts_with("42"));
        match self {
            Self::Query(error) => needs_a_change(error.code()),
            Self::Refused { source, .. } => needs_a_change(source.code()),
            _ => true,
        }
    }
}

/// Examines an installation: it must be complete, unless it is already `known`; then its remaining parts suffice.
///
/// # Errors
///
/// Each error says what to do.
pub async fn inspect(client: &Client, known: Option<&Installation>) -> Result<Installation, Error> {
    let row = client
        .query_one(
            "SELECT n.oid IS NOT NULL, coalesce(has_schema_privilege(n.oid, 'USAGE'), false), current_user::text
             FROM (SELECT to_regnamespace('icinga_desktop') AS oid) n",
            &[],
        )
        .await?;
    if !row.get::<_, bool>(0) {
        return Err(Error::Missing);
    }
    if !row.get::<_, bool>(1) {
        return Err(Error::Forbidden { role: row.get(2) });
    }
    let found = version(client).await?.ok_or(Error::Missing)?;
    if found != VERSION {
        return Err(Error::Version { found });
    }
    let (schema, missing) = triggers(client).await?;
    let schema = match (schema, known) {
        (Some(schema), _) if missing.is_empty() => schema,
        (_, Some(known)) => known.schema.clone(),
        (_, None) => return Err(Error::Incomplete(missing)),
    };
    let row = client
        .query_one(
            "SELECT (SELECT n.nspname::text FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
                     JOIN pg_namespace n ON n.oid = t.typnamespace
                     WHERE a.attrelid = format('%I.contact', $1::text)::regclass AND a.attname = 'username'),
                    EXISTS (SELECT FROM pg_attribute a
                     WHERE a.attrelid = format('%I.incident', $1::text)::regclass
                       AND a.attname = 'mute_reason' AND NOT a.attisdropped),
                    EXISTS (SELECT FROM pg_attribute a
                     WHERE a.attrelid = format('%I.incident', $1::text)::regclass
                       AND a.attname = 'message' AND NOT a.attisdropped),
                    (SELECT bool_and(has_table_privilege('icinga_desktop.browser_position', privilege))
                     FROM unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) AS privilege),
                    (SELECT bool_and(has_function_privilege(signature, 'EXECUTE'))
                     FROM unnest(ARRAY['pg_control_system()', 'pg_current_wal_insert_lsn()',
                       'pg_walfile_name(pg_lsn)']) AS signature),
                    EXISTS (SELECT FROM pg_attribute a
                     WHERE a.attrelid = format('%I.incident_history', $1::text)::regclass
                       AND a.attname = 'event_id' AND NOT a.attisdropped)
                    AND (SELECT count(*) = 2 FROM pg_attribute a WHERE a.attrelid = e.oid
                         AND a.attname IN ('id', 'message') AND NOT a.attisdropped),
                    (SELECT bool_and(has_column_privilege(a.attrelid, a.attnum, 'SELECT')) FROM pg_attribute a
                     WHERE a.attrelid = e.oid AND a.attname IN ('id', 'message') AND NOT a.attisdropped),
                    (SELECT oid FROM pg_database WHERE datname = current_database()),
                    quote_nullable(pg_get_serial_sequence(format('%I.incident_history', $1::text), 'id')),
                    quote_nullable(pg_get_serial_sequence(format('%I.incident', $1::text), 'id'))
             FROM (SELECT to_regclass(format('%I.event', $1::text)) AS oid) e",
            &[&schema],
        )
        .await?;
    let events = match (row.get(5), row.get(6)) {
        (false, _) => Events::Absent,
        (true, Some(true)) => Events::Readable,
        (true, _) => Events::Forbidden,
    };
    let cluster = if row.get(4) {
        Some(cluster(client).await?)
    } else {
        None
    };
    Ok(Installation {
        citext_schema: row.get(0),
        mute_on_incident: row.get(1),
        message_on_incident: row.get(2),
        events,
        stores_positions: row.get(3),
        cluster,
        database: row.get(7),
        sequences: [row.get(8), row.get(9)],
        schema,
    })
}

/// The identifier that PostgreSQL gave the cluster.
async fn cluster(client: &Client) -> Result<String, Error> {
    let query = "SELECT system_identifier::text FROM pg_control_system()";
    Ok(client.query_one(query, &[]).await?.get(0))
}

/// The version of the installation; `None` if there is none.
pub(super) async fn version(client: &Client) -> Result<Option<i32>, Error> {
    let there = "SELECT to_regprocedure('icinga_desktop.version()') IS NOT NULL";
    if !client.query_one(there, &[]).await?.get::<_, bool>(0) {
        return Ok(None);
    }
    let row = client
        .query_one("SELECT icinga_desktop.version()", &[])
        .await?;
    Ok(Some(row.get(0)))
}

/// The schema whose tables have triggers, and which triggers are missing or disabled there.
pub(super) async fn triggers(client: &Client) -> Result<(Option<String>, Vec<String>), Error> {
    let rows = client
        .query(
            "SELECT n.nspname::text, c.relname::text, t.tgname::text
             FROM pg_trigger t
             JOIN pg_class c ON c.oid = t.tgrelid
             JOIN pg_namespace n ON n.oid = c.relnamespace
             JOIN pg_proc p ON p.oid = t.tgfoid AND p.pronamespace = to_regnamespace('icinga_desktop')
             WHERE NOT t.tgisinternal AND t.tgenabled IN ('O', 'A') AND t.tgname = ANY($1)",
            &[&TRIGGERS.map(|(trigger, _)| trigger).as_slice()],
        )
        .await?;
    let found: Vec<(String, String, String)> = rows
        .iter()
        .map(|row| (row.get(0), row.get(1), row.get(2)))
        .collect();
    let mut schemas: Vec<String> = found.iter().map(|(schema, ..)| schema.clone()).collect();
    schemas.sort();
    schemas.dedup();
    let missing: Vec<String> = TRIGGERS
        .iter()
        .filter(|(trigger, table)| !found.iter().any(|(_, t, g)| t == table && g == trigger))
        .map(|(trigger, table)| format!("{trigger} on {table}"))
        .collect();
    if schemas.len() > 1 {
        return Err(Error::Ambiguous(schemas));
    }
    Ok((schemas.pop(), missing))
}

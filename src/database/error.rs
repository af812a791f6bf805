//! Errors of the database, as text for the log.

use openssl::error::ErrorStack;
use tokio_postgres::error::SqlState;

/// A connection could not be established.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The TLS files cannot be used.
    #[error("{what} cannot be used: {source}")]
    Tls {
        /// Which file.
        what: String,
        /// The reason, from OpenSSL.
        source: ErrorStack,
    },
    /// The server could not be reached, or refused; the answer of each host.
    #[error("cannot connect to {0}")]
    Refused(String),
}

/// A statement failed.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// The session has ended: the statement should be repeated on the next one.
    #[error("{}", describe(.0))]
    Lost(tokio_postgres::Error),
    /// The server refused the statement, or its answer had an unexpected form.
    #[error("{}", describe(.0))]
    Refused(tokio_postgres::Error),
    /// The answer had an impossible value.
    #[error("unexpected answer: {0}")]
    Unexpected(&'static str),
    /// Another epoch has begun: the ids in the statement belong to other rows now.
    #[error("another epoch of ids has begun meanwhile")]
    OtherIds,
}

impl QueryError {
    /// The server's error code; `None` if the error is not from the server.
    pub(super) fn code(&self) -> Option<&SqlState> {
        match self {
            Self::Lost(error) | Self::Refused(error) => error.code(),
            Self::Unexpected(_) | Self::OtherIds => None,
        }
    }
}

/// Whether a statement failed because tables or columns changed since it was prepared: they were altered, moved, restored from a
/// dump or created again.
pub(super) fn is_outdated(error: &tokio_postgres::Error) -> bool {
    // A cached plan whose columns have changed; columns, tables, functions and types that do not exist any more.
    const CODES: [SqlState; 6] = [
        SqlState::FEATURE_NOT_SUPPORTED,
        SqlState::UNDEFINED_COLUMN,
        SqlState::UNDEFINED_TABLE,
        SqlState::UNDEFINED_FUNCTION,
        SqlState::UNDEFINED_OBJECT,
        SqlState::INVALID_SCHEMA_NAME,
    ];
    // XX000: "could not open relation with OID …" for a table that was dropped meanwhile; "cache lookup failed for …".
    error.code().is_some_and(|code| {
        CODES.contains(code)
            || *code == SqlState::INTERNAL_ERROR
                && error.as_db_error().is_some_and(|error| {
                    let message = error.message();
                    message.starts_with("could not open relation with OID")
                        || message.starts_with("cache lookup failed")
                })
    })
}

/// For a column that could not be read. For statements, [`Session`](super::Session) chooses the variant.
impl From<tokio_postgres::Error> for QueryError {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Refused(error)
    }
}

/// The advice for a pooler that shares one server session between several of ours.
pub(crate) const NO_POOLER: &str = "is a pooler in transaction mode (PgBouncer) between here and PostgreSQL? connect to PostgreSQL itself";

/// The advice for a standby.
pub(crate) const NOT_A_STANDBY: &str = "the server is a standby; name the primary, or all servers separated by commas, as \
     the resource's host";

/// Describes an error in one line: without the fields that may quote data, and with advice where the server's message has none.
pub(crate) fn describe(error: &tokio_postgres::Error) -> String {
    if let Some(db) = error.as_db_error() {
        let text = format!("{} (SQLSTATE {})", db.message(), db.code().code());
        return match advice(db.code()) {
            Some(advice) => format!("{text}: {advice}"),
            None => text,
        };
    }
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

fn advice(code: &SqlState) -> Option<&'static str> {
    if [
        SqlState::INVALID_SQL_STATEMENT_NAME,
        SqlState::DUPLICATE_PSTATEMENT,
    ]
    .contains(code)
    {
        Some(NO_POOLER)
    } else if *code == SqlState::READ_ONLY_SQL_TRANSACTION {
        Some(NOT_A_STANDBY)
    } else if *code == SqlState::QUERY_CANCELED {
        Some("is the server overloaded, or a table locked? pg_stat_activity shows it")
    } else {
        None
    }
}

//! What can go wrong with the database, in words for the log.

use openssl::error::ErrorStack;
use tokio_postgres::error::SqlState;

/// A connection could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The TLS files could not be used.
    #[error("{what} cannot be used: {source}")]
    Tls {
        /// Which of them.
        what: String,
        /// OpenSSL's reason.
        source: ErrorStack,
    },
    /// The server could not be reached, or refused; what each host said.
    #[error("cannot connect to {0}")]
    Refused(String),
}

/// A statement failed.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// The session has ended: the statement is worth repeating on the next one.
    #[error("{}", describe(.0))]
    Lost(tokio_postgres::Error),
    /// The server refused the statement, or its answer was not of the expected form.
    #[error("{}", describe(.0))]
    Refused(tokio_postgres::Error),
    /// An answer that PostgreSQL does not give.
    #[error("an answer that was not expected: {0}")]
    Unexpected(&'static str),
    /// Ids have started again: those that were asked about are other rows' by now.
    #[error("ids have started again meanwhile")]
    OtherIds,
}

impl QueryError {
    /// What the server calls the error; `None` if it is not the server's.
    pub(super) fn code(&self) -> Option<&SqlState> {
        match self {
            Self::Lost(error) | Self::Refused(error) => error.code(),
            Self::Unexpected(_) | Self::OtherIds => None,
        }
    }
}

/// Whether a statement failed because tables or columns are not what they were when it was prepared: they were changed,
/// moved, restored from a dump, or made anew.
pub(super) fn is_outdated(error: &tokio_postgres::Error) -> bool {
    // Of a cached plan whose columns have changed; of columns, tables, functions and types that are gone.
    const CODES: [SqlState; 6] = [
        SqlState::FEATURE_NOT_SUPPORTED,
        SqlState::UNDEFINED_COLUMN,
        SqlState::UNDEFINED_TABLE,
        SqlState::UNDEFINED_FUNCTION,
        SqlState::UNDEFINED_OBJECT,
        SqlState::INVALID_SCHEMA_NAME,
    ];
    // XX000: "could not open relation with OID …", of a table that was dropped meanwhile; "cache lookup failed for …".
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

/// Of a column that could not be read; statements are told apart by
/// [`Session`](super::Session).
impl From<tokio_postgres::Error> for QueryError {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Refused(error)
    }
}

/// What to do about a pooler that hands one server session to several of ours.
pub(crate) const NO_POOLER: &str = "is a pooler in transaction mode (PgBouncer) between here and PostgreSQL? connect to PostgreSQL itself";

/// What to do about a server that is a standby.
pub(crate) const NOT_A_STANDBY: &str = "the server is a standby; name the primary, or all servers separated by commas, as \
     the resource's host";

/// What went wrong, in one line, without the parts that may quote data, and what to do where the server's
/// words do not lead there.
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

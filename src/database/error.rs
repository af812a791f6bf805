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
}

impl QueryError {
    /// What the server calls the error; `None` if it is not the server's.
    pub(super) fn code(&self) -> Option<&SqlState> {
        let (Self::Lost(error) | Self::Refused(error)) = self;
        error.code()
    }
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

//! A session for queries: a connection and the statements that are prepared on it.

use tokio_postgres::{Client, Statement};

/// A live query session.
#[derive(Debug)]
pub struct Session {
    pub(super) client: Client,
    pub(super) statements: Statements,
    /// Whether positions may be stored; otherwise they live in memory only.
    pub(crate) stores_positions: bool,
}

#[derive(Debug)]
pub(super) struct Statements {
    pub(super) notified: Statement,
    pub(super) recipients: Statement,
    pub(super) session: Statement,
    pub(super) start: Statement,
    pub(super) missed: Statement,
    pub(super) valid: Statement,
    pub(super) refresh: Statement,
    pub(super) tide: Statement,
    pub(super) timeline: Statement,
}

impl Session {
    /// Whether the connection is gone, so that a failed query is worth repeating on the next one.
    pub(crate) fn is_closed(&self) -> bool {
        self.client.is_closed()
    }
}

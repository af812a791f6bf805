//! A session for queries: a connection, and the statements that are prepared on it.

use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Error, Row, Statement, ToStatement};

use super::connect::{Connector, SETUP_PATIENCE};
use super::error::{ConnectError, QueryError, describe};
use super::installation::{self, Installation};

/// A session could not be made ready for use.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    /// There is no connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// There is one, but what was installed cannot be used.
    #[error(transparent)]
    Installation(#[from] installation::Error),
    /// The server says nothing.
    #[error("no answer within {SETUP_PATIENCE:?}; is the server overloaded or frozen?")]
    Silent,
}

/// A live query session.
#[derive(Debug)]
pub struct Session {
    pub(super) client: Client,
    pub(super) statements: Statements,
    pub(crate) installation: Installation,
}

/// The statements that are sent again and again.
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
    /// Connects and sets up a session. Also returns what resolves, with the reason, when the session has ended.
    ///
    /// # Errors
    ///
    /// [`OpenError`].
    pub(crate) async fn open(
        connector: &Connector,
        purpose: &str,
    ) -> Result<(Self, impl Future<Output = String> + use<>), OpenError> {
        let (client, connection) = connector.connect(purpose).await?;
        // A set of one, because it ends its task when it is dropped.
        let mut closed = JoinSet::new();
        let _ = closed.spawn(connection);
        let session = timeout(SETUP_PATIENCE, Self::set_up(client))
            .await
            .map_err(|_| OpenError::Silent)??;
        let reason = async move {
            match closed.join_next().await {
                None | Some(Ok(Ok(()))) => "closed".to_owned(),
                Some(Ok(Err(error))) => describe(&error),
                Some(Err(error)) => error.to_string(),
            }
        };
        Ok((session, reason))
    }

    /// Looks whether the installation is complete, and prepares every statement.
    ///
    /// # Errors
    ///
    /// What is missing, and what to do about it.
    pub async fn set_up(client: Client) -> Result<Self, installation::Error> {
        let installation = installation::inspect(&client).await?;
        match Self::prepare(client, &installation).await {
            Ok(session) => Ok(session),
            Err(source) => Err(installation::Error::Refused {
                installation,
                source,
            }),
        }
    }

    /// Whether the connection is gone, so that a failed query is worth repeating on the next one.
    pub(crate) fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// Whether positions may be stored; otherwise they live in memory only.
    pub(crate) fn stores_positions(&self) -> bool {
        self.installation.stores_positions
    }

    fn failed(&self, error: Error) -> QueryError {
        if self.is_closed() {
            QueryError::Lost(error)
        } else {
            QueryError::Refused(error)
        }
    }

    pub(super) async fn query<S: ?Sized + ToStatement>(
        &self,
        statement: &S,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, QueryError> {
        let rows = self.client.query(statement, parameters).await;
        rows.map_err(|error| self.failed(error))
    }

    pub(super) async fn query_opt<S: ?Sized + ToStatement>(
        &self,
        statement: &S,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Option<Row>, QueryError> {
        let row = self.client.query_opt(statement, parameters).await;
        row.map_err(|error| self.failed(error))
    }

    pub(super) async fn query_one<S: ?Sized + ToStatement>(
        &self,
        statement: &S,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Row, QueryError> {
        let row = self.client.query_one(statement, parameters).await;
        row.map_err(|error| self.failed(error))
    }

    pub(super) async fn execute<S: ?Sized + ToStatement>(
        &self,
        statement: &S,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<u64, QueryError> {
        let count = self.client.execute(statement, parameters).await;
        count.map_err(|error| self.failed(error))
    }
}

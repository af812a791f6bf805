//! A query session: a connection and its prepared statements.

use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Error, Row, Statement, ToStatement};
use tokio_util::sync::CancellationToken;

use super::connect::{Connector, SETUP_TIMEOUT};
use super::error::{ConnectError, QueryError, describe, is_outdated};
use super::installation::{self, Installation, VERSION};
use super::queries::recipients::recipients_sql;
use crate::model::ids::IncidentId;

/// Why a session could not be set up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    /// There is no connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The installation cannot be used.
    #[error(transparent)]
    Installation(#[from] installation::Error),
    /// The server does not answer.
    #[error("no answer within {SETUP_TIMEOUT:?}; is the server overloaded or frozen?")]
    Silent,
}

/// An open query session.
#[derive(Debug)]
pub struct Session {
    pub(super) client: Client,
    /// Cancelled when tables have changed since the statements were prepared.
    pub(super) outdated: CancellationToken,
    pub(super) statements: Statements,
    pub(crate) installation: Installation,
}

/// The prepared statements.
#[derive(Debug)]
pub(super) struct Statements {
    pub(super) watermark: Statement,
    pub(super) newest: Statement,
    pub(super) history: Statement,
    pub(super) new_incidents: Statement,
    /// Separate, because its failure does not affect events of Icinga Notifications.
    pub(super) recipients: Result<Statement, QueryError>,
    pub(super) session: Statement,
    pub(super) start: Statement,
    pub(super) missed: Statement,
    pub(super) valid: Statement,
    pub(super) refresh: Statement,
    pub(super) timeline: Statement,
    pub(super) hold_bell: Statement,
    pub(super) release_bell: Statement,
    pub(super) ring_bell: Statement,
}

impl Session {
    /// Connects and sets up a session. Also returns a future that resolves with the reason when the session has ended.
    ///
    /// If an installation is `known`, its remaining parts suffice: without triggers events are late, and without the query for
    /// recipients events of Icinga Notifications still arrive.
    ///
    /// # Errors
    ///
    /// [`OpenError`].
    pub(crate) async fn open(
        connector: &Connector,
        purpose: &str,
        known: Option<&Installation>,
    ) -> Result<(Self, impl Future<Output = String> + use<>), OpenError> {
        let (client, connection) = connector.connect(purpose).await?;
        // A set of one task, because dropping it ends the task.
        let mut closed = JoinSet::new();
        let _ = closed.spawn(connection);
        let session = timeout(SETUP_TIMEOUT, Self::set_up(client, known))
            .await
            .map_err(|_| OpenError::Silent)??;
        let outdated = session.outdated.clone();
        let reason = async move {
            let ended = tokio::select! {
                ended = closed.join_next() => ended,
                () = outdated.cancelled() => {
                    return "Icinga's tables or the rights on them have changed: they are examined again".to_owned();
                }
            };
            match ended {
                None | Some(Ok(Ok(()))) => "closed".to_owned(),
                Some(Ok(Err(error))) => describe(&error),
                Some(Err(error)) => error.to_string(),
            }
        };
        Ok((session, reason))
    }

    /// Checks that the installation is complete, and prepares every statement.
    ///
    /// # Errors
    ///
    /// The error says what is missing and what to do.
    pub async fn set_up(
        client: Client,
        known: Option<&Installation>,
    ) -> Result<Self, installation::Error> {
        let installation = installation::inspect(&client, known).await?;
        match Self::prepare(client, &installation).await {
            Ok(session) => match session.recipients_problem() {
                Some(problem) if known.is_none() => Err(installation::Error::NoRecipients(problem)),
                _ => Ok(session),
            },
            Err(source) => Err(installation::Error::Refused {
                installation,
                source,
            }),
        }
    }

    /// Whether the connection is closed or outdated, so that a failed query should be repeated on the next one.
    pub(crate) fn is_closed(&self) -> bool {
        self.client.is_closed() || self.outdated.is_cancelled()
    }

    /// Why the recipients of incidents changed without Icinga Notifications cannot be queried; `None` if they can.
    pub(crate) fn recipients_problem(&self) -> Option<String> {
        self.statements
            .recipients
            .as_ref()
            .err()
            .map(ToString::to_string)
    }

    /// Marks the session as outdated if the recipients can be queried now: the next session will query them.
    ///
    /// # Errors
    ///
    /// If they still cannot be queried, or that could not be checked.
    pub(crate) async fn look_for_recipients(&self) -> Result<(), installation::Error> {
        let installation = installation::inspect(&self.client, Some(&self.installation)).await?;
        let statement = self.client.prepare(&recipients_sql(&installation)).await?;
        // Rights are checked only at execution.
        let nobody: &[IncidentId] = &[];
        let _ = self.client.query(&statement, &[&nobody]).await?;
        self.outdated.cancel();
        Ok(())
    }

    /// The triggers that are missing, disabled or replaced, with their tables; and their version if it is another one.
    ///
    /// # Errors
    ///
    /// If they cannot be queried, or are in several schemas.
    pub(crate) async fn missing_triggers(&self) -> Result<Vec<String>, installation::Error> {
        let (_, mut missing) = installation::triggers(&self.client).await?;
        match installation::version(&self.client).await? {
            Some(VERSION) => {}
            Some(found) => missing.push(format!("version {found} of them instead of {VERSION}")),
            None => missing.push("function icinga_desktop.version()".to_owned()),
        }
        Ok(missing)
    }

    /// Whether positions can be stored; otherwise they are only kept in memory.
    pub(crate) fn stores_positions(&self) -> bool {
        self.installation.stores_positions
    }

    fn failed(&self, error: Error) -> QueryError {
        if is_outdated(&error) {
            self.outdated.cancel();
        }
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

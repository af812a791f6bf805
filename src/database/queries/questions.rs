//! Questions of commands, stored beside the positions.

use tokio_postgres::Error;

use crate::database::Session;
use crate::model::database_session::DatabaseSession;
use crate::model::notification::{ASK_CHANNEL, Marked, Token};

impl Session {
    /// How many bridges listen on this database, by the name that their sessions give themselves.
    ///
    /// # Errors
    ///
    /// Whatever the server says.
    pub(crate) async fn listening(&self) -> Result<i64, Error> {
        let name = DatabaseSession::Listener.application_name();
        let row = self
            .client
            .query_one(
                "SELECT count(*) FROM pg_stat_activity
                 WHERE datname = current_database() AND application_name = $1",
                &[&name],
            )
            .await?;
        row.try_get(0)
    }

    /// Stores a question and tells every bridge where it is.
    ///
    /// # Errors
    ///
    /// Whatever the server says.
    pub(crate) async fn ask(&self, token: &Token, question: &[i64]) -> Result<(), Error> {
        // NOTIFY waits for the commit, so the row is there when they look.
        self.client
            .execute(
                "WITH stored AS (
                   INSERT INTO icinga_desktop.browser_position (browser, floor, above, changed_at)
                   VALUES ($1, -1, $2, clock_timestamp()) RETURNING 1)
                 SELECT pg_notify($3, $4) FROM stored",
                &[
                    &token.0.as_slice(),
                    &question,
                    &ASK_CHANNEL,
                    &Marked { token: *token }.payload(),
                ],
            )
            .await?;
        Ok(())
    }

    /// The question, and the answers to it so far; `None` if there is no such question.
    ///
    /// # Errors
    ///
    /// Whatever the server says.
    pub(crate) async fn asked(&self, token: &Token) -> Result<Option<Vec<i64>>, Error> {
        let row = self
            .client
            .query_opt(
                "SELECT above FROM icinga_desktop.browser_position WHERE browser = $1 AND floor = -1",
                &[&token.0.as_slice()],
            )
            .await?;
        row.map(|row| row.try_get(0)).transpose()
    }

    /// Appends an answer to a question.
    ///
    /// # Errors
    ///
    /// Whatever the server says.
    pub(crate) async fn answer(&self, token: &Token, answer: &[i64]) -> Result<(), Error> {
        self.client
            .execute(
                "UPDATE icinga_desktop.browser_position SET above = above || $2::int8[]
                 WHERE browser = $1 AND floor = -1",
                &[&token.0.as_slice(), &answer],
            )
            .await?;
        Ok(())
    }

    /// Removes a question.
    ///
    /// # Errors
    ///
    /// Whatever the server says.
    pub(crate) async fn forget_question(&self, token: &Token) -> Result<(), Error> {
        self.client
            .execute(
                "DELETE FROM icinga_desktop.browser_position WHERE browser = $1 AND floor = -1",
                &[&token.0.as_slice()],
            )
            .await?;
        Ok(())
    }
}

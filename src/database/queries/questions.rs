//! Questions of commands, stored beside the positions.

use crate::database::{QueryError, Session};
use crate::model::database_session::DatabaseSession;
use crate::model::notification::{ASK_CHANNEL, Token, TokenPayload};

impl Session {
    /// How many bridges listen on this database, by the application name of their sessions.
    pub(crate) async fn listening(&self) -> Result<i64, QueryError> {
        let name = DatabaseSession::Listener.application_name();
        let row = self
            .query_one(
                "SELECT count(*) FROM pg_stat_activity
                 WHERE datname = current_database() AND application_name = $1",
                &[&name],
            )
            .await?;
        Ok(row.try_get(0)?)
    }

    /// Stores a question and notifies every bridge of its key.
    pub(crate) async fn ask(&self, token: &Token, question: &[i64]) -> Result<(), QueryError> {
        // NOTIFY is sent at the commit, so the row is visible when they look.
        self.execute(
            "WITH stored AS (
                   INSERT INTO icinga_desktop.browser_position (browser, floor, above, changed_at)
                   VALUES ($1, -1, $2, clock_timestamp()) RETURNING 1)
                 SELECT pg_notify($3, $4) FROM stored",
            &[
                &token.0.as_slice(),
                &question,
                &ASK_CHANNEL,
                &TokenPayload { token: *token }.payload(),
            ],
        )
        .await?;
        Ok(())
    }

    /// The question and the answers so far; `None` if there is no such question.
    pub(crate) async fn asked(&self, token: &Token) -> Result<Option<Vec<i64>>, QueryError> {
        let row = self.query_opt(
                "SELECT above FROM icinga_desktop.browser_position WHERE browser = $1 AND floor = -1",
                &[&token.0.as_slice()],
            )
            .await?;
        Ok(row.map(|row| row.try_get(0)).transpose()?)
    }

    /// Appends an answer to a question.
    pub(crate) async fn answer(&self, token: &Token, answer: &[i64]) -> Result<(), QueryError> {
        self.execute(
            "UPDATE icinga_desktop.browser_position SET above = above || $2::int8[]
                 WHERE browser = $1 AND floor = -1",
            &[&token.0.as_slice(), &answer],
        )
        .await?;
        Ok(())
    }

    /// Removes a question.
    pub(crate) async fn forget_question(&self, token: &Token) -> Result<(), QueryError> {
        self.execute(
            "DELETE FROM icinga_desktop.browser_position WHERE browser = $1 AND floor = -1",
            &[&token.0.as_slice()],
        )
        .await?;
        Ok(())
    }
}

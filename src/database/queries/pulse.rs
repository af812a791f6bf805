//! The pulse, and the timeline of ids.

use super::look::timeline_expression;
use crate::database::installation::Installation;
use crate::database::{QueryError, Session};
use crate::model::notification::{PULSE_CHANNEL, Token, TokenPayload};
use crate::model::timeline::Timeline;

/// The SQL of [`Session::timeline`].
pub(in crate::database) fn timeline_sql(installation: &Installation) -> String {
    let timeline = timeline_expression(installation);
    format!("SELECT {timeline}")
}

impl Session {
    /// The timeline of this server's ids; `None` on a standby.
    pub(crate) async fn timeline(&self) -> Result<Option<Timeline>, QueryError> {
        let row = self.query_one(&self.statements.timeline, &[]).await?;
        Ok(row.try_get::<_, Option<_>>(0)?.map(Timeline))
    }

    /// Sends a beat.
    pub(crate) async fn send_pulse(&self, token: &Token) -> Result<(), QueryError> {
        self.execute(
            "SELECT pg_notify($1, $2)",
            &[&PULSE_CHANNEL, &TokenPayload { token: *token }.payload()],
        )
        .await?;
        Ok(())
    }

    /// Returns whether the server is a standby. Called when the listener seems to be deaf.
    ///
    /// `pg_notification_queue_usage()` also advances the tail of the notification queue (PostgreSQL, `async.c`), so that a
    /// session that listens again does not start at damaged entries that no other session needs.
    pub(crate) async fn diagnose_deafness(&self) -> Result<bool, QueryError> {
        let row = self
            .query_one(
                "SELECT pg_is_in_recovery(), pg_notification_queue_usage()",
                &[],
            )
            .await?;
        Ok(row.try_get(0)?)
    }
}

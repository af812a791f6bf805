//! How far the database is, and whether it is heard.

use crate::database::installation::Installation;
use crate::database::{QueryError, Session};
use crate::model::notification::{Marked, PULSE_CHANNEL, Token};
use crate::model::timeline::{Tide, Timeline};

/// The expression whose value is the server's timeline.
fn timeline_expression(installation: &Installation) -> &'static str {
    if installation.knows_timeline {
        // The server only knows while it writes.
        "CASE WHEN NOT pg_is_in_recovery() THEN
           concat_ws('/', (SELECT system_identifier FROM pg_control_system()),
             left(pg_walfile_name(pg_current_wal_insert_lsn()), 8),
             (SELECT oid FROM pg_database WHERE datname = current_database()))
         END"
    } else {
        // Taken to be the same for ever.
        "''::text"
    }
}

/// The SQL of [`Session::timeline`].
pub(in crate::database) fn timeline_sql(installation: &Installation) -> String {
    let timeline = timeline_expression(installation);
    format!("SELECT {timeline}")
}

/// The SQL of [`Session::tide`].
pub(in crate::database) fn tide_sql(installation: &Installation) -> String {
    let timeline = timeline_expression(installation);
    format!(
        "SELECT (SELECT coalesce(max(id), 0) FROM incident_history),
                pg_snapshot_xmin(s)::text::int8, pg_snapshot_xmax(s)::text::int8, {timeline}
         FROM pg_current_snapshot() s"
    )
}

impl Session {
    /// How far the database is.
    pub(crate) async fn tide(&self) -> Result<Tide, QueryError> {
        let row = self.query_one(&self.statements.tide, &[]).await?;
        // Full transaction ids have 64 bits, of which the first is never set.
        let transaction = |index| {
            row.try_get::<_, i64>(index)
                .map(|id| u64::try_from(id).unwrap_or(0))
        };
        Ok(Tide {
            newest_id: row.try_get(0)?,
            oldest_running: transaction(1)?,
            first_future: transaction(2)?,
            timeline: row.try_get::<_, Option<_>>(3)?.map(Timeline),
        })
    }

    /// Whose ids are to be read here; `None` on a standby.
    pub(crate) async fn timeline(&self) -> Result<Option<Timeline>, QueryError> {
        let row = self.query_one(&self.statements.timeline, &[]).await?;
        Ok(row.try_get::<_, Option<_>>(0)?.map(Timeline))
    }

    /// Sends a beat.
    pub(crate) async fn send_pulse(&self, token: &Token) -> Result<(), QueryError> {
        self.execute(
            "SELECT pg_notify($1, $2)",
            &[&PULSE_CHANNEL, &Marked { token: *token }.payload()],
        )
        .await?;
        Ok(())
    }

    /// Whether the server is a standby, and the repair of a queue that a session cannot read: both are
    /// asked when the listener seems to be deaf.
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

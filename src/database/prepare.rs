//! Makes a session ready: settings, prepared statements, and a dry run of each.

use std::time::Duration;

use futures::future;
use tokio_postgres::{Client, Error};

use super::error::QueryError;
use super::installation::Installation;
use super::queries::{Bounds, events, positions, pulse, replay, sign_ins};
use super::session::{Session, Statements};
use crate::model::ids::{ContactId, HistoryId};
use crate::model::position::Position;

/// After which time PostgreSQL gives a statement up: far longer than any takes, and short enough for
/// those behind it in the pipeline.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(10);

impl Session {
    /// Sets the session up, prepares every statement, and runs each for nobody: PostgreSQL checks rights
    /// only when a statement runs.
    ///
    /// # Errors
    ///
    /// [`QueryError`], for example where the role lacks a right.
    pub(super) async fn prepare(
        client: Client,
        installation: &Installation,
    ) -> Result<Self, QueryError> {
        // Icinga's tables, and citext's operators: without them user names would silently compare by
        // case. pg_temp last, so that no temporary table stands in for a real one.
        //
        // Generic plans: every statement looks up keys, which has one good plan, while PostgreSQL would
        // plan these joins anew for each event, and take longer for that than for the look-up.
        client
            .execute(
                "SELECT set_config('search_path', format('%I, %I, pg_temp', $1::text, $2::text), false),
                        set_config('statement_timeout', $3::text, false),
                        set_config('plan_cache_mode', 'force_generic_plan', false)",
                &[
                    &installation.schema,
                    &installation.citext_schema,
                    &STATEMENT_TIMEOUT.as_millis().to_string(),
                ],
            )
            .await?;
        let statements = Statements::prepare(&client, installation).await?;
        let session = Self {
            client,
            statements,
            installation: installation.clone(),
        };
        future::try_join5(
            session.notified(&[]),
            session.recipients(&[]),
            session.browser_session("", ""),
            session.start(ContactId(0), HistoryId(0)),
            session.valid_browsers(&[]),
        )
        .await?;
        session
            .missed(
                ContactId(0),
                &Position::default(),
                &[],
                Bounds {
                    since_ms: 0,
                    incidents: 0,
                },
                0,
            )
            .await?;
        Ok(session)
    }
}

impl Statements {
    async fn prepare(client: &Client, installation: &Installation) -> Result<Self, Error> {
        Ok(Self {
            notified: client.prepare(&events::notified_sql()).await?,
            recipients: client
                .prepare(&events::recipients_sql(installation))
                .await?,
            session: client
                .prepare(&sign_ins::browser_session_sql(installation))
                .await?,
            start: client.prepare(&positions::start_sql()).await?,
            missed: client.prepare(&replay::missed_sql()).await?,
            valid: client.prepare(&sign_ins::valid_browsers_sql()).await?,
            refresh: client.prepare(&sign_ins::refresh_sql()).await?,
            tide: client.prepare(&pulse::tide_sql(installation)).await?,
            timeline: client.prepare(&pulse::timeline_sql(installation)).await?,
        })
    }
}

//! Sets up a session: settings, prepared statements, and a trial run of those that read tables.

use std::time::Duration;

use futures::future;
use tokio_postgres::{Client, Error};
use tokio_util::sync::CancellationToken;

use super::error::QueryError;
use super::installation::Installation;
use super::queries::{Bounds, bell, look, positions, pulse, recipients, replay, sign_ins};
use super::session::{Session, Statements};
use crate::config::Kinds;
use crate::model::browser::BrowserKey;
use crate::model::ids::ContactId;
use crate::model::position::Position;

/// When PostgreSQL cancels a statement: far longer than any takes, and short enough for those behind it in the pipeline.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(10);

impl Session {
    /// Applies the settings, prepares every statement, and runs those that read tables with empty parameters: PostgreSQL checks
    /// rights only at execution. The rights to refresh and remove sessions are not checked here; housekeeping logs a missing one.
    ///
    /// # Errors
    ///
    /// [`QueryError`], for example if the role lacks a right.
    pub(super) async fn prepare(
        client: Client,
        installation: &Installation,
    ) -> Result<Self, QueryError> {
        // The schema of Icinga's tables, and of citext's operators: without them user names would be compared with case. pg_temp
        // is last, so that no temporary table hides a real one.
        //
        // Generic plans: every statement looks up keys and has one good plan. PostgreSQL would otherwise plan these joins for
        // each event, which takes longer than the look-up. A plan made while a table was small would read all of it, and still do
        // so when it has grown: so plans use an index where there is one, in its order. Their estimated cost would make
        // PostgreSQL compile each of them with JIT, for hundreds of milliseconds.
        //
        // Keepalives: if the daemon's machine loses power, the server must not keep its lock on the bell for hours.
        client
            .execute(
                "SELECT set_config('search_path', format('%I, %I, pg_temp', $1::text, $2::text), false),
                        set_config('statement_timeout', $3::text, false),
                        set_config('plan_cache_mode', 'force_generic_plan', false),
                        set_config('enable_seqscan', 'off', false),
                        set_config('enable_bitmapscan', 'off', false),
                        set_config('jit', 'off', false),
                        set_config('tcp_keepalives_idle', '10', false),
                        set_config('tcp_keepalives_interval', '5', false),
                        set_config('tcp_keepalives_count', '3', false)",
                &[
                    &installation.schema,
                    &installation.citext_schema,
                    &STATEMENT_TIMEOUT.as_millis().to_string(),
                ],
            )
            .await?;
        let statements = Statements::prepare(&client, installation).await?;
        let mut session = Self {
            client,
            outdated: CancellationToken::new(),
            statements,
            installation: installation.clone(),
        };
        let epoch = session.watermark().await?.epoch;
        future::try_join5(
            session.history(&epoch, i64::MAX, 0, &[], Kinds::Severity),
            session.new_incidents(i64::MAX, 0, &[]),
            session.browser_session("", "", &BrowserKey::new("")),
            session.start(ContactId(0), None),
            session.valid_browsers(&[]),
        )
        .await?;
        if let Err(problem) = session.recipients(&[]).await {
            session.statements.recipients = Err(problem);
            // The error only concerned this statement.
            session.outdated = CancellationToken::new();
        }
        session
            .missed(
                &epoch,
                ContactId(0),
                &Position::default(),
                &[],
                Bounds {
                    since_ms: 0,
                    incidents: 0,
                    limit: 0,
                },
                Kinds::Severity,
            )
            .await?;
        Ok(session)
    }
}

impl Statements {
    async fn prepare(client: &Client, installation: &Installation) -> Result<Self, Error> {
        Ok(Self {
            watermark: client.prepare(&look::watermark_sql(installation)).await?,
            newest: client.prepare(&look::newest_sql()).await?,
            history: client.prepare(&look::history_sql(installation)).await?,
            new_incidents: client.prepare(&look::new_incidents_sql()).await?,
            recipients: client
                .prepare(&recipients::recipients_sql(installation))
                .await
                .map_err(QueryError::from),
            session: client
                .prepare(&sign_ins::browser_session_sql(installation))
                .await?,
            start: client.prepare(&positions::start_sql()).await?,
            missed: client.prepare(&replay::missed_sql(installation)).await?,
            valid: client.prepare(&sign_ins::valid_browsers_sql()).await?,
            refresh: client.prepare(&sign_ins::refresh_sql()).await?,
            timeline: client.prepare(&pulse::timeline_sql(installation)).await?,
            hold_bell: client.prepare(&bell::hold_bell_sql()).await?,
            release_bell: client.prepare(&bell::release_bell_sql()).await?,
            ring_bell: client.prepare(&bell::ring_bell_sql()).await?,
        })
    }
}

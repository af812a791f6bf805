//! Keeps a query session open and shares it.
//!
//! tokio-postgres pipelines statements, so no pool is needed. But a statement that waits, for example for a lock on the session
//! table, delays those after it. So there are two sessions: one for events and one for sign-ins. Each is kept open in the
//! background. While it is not connected, callers either wait ([`Queries::session`]) or continue without it
//! ([`Queries::current`]).

use std::sync::Arc;
use std::time::{Duration, Instant};

use log::{error, info, warn};
use tokio::sync::{Notify, watch};

use super::backoff::Backoff;
use super::connect::Connector;
use super::installation::{self, EVENTS_FORBIDDEN, Events, GRANT, Installation};
use super::session::{OpenError, Session};
use crate::model::database_session::DatabaseSession;
use crate::observe::metrics::Metrics;

/// If a session lasts less than this before Icinga's tables change again, the next one is delayed.
const STABLE: Duration = Duration::from_secs(10);

/// A handle to the current query session. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Queries(watch::Receiver<Option<Arc<Session>>>);

impl Queries {
    /// The session, or `None` while it is not connected.
    pub(crate) fn current(&self) -> Option<Arc<Session>> {
        self.0
            .borrow()
            .clone()
            .filter(|session| !session.is_closed())
    }

    /// Waits for a session; `None` once the daemon is stopping.
    pub(crate) async fn session(&mut self) -> Option<Arc<Session>> {
        self.0
            .wait_for(|session| session.as_ref().is_some_and(|s| !s.is_closed()))
            .await
            .ok()?
            .clone()
    }
}

/// Keeps a query session open and shares it with all [`Queries`].
#[derive(Debug)]
pub(crate) struct Keeper {
    connector: Connector,
    /// The purpose of the session.
    purpose: DatabaseSession,
    sender: watch::Sender<Option<Arc<Session>>>,
    /// Notified when the session does not answer and has to be given up.
    hung: Arc<Notify>,
    metrics: Metrics,
}

impl Keeper {
    /// A keeper, not connected yet, and its handle. It reconnects when `hung` is notified.
    pub(crate) fn new(
        connector: Connector,
        purpose: DatabaseSession,
        hung: Arc<Notify>,
        metrics: Metrics,
    ) -> (Self, Queries) {
        let (sender, receiver) = watch::channel(None);
        let keeper = Self {
            connector,
            purpose,
            sender,
            hung,
            metrics,
        };
        (keeper, Queries(receiver))
    }

    /// Connects, and reconnects whenever the session ends.
    ///
    /// # Errors
    ///
    /// Returns only if the very first connection finds that the triggers cannot be used: an administrator has to act. Later such
    /// errors are logged and retried, because a running daemon has streams to keep. Callers that wait for a session continue to
    /// wait until the keeper is dropped.
    pub(crate) async fn run(&self) -> Result<(), installation::Error> {
        let mut backoff = Backoff::default();
        let mut known: Option<Installation> = None;
        let mut problem: Option<String> = None;
        loop {
            // Boxed: the future is large and rarely runs.
            let open = Session::open(&self.connector, self.purpose.into(), known.as_ref());
            match Box::pin(open).await {
                Ok((session, closed)) => {
                    info!("database: {} session connected", self.purpose);
                    // Logged once, for the session that stores them.
                    if self.purpose == DatabaseSession::SignIn && !session.stores_positions() {
                        warn!(
                            "database: no right to write icinga_desktop.browser_position: positions of browsers are lost \
                             at a restart; run: {GRANT}"
                        );
                    }
                    if self.purpose == DatabaseSession::Query {
                        report_recipients_problem(session.recipients_problem(), &mut problem);
                        if session.installation.events == Events::Forbidden {
                            warn!("database: {EVENTS_FORBIDDEN}: {GRANT}, and restart this daemon");
                        }
                    }
                    let (outdated, since) = (session.outdated.clone(), Instant::now());
                    known = Some(session.installation.clone());
                    self.sender.send_replace(Some(Arc::new(session)));
                    let reason = tokio::select! {
                        reason = closed => reason,
                        () = self.hung.notified() => "it does not answer".to_owned(),
                    };
                    self.sender.send_replace(None);
                    self.metrics.reconnect(self.purpose);
                    warn!(
                        "database: {} session lost: {reason}; connecting again",
                        self.purpose
                    );
                    if outdated.is_cancelled() && since.elapsed() < STABLE {
                        // Without a pause it would fail again in a loop.
                        tokio::time::sleep(backoff.next_delay()).await;
                    } else {
                        backoff.reset();
                    }
                }
                Err(OpenError::Installation(error)) if known.is_none() && error.is_permanent() => {
                    return Err(error);
                }
                Err(error) => {
                    let delay = backoff.next_delay();
                    error!(
                        "database: no {} session: {error}; next attempt in {delay:.1?}",
                        self.purpose
                    );
                    tokio::time::sleep(delay).await;
                }
            }
        }
    }
}

/// Logs whether changes of incidents without Icinga Notifications can be shown, if that differs from `before`.
fn report_recipients_problem(problem: Option<String>, before: &mut Option<String>) {
    match &problem {
        Some(problem) if before.as_ref() != Some(problem) => error!(
            "database: changes of incidents without Icinga Notifications are not shown until this is \
                 fixed: {problem}"
        ),
        None if before.is_some() => {
            info!("database: changes of incidents without Icinga Notifications are shown again");
        }
        _ => {}
    }
    *before = problem;
}

//! Keeps a query session up, and hands it to whoever asks.
//!
//! tokio-postgres pipelines, so nothing waits for a pool; but a statement that waits, say for a lock on
//! the sessions' table, holds up those behind it. So there are two sessions: one for events, and one for
//! everything about sign-ins. Each is kept up in the background; who needs it while it is away either
//! waits ([`Queries::session`]) or answers for itself ([`Queries::current`]).

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

/// A session that finds Icinga's tables changed again within this time is followed by a pause.
const STABLE: Duration = Duration::from_secs(10);

/// A cheap handle on whichever query session is alive.
#[derive(Debug, Clone)]
pub(crate) struct Queries(watch::Receiver<Option<Arc<Session>>>);

impl Queries {
    /// The session, or `None` while the database is away.
    pub(crate) fn current(&self) -> Option<Arc<Session>> {
        self.0
            .borrow()
            .clone()
            .filter(|session| !session.is_closed())
    }

    /// Waits for a live session; `None` once the daemon is stopping.
    pub(crate) async fn session(&mut self) -> Option<Arc<Session>> {
        self.0
            .wait_for(|session| session.as_ref().is_some_and(|s| !s.is_closed()))
            .await
            .ok()?
            .clone()
    }
}

/// Keeps a query session up and hands it to every [`Queries`].
#[derive(Debug)]
pub(crate) struct Keeper {
    connector: Connector,
    /// What the session is for.
    purpose: DatabaseSession,
    sender: watch::Sender<Option<Arc<Session>>>,
    /// Tells that sessions are not worth waiting for any longer.
    hung: Arc<Notify>,
    metrics: Metrics,
}

impl Keeper {
    /// A keeper, not yet connected, and the handle it serves. It connects anew when told that sessions are
    /// `hung`.
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

    /// Connects, and connects again whenever the session ends.
    ///
    /// # Errors
    ///
    /// Returns only if the very first connection finds that the triggers cannot be used: an
    /// administrator has to act. Later such findings are logged and tried again, because a running
    /// daemon has streams to keep. Whoever waits for a session goes on waiting until the keeper itself is
    /// dropped.
    pub(crate) async fn run(&self) -> Result<(), installation::Error> {
        let mut backoff = Backoff::default();
        let mut known: Option<Installation> = None;
        let mut problem: Option<String> = None;
        loop {
            // Boxed: what sets a session up is large, and seldom runs.
            let open = Session::open(&self.connector, self.purpose.into(), known.as_ref());
            match Box::pin(open).await {
                Ok((session, closed)) => {
                    info!("database: {} session connected", self.purpose);
                    // Said once: this is the session that would store them.
                    if self.purpose == DatabaseSession::SignIn && !session.stores_positions() {
                        warn!(
                            "database: no right to write icinga_desktop.browser_position: what browsers were \
                             told is forgotten at a restart; run: {GRANT}"
                        );
                    }
                    if self.purpose == DatabaseSession::Query {
                        say_whom_incidents_concern(session.recipients_problem(), &mut problem);
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
                        // It would fail again, as fast as it can.
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

/// Says whether incidents that are changed without Icinga Notifications can be shown, if that has changed since `before`.
fn say_whom_incidents_concern(problem: Option<String>, before: &mut Option<String>) {
    match &problem {
        Some(problem) if before.as_ref() != Some(problem) => error!(
            "database: incidents that are changed without Icinga Notifications are shown to nobody until \
             this is mended: {problem}"
        ),
        None if before.is_some() => {
            info!(
                "database: incidents that are changed without Icinga Notifications are shown again"
            );
        }
        _ => {}
    }
    *before = problem;
}

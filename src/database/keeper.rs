//! Keeps a query session up, and hands it to whoever asks.
//!
//! tokio-postgres pipelines, so nothing waits for a pool; but a statement that waits, say for a lock on
//! the sessions' table, holds up those behind it. So there are two sessions: one for events, and one for
//! everything about sign-ins. Each is kept up in the background; who needs it while it is away either
//! waits ([`Queries::session`]) or answers for itself ([`Queries::current`]).

use std::sync::Arc;

use log::{error, info, warn};
use tokio::sync::{Notify, watch};

use super::backoff::Backoff;
use super::connect::Connector;
use super::installation::{self, GRANT};
use super::session::{OpenError, Session};
use crate::model::database_session::DatabaseSession;
use crate::observe::metrics::Metrics;

/// A cheap handle on whichever query session is alive.
#[derive(Debug, Clone)]
pub(crate) struct Queries(watch::Receiver<Option<Arc<Session>>>);

impl Queries {
    /// The session, or `None` while the database is away.
    pub(crate) fn current(&self) -> Option<Arc<Session>> {
        self.0
            .borrow()
            .clone()
            .filter(|session| !session.client.is_closed())
    }

    /// Waits for a live session; `None` once the daemon is stopping.
    pub(crate) async fn session(&mut self) -> Option<Arc<Session>> {
        self.0
            .wait_for(|session| session.as_ref().is_some_and(|s| !s.client.is_closed()))
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
        let mut was_up = false;
        loop {
            match Session::open(&self.connector, self.purpose.into()).await {
                Ok((session, closed)) => {
                    info!("database: {} session connected", self.purpose);
                    // Said once: this is the session that would store them.
                    if self.purpose == DatabaseSession::SignIn && !session.stores_positions() {
                        warn!(
                            "database: no right to write icinga_desktop.browser_position: what browsers were \
                             told is forgotten at a restart; run: {GRANT}"
                        );
                    }
                    backoff.reset();
                    was_up = true;
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
                }
                Err(OpenError::Installation(error)) if !was_up && error.is_permanent() => {
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

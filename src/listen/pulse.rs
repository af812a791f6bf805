//! The pulse: proves that the listener hears, by sending something that it has to hear.
//!
//! A session can look healthy and be deaf: behind PgBouncer in transaction mode, on a standby, or after
//! a server-side error in the notification queue.

use std::sync::Arc;
use std::time::Duration;

use log::{debug, error, info, warn};
use tokio::sync::{Notify, watch};
use tokio::time::timeout;

use super::beat::Expected;
use crate::database::{NOT_A_STANDBY, Queries, QueryError, Session};
use crate::systemd;

/// Time between two beats: a deaf daemon is noticed within this and [`TIMEOUT`].
const INTERVAL: Duration = Duration::from_secs(10);

/// How long a beat may be on its way. It takes milliseconds, unless the server is very busy.
const TIMEOUT: Duration = Duration::from_secs(10);

/// How many beats in a row may stay without an answer, before every session is given up and connected
/// anew: a proxy may keep up a connection whose server is gone, and no keepalive sees behind it.
const SILENT_BEATS: u32 = 2;

/// The pulse's task.
#[derive(Debug)]
pub(crate) struct Pulse {
    queries: Queries,
    expected: Expected,
    beats: watch::Receiver<u64>,
    listening: watch::Receiver<bool>,
    deaf: Arc<Notify>,
    hung: Arc<Notify>,
    number: u64,
}

impl Pulse {
    /// A pulse that is sent through `queries`, comes back as `beats` while the listener `listening`, and
    /// tells it that it is `deaf` if not; and tells the keepers of sessions that they are `hung` if a beat
    /// cannot even be sent.
    pub(crate) fn new(
        queries: Queries,
        expected: Expected,
        beats: watch::Receiver<u64>,
        listening: watch::Receiver<bool>,
        deaf: Arc<Notify>,
        hung: Arc<Notify>,
    ) -> Self {
        Self {
            queries,
            expected,
            beats,
            listening,
            deaf,
            hung,
            number: 0,
        }
    }

    /// Beats until the daemon stops.
    pub(crate) async fn run(mut self) {
        let mut silent = 0;
        loop {
            // While the database is known to be away, which a restart would not mend, that is life enough.
            let session = match timeout(INTERVAL, self.connected()).await {
                Ok(Some(session)) => session,
                Ok(None) => return,
                Err(_) => {
                    systemd::alive();
                    continue;
                }
            };
            self.number += 1;
            match timeout(TIMEOUT, self.send(&session)).await {
                Ok(Ok(())) => {
                    if std::mem::take(&mut silent) > 0 {
                        info!("database: it answers again");
                    }
                    self.await_echo(&session).await;
                }
                Ok(Err(error)) => debug!("pulse: {error}"),
                Err(_) => {
                    silent += 1;
                    self.no_answer(silent);
                }
            }
            tokio::time::sleep(INTERVAL).await;
        }
    }

    async fn send(&self, session: &Session) -> Result<(), QueryError> {
        let token = self.expected.expect(self.number);
        session.send_pulse(&token).await
    }

    /// Waits until there is a session to send a beat, and the listener listens for it; `None` once the daemon is
    /// stopping.
    async fn connected(&mut self) -> Option<Arc<Session>> {
        let session = self.queries.session().await?;
        self.listening.wait_for(|listening| *listening).await.ok()?;
        Some(session)
    }

    /// Nothing is lost by waiting: what was sent goes on where it stopped, or is read again on the next
    /// connection.
    fn no_answer(&self, beats: u32) {
        if beats == 1 {
            warn!("database: no answer within {TIMEOUT:?}; is the server overloaded or frozen?");
        }
        if beats.is_multiple_of(SILENT_BEATS) {
            error!(
                "database: still no answer: connecting anew; is the server, or a proxy on the way to it, hanging?"
            );
            self.hung.notify_waiters();
            self.deaf.notify_one();
        }
    }

    async fn await_echo(&mut self, session: &Session) {
        let number = self.number;
        let echo = self.beats.wait_for(|beat| *beat >= number);
        if timeout(TIMEOUT, echo).await.is_ok() {
            // The whole way: a statement, the server, the listener, and whatever runs them here.
            systemd::alive();
            return;
        }
        if !*self.listening.borrow() {
            return;
        }
        match session.diagnose_deafness().await {
            // It came meanwhile: the server was only slow.
            Ok(_) if *self.beats.borrow() >= number => return,
            Ok(true) => error!("database: the listener is deaf: {NOT_A_STANDBY}"),
            Ok(false) => error!(
                "database: the listener is deaf: it did not hear its own notification within {TIMEOUT:?}. If a \
                 pooler in transaction mode (PgBouncer) is between here and PostgreSQL, connect to PostgreSQL \
                 itself. Otherwise the notification queue was damaged; listening again repairs it"
            ),
            Err(error) => debug!("pulse: {error}"),
        }
        self.deaf.notify_one();
    }
}

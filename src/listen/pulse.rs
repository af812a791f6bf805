//! The pulse: proves that the listener receives notifications, by sending one to it.
//!
//! A session can seem healthy and be deaf: behind PgBouncer in transaction mode, on a standby, or after a server-side error in
//! the notification queue.

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

/// How long a beat may take. It takes milliseconds, unless the server is very busy.
const TIMEOUT: Duration = Duration::from_secs(10);

/// After this many beats without an answer in a row, every session reconnects: a proxy may keep a connection open whose server is
/// gone, which keepalives do not detect.
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
    /// A pulse that sends through `queries` and waits for `beats` while the listener is `listening`. It notifies `deaf` if a beat
    /// does not come back, and `hung` if one cannot even be sent.
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

    /// Sends beats until the daemon stops.
    pub(crate) async fn run(mut self) {
        let mut silent = 0;
        loop {
            // While the database is known to be unreachable, the daemon counts as alive: a restart would not help.
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
                        info!("database: answers again");
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

    /// Waits until there is a session to send a beat and the listener listens; `None` once the daemon is stopping.
    async fn connected(&mut self) -> Option<Arc<Session>> {
        let session = self.queries.session().await?;
        self.listening.wait_for(|listening| *listening).await.ok()?;
        Some(session)
    }

    /// Logs that a beat could not be sent, and makes all sessions reconnect after several in a row. Neither loses anything:
    /// statements continue, or are repeated on the next connection.
    fn no_answer(&self, beats: u32) {
        if beats == 1 {
            warn!("database: no answer within {TIMEOUT:?}; is the server overloaded or frozen?");
        }
        if beats.is_multiple_of(SILENT_BEATS) {
            error!(
                "database: still no answer, reconnecting; is the server, or a proxy in front of it, hanging?"
            );
            self.hung.notify_waiters();
            self.deaf.notify_one();
        }
    }

    async fn await_echo(&mut self, session: &Session) {
        let number = self.number;
        let echo = self.beats.wait_for(|beat| *beat >= number);
        if timeout(TIMEOUT, echo).await.is_ok() {
            // The whole round trip: statement, server, listener, and this runtime.
            systemd::alive();
            return;
        }
        if !*self.listening.borrow() {
            return;
        }
        match session.diagnose_deafness().await {
            // It arrived meanwhile: the server was only slow.
            Ok(_) if *self.beats.borrow() >= number => return,
            Ok(true) => error!("database: the listener is deaf: {NOT_A_STANDBY}"),
            Ok(false) => error!(
                "database: the listener is deaf: it did not receive its own notification within {TIMEOUT:?}. If a \
                 pooler in transaction mode (PgBouncer) is between this daemon and PostgreSQL, connect to PostgreSQL \
                 itself. Otherwise the notification queue was damaged; listening again repairs it"
            ),
            Err(error) => debug!("pulse: {error}"),
        }
        self.deaf.notify_one();
    }
}

//! The pulse: proves that the listener hears, by sending something that it has to hear.
//!
//! A session can look healthy and be deaf: behind PgBouncer in transaction mode, on a standby, or after
//! a server-side error in the notification queue. Each beat also carries how far the database was when
//! it was sent. NOTIFY delivers in the order of commits, so whoever has heard a beat has heard all that
//! was committed before it; that is how the hub learns which history rows are settled.

use std::sync::Arc;
use std::time::Duration;

use log::{debug, error, info, warn};
use tokio::sync::{Notify, watch};
use tokio::time::timeout;

use crate::database::{NOT_A_STANDBY, describe};
use crate::notification::{Beat, PULSE_CHANNEL};
use crate::queries::{Queries, Session};
use crate::service;

/// Time between two beats: a deaf daemon is noticed within this and [`PATIENCE`].
const INTERVAL: Duration = Duration::from_secs(10);

/// How long a beat may be on its way. It takes milliseconds, unless the server is very busy.
const PATIENCE: Duration = Duration::from_secs(10);

/// How many beats in a row may stay without an answer, before every session is given up and connected
/// anew: a proxy may keep up a connection whose server is gone, and no keepalive sees behind it.
const SILENT_BEATS: u32 = 2;

/// Marks our own beats among those of other bridges.
#[derive(Debug, Clone)]
pub struct PulseToken(String);

impl Default for PulseToken {
    fn default() -> Self {
        Self(format!("{:016x}-", rand::random::<u64>()))
    }
}

impl PulseToken {
    fn with(&self, number: u64) -> String {
        format!("{}{number}", self.0)
    }

    /// Which of our beats this is, if it is ours.
    pub fn number(&self, token: &str) -> Option<u64> {
        token.strip_prefix(&self.0)?.parse().ok()
    }
}

/// Finds out from beats up to which history row everything is settled.
#[derive(Debug, Default)]
pub struct Settling {
    /// The newest id of the last beat.
    earlier: Option<i64>,
    /// The newest id of some beat, and the first transaction that had not begun one beat later.
    candidate: Option<(i64, u64)>,
}

impl Settling {
    /// Takes a beat. Returns an id up to which no transaction can bring another row any more: at some
    /// earlier beat it was the newest, and all transactions of the beat after that have ended since.
    ///
    /// The beat after, because an id may be drawn a moment before its transaction gets its number.
    pub fn beat(&mut self, beat: &Beat) -> Option<i64> {
        let settled = self
            .candidate
            .take_if(|(_, future)| beat.oldest_running >= *future)
            .map(|(newest_id, _)| newest_id);
        if self.candidate.is_none() {
            self.candidate = self.earlier.map(|newest_id| (newest_id, beat.first_future));
        }
        self.earlier = Some(beat.newest_id);
        settled
    }
}

/// The pulse's task.
#[derive(Debug)]
pub struct Pulse {
    queries: Queries,
    token: PulseToken,
    beats: watch::Receiver<u64>,
    hears: watch::Receiver<bool>,
    deaf: Arc<Notify>,
    hung: Arc<Notify>,
    number: u64,
}

impl Pulse {
    /// A pulse that is sent through `queries`, comes back as `beats` while the listener `hears`, and
    /// tells it that it is `deaf` if not; and tells the keepers of sessions that they are `hung` if a beat
    /// cannot even be sent.
    pub fn new(
        queries: Queries,
        token: PulseToken,
        beats: watch::Receiver<u64>,
        hears: watch::Receiver<bool>,
        deaf: Arc<Notify>,
        hung: Arc<Notify>,
    ) -> Self {
        Self {
            queries,
            token,
            beats,
            hears,
            deaf,
            hung,
            number: 0,
        }
    }

    /// Beats until the daemon stops.
    pub async fn run(mut self) {
        let mut silent = 0;
        loop {
            // While the database is known to be away, which a restart would not mend, that is life enough.
            let session = match timeout(INTERVAL, self.connected()).await {
                Ok(Some(session)) => session,
                Ok(None) => return,
                Err(_) => {
                    service::alive();
                    continue;
                }
            };
            self.number += 1;
            let token = self.token.with(self.number);
            match timeout(PATIENCE, session.send_pulse(PULSE_CHANNEL, &token)).await {
                Ok(Ok(())) => {
                    if std::mem::take(&mut silent) > 0 {
                        info!("database: it answers again");
                    }
                    self.await_echo(&session).await;
                }
                Ok(Err(error)) => debug!("pulse: {}", describe(&error)),
                Err(_) => {
                    silent += 1;
                    self.no_answer(silent);
                }
            }
            tokio::time::sleep(INTERVAL).await;
        }
    }

    /// Waits until there is a session to send a beat, and the listener listens for it; `None` once the daemon is
    /// stopping.
    async fn connected(&mut self) -> Option<Arc<Session>> {
        let session = self.queries.session().await?;
        self.hears.wait_for(|hears| *hears).await.ok()?;
        Some(session)
    }

    /// Nothing is lost by waiting: what was sent goes on where it stopped, or is read again on the next
    /// connection.
    fn no_answer(&self, beats: u32) {
        if beats == 1 {
            warn!("database: no answer within {PATIENCE:?}; is the server overloaded or frozen?");
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
        if timeout(PATIENCE, echo).await.is_ok() {
            // The whole way: a statement, the server, the listener, and whatever runs them here.
            service::alive();
            return;
        }
        if !*self.hears.borrow() {
            return;
        }
        match session.diagnose_deafness().await {
            // It came meanwhile: the server was only slow.
            Ok(_) if *self.beats.borrow() >= number => return,
            Ok(true) => error!("database: the listener is deaf: {NOT_A_STANDBY}"),
            Ok(false) => error!(
                "database: the listener is deaf: it did not hear its own notification within {PATIENCE:?}. If a \
                 pooler in transaction mode (PgBouncer) is between here and PostgreSQL, connect to PostgreSQL \
                 itself. Otherwise the notification queue was damaged; listening again repairs it"
            ),
            Err(error) => debug!("pulse: {}", describe(&error)),
        }
        self.deaf.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn beat(newest_id: i64, oldest_running: u64, first_future: u64) -> Beat {
        Beat {
            token: String::new(),
            newest_id,
            oldest_running,
            first_future,
        }
    }

    #[test]
    fn an_id_is_settled_once_all_transactions_of_its_time_have_ended() {
        let mut settling = Settling::default();
        let mut settled = |newest, oldest, first| settling.beat(&beat(newest, oldest, first));
        assert_eq!(settled(100, 5, 10), None);
        // What was the newest one beat ago waits for all transactions of now.
        assert_eq!(settled(120, 7, 15), None);
        // Transaction 14 is still running; it may have drawn id 99.
        assert_eq!(settled(130, 14, 20), None);
        assert_eq!(settled(140, 15, 25), Some(100));
        assert_eq!(settled(150, 25, 25), Some(130));
        assert_eq!(settled(150, 25, 25), Some(140));
    }

    #[test]
    fn beats_of_other_daemons_are_not_ours() {
        let (ours, theirs) = (PulseToken::default(), PulseToken::default());
        assert_eq!(ours.number(&ours.with(7)), Some(7));
        assert_eq!(ours.number(&theirs.with(7)), None);
        assert_eq!(ours.number("7"), None);
        assert_eq!(ours.number(&format!("{}x", ours.with(7))), None);
    }
}

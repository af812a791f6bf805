//! The pulse: proves that the listener hears, by sending something that it has to hear.
//!
//! A session can look healthy and be deaf: behind PgBouncer in transaction mode, on a standby, or after
//! a server-side error in the notification queue. Each beat also stands for how far the database was before
//! it was sent. NOTIFY delivers in the order of commits, so whoever has heard a beat has heard all that
//! was committed before it; that is how the hub learns which history rows are settled.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use log::{debug, error, info, warn};
use tokio::sync::{Notify, watch};
use tokio::time::timeout;

use crate::database::{NOT_A_STANDBY, describe};
use crate::database::{Queries, Session, Tide, Timeline};
use crate::model::notification::Token;
use crate::systemd;

/// Time between two beats: a deaf daemon is noticed within this and [`PATIENCE`].
const INTERVAL: Duration = Duration::from_secs(10);

/// How long a beat may be on its way. It takes milliseconds, unless the server is very busy.
const PATIENCE: Duration = Duration::from_secs(10);

/// How many beats in a row may stay without an answer, before every session is given up and connected
/// anew: a proxy may keep up a connection whose server is gone, and no keepalive sees behind it.
const SILENT_BEATS: u32 = 2;

/// The beat that is on its way. Cheap to clone.
///
/// Everybody can hear beats and send what looks like one. So all that travels is a mark that was never used before, and it
/// counts once.
#[derive(Debug, Clone, Default)]
pub struct Expected(Arc<Mutex<Option<(Token, u64, Tide)>>>);

impl Expected {
    /// Expects beat `number` of the `tide` from now on, and no other. Returns the mark to send.
    fn expect(&self, number: u64, tide: Tide) -> Token {
        let token = Token(rand::random());
        *self.lock() = Some((token, number, tide));
        token
    }

    /// Which beat this is, if it is the expected one.
    pub fn take(&self, token: &Token) -> Option<(u64, Tide)> {
        self.lock()
            .take_if(|(expected, ..)| expected == token)
            .map(|(_, number, tide)| (number, tide))
    }

    fn lock(&self) -> MutexGuard<'_, Option<(Token, u64, Tide)>> {
        // Whoever panicked with it left it valid.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Finds out from beats up to which history row everything is settled.
#[derive(Debug, Default)]
pub struct Settling {
    /// Whose ids these are.
    timeline: Option<Timeline>,
    /// The newest id of the last beat.
    earlier: Option<i64>,
    /// The newest id of some beat, and the first transaction that had not begun one beat later.
    candidate: Option<(i64, u64)>,
}

impl Settling {
    /// Takes the tide of a beat. Returns an id up to which no transaction can bring another row any more: at some
    /// earlier beat it was the newest, and all transactions of the beat after that have ended since.
    ///
    /// The beat after, because an id may be drawn a moment before its transaction gets its number.
    pub fn beat(&mut self, beat: &Tide) -> Option<i64> {
        if self.timeline != beat.timeline {
            *self = Self {
                timeline: beat.timeline.clone(),
                ..Self::default()
            };
        }
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
    expected: Expected,
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
        expected: Expected,
        beats: watch::Receiver<u64>,
        hears: watch::Receiver<bool>,
        deaf: Arc<Notify>,
        hung: Arc<Notify>,
    ) -> Self {
        Self {
            queries,
            expected,
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
                    systemd::alive();
                    continue;
                }
            };
            self.number += 1;
            match timeout(PATIENCE, self.send(&session)).await {
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

    async fn send(&self, session: &Session) -> Result<(), tokio_postgres::Error> {
        // Taken before the beat is sent: whoever hears that has heard all that was committed by then.
        let tide = session.tide().await?;
        let token = self.expected.expect(self.number, tide);
        session.send_pulse(&token).await
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
            systemd::alive();
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

    fn tide(newest_id: i64, oldest_running: u64, first_future: u64) -> Tide {
        Tide {
            newest_id,
            oldest_running,
            first_future,
            timeline: None,
        }
    }

    #[test]
    fn an_id_is_settled_once_all_transactions_of_its_time_have_ended() {
        let mut settling = Settling::default();
        let mut settled = |newest, oldest, first| settling.beat(&tide(newest, oldest, first));
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
    fn nothing_of_another_timeline_settles_an_id() {
        let mut settling = Settling::default();
        for _ in 0..2 {
            assert_eq!(settling.beat(&tide(100, 9, 9)), None);
        }
        let after_failover = Tide {
            timeline: Some("2".into()),
            ..tide(50, 9, 9)
        };
        assert_eq!(settling.beat(&after_failover), None);
        assert_eq!(settling.beat(&after_failover), None);
        assert_eq!(settling.beat(&after_failover), Some(50));
    }

    #[test]
    fn a_beat_counts_once_and_no_other_does() {
        let (ours, theirs) = (Expected::default(), Expected::default());
        let earlier = ours.expect(1, tide(1, 1, 1));
        let token = ours.expect(2, tide(2, 2, 2));
        assert_eq!(ours.take(&earlier), None);
        assert_eq!(ours.take(&theirs.expect(2, tide(9, 9, 9))), None);
        assert_eq!(ours.take(&token), Some((2, tide(2, 2, 2))));
        assert_eq!(ours.take(&token), None);
    }
}

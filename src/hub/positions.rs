//! Stores the positions of browsers, so that they survive this process and other processes find them; and corrects them after a
//! failover that lost rows.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use log::{debug, warn};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::Memory;
use super::registry::{Hub, UNKNOWN};
use crate::database::{Queries, QueryError, RowIdentity, Session, ToStore};
use crate::model::event::Event;
use crate::model::explanation::Done;
use crate::model::ids::{HistoryId, IncidentId};
use crate::model::position::Position;
use crate::model::timeline::{Epoch, Timeline};
use crate::observe::Throttle;

/// Time between two writes: events delivered within it may be sent again if the process is killed.
const INTERVAL: Duration = Duration::from_secs(1);

/// How long the position of a disconnected browser is kept in memory if it is also stored: until it surely is stored.
const KEEP_STORED: Duration = Duration::from_secs(120);

/// How long it is kept if positions are not stored.
const KEEP_UNSTORED: Duration = Duration::from_secs(3600);

/// Positions per statement.
const CHUNK: usize = 1000;

/// A copy of what a browser has acknowledged, to use without the lock.
#[derive(Debug)]
pub(crate) struct Acknowledged {
    /// Of which browser.
    memory: Memory,
    /// As [`Remembered::position`](super::memory::Remembered::position).
    pub(crate) position: Position,
    /// As [`Remembered::recent`](super::memory::Remembered::recent).
    pub(crate) recent: Vec<(Done, IncidentId)>,
}

impl Hub {
    /// Copies what all remembered browsers have acknowledged.
    pub(crate) fn acknowledged(&self) -> Vec<Acknowledged> {
        let state = self.state();
        let memories = state.memories.iter();
        memories
            .map(|memory| {
                let remembered = memory.lock();
                Acknowledged {
                    memory: memory.clone(),
                    position: remembered.position.clone(),
                    recent: remembered.recent.clone(),
                }
            })
            .collect()
    }

    /// Follows another timeline. `acknowledged` has the positions of browsers that are known to hold on it; rows delivered
    /// meanwhile are added. Browsers look for the rest.
    pub(crate) fn follow(&self, timeline: Timeline, acknowledged: Vec<(Acknowledged, Position)>) {
        let another = !acknowledged.is_empty();
        let mut state = self.state();
        state.timeline = Some(timeline);
        self.0.settled.store(UNKNOWN, Ordering::Release);
        let mut acknowledged: HashMap<_, _> = (acknowledged.into_iter())
            .map(|(before, position)| (before.memory.key(), (before, position)))
            .collect();
        state.change_all(|memory, remembered| {
            let before = acknowledged.remove(&memory.key());
            let Some((before, position)) = before.filter(|(b, _)| b.memory.is(memory)) else {
                return false;
            };
            remembered.position = position;
            let meanwhile: Vec<_> = (remembered.recent.iter())
                .filter(|row| !before.recent.contains(row))
                .map(|(done, _)| done.row)
                .collect();
            remembered.position.extend(meanwhile);
            true
        });
        drop(state);
        if another {
            self.gap();
        }
    }

    /// Records that an event was delivered to a browser, or was given up if it was not `acknowledged`.
    pub(crate) fn delivered(&self, memory: &Memory, event: &Event, acknowledged: bool) {
        let was_unstored = {
            let mut remembered = memory.lock();
            remembered.delivered(event, acknowledged);
            std::mem::replace(&mut remembered.unstored, true)
        };
        // Outside the memory's lock: other code locks the hub first and then a memory.
        if !was_unstored {
            self.state().unstored.push(memory.clone());
        }
    }

    /// Positions that have changed since the last call, and the epoch of their ids. A position that is a time is deferred until
    /// it has ids: another process would send newer rows again.
    pub(crate) fn unstored_positions(&self) -> Option<(Epoch, Vec<ToStore>)> {
        let mut state = self.state();
        let (epoch, number) = (state.epoch.clone()?, state.epoch_number);
        let (mut positions, mut later) = (Vec::new(), Vec::new());
        for memory in std::mem::take(&mut state.unstored) {
            // It may have been forgotten because its sign-in has ended.
            if !state.remembers(&memory) {
                continue;
            }
            let mut remembered = memory.lock();
            if remembered.epoch != number || remembered.position.time_ms().is_some() {
                later.push(memory.clone());
            } else if std::mem::take(&mut remembered.unstored) {
                positions.push(ToStore {
                    key: memory.key(),
                    position: remembered.position.clone(),
                    signed_in_at_ms: remembered.signed_in_at_ms,
                });
            }
        }
        state.unstored = later;
        Some((epoch, positions))
    }

    /// Marks positions as unstored again, because storing them failed.
    pub(crate) fn still_unstored(&self, positions: &[ToStore]) {
        let keys: HashSet<_> = positions.iter().map(|stored| stored.key).collect();
        self.state()
            .change_all(|memory, _| keys.contains(&memory.key()));
    }

    /// Forgets browsers that have been disconnected for `age`.
    pub(crate) fn forget(&self, age: Duration) {
        let mut state = self.state();
        while let Some((left_at, memory)) = state.left.front().cloned()
            && left_at.elapsed() >= age
        {
            state.left.pop_front();
            let recipient = state.recipients.get(&memory.contact_id());
            let is_connected = recipient.is_some_and(|r| r.browsers.contains(memory.key()));
            // A browser that reconnected and left again is listed once more.
            if !is_connected && state.remembers(&memory) && memory.lock().touched.elapsed() >= age {
                state.memories.remove(&memory.key());
            }
        }
    }
}

/// The task that stores positions.
#[derive(Debug)]
pub(crate) struct Positions {
    hub: Hub,
    queries: Queries,
    failed: Throttle,
    /// The session whose timeline was checked. Weak, because a session that hangs must be closed.
    followed: Weak<Session>,
    timeline: Option<Timeline>,
}

impl Positions {
    /// Stores the positions of `hub` through `queries`.
    pub(crate) fn new(hub: Hub, queries: Queries) -> Self {
        Self {
            hub,
            queries,
            failed: Throttle::default(),
            followed: Weak::new(),
            timeline: None,
        }
    }

    /// Stores changed positions once a second, as soon as the database is reachable again after an outage, and a last time at
    /// `stop`. Must not be cancelled: positions that are being stored would count as stored.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let mut ticks = interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // Positions that could not be written are due as soon as the database is reachable.
        let mut overdue = false;
        loop {
            let due = async {
                if !overdue {
                    ticks.tick().await;
                }
                self.queries.session().await
            };
            let session = tokio::select! {
                session = due => session,
                () = stop.cancelled() => {
                    if let Some(session) = self.queries.current() {
                        self.store(&session).await;
                    }
                    return;
                }
            };
            let Some(session) = session else {
                return;
            };
            self.store(&session).await;
            overdue = session.is_closed();
        }
    }

    async fn store(&mut self, session: &Arc<Session>) {
        if self.followed.as_ptr() != Arc::as_ptr(session) {
            match self.follow(session).await {
                Ok(true) => self.followed = Arc::downgrade(session),
                Ok(false) => return,
                Err(error) => {
                    return debug!("cannot read the timeline yet: {error}");
                }
            }
        }
        if !session.stores_positions() {
            self.hub.forget(KEEP_UNSTORED);
            return;
        }
        let Some((epoch, positions)) = self.hub.unstored_positions() else {
            return;
        };
        for (index, chunk) in positions.chunks(CHUNK).enumerate() {
            if let Err(error) = session.store_positions(chunk, &epoch).await {
                if let QueryError::Lost(_) = error {
                    debug!("cannot store positions: {error}");
                } else if let Some(more) = self.failed.take() {
                    warn!("cannot store positions, they are kept in memory: {error}{more}");
                }
                self.hub.still_unstored(&positions[index * CHUNK..]);
                return;
            }
        }
        self.hub.forget(KEEP_STORED);
    }

    /// Checks the timeline of the database. If it has changed, each position becomes the stored one, plus the delivered rows that
    /// exist in the database: the last commits before a failover may be lost, and their ids reused. Returns whether the timeline
    /// is known.
    async fn follow(&mut self, session: &Session) -> Result<bool, QueryError> {
        let Some(timeline) = session.timeline().await? else {
            // A standby: positions cannot be stored there either.
            return Ok(false);
        };
        if self.timeline.as_ref() == Some(&timeline) {
            return Ok(true);
        }
        let mut acknowledged = Vec::new();
        if let (Some(_), Some((epoch, _))) = (&self.timeline, self.hub.epoch()) {
            let mut before = self.hub.acknowledged();
            while !before.is_empty() {
                let chunk = before.split_off(before.len().saturating_sub(CHUNK));
                acknowledged.extend(compare(session, chunk, &epoch).await?);
            }
            // Logged after it succeeded: until then it is retried every second.
            warn!(
                "database: the timeline has changed, by a failover or a restore: the positions of browsers were \
                 compared with the database"
            );
        }
        self.hub.follow(timeline.clone(), acknowledged);
        self.timeline = Some(timeline);
        Ok(true)
    }
}

/// The positions of browsers as far as their rows exist in the database.
async fn compare(
    session: &Session,
    acknowledged: Vec<Acknowledged>,
    epoch: &Epoch,
) -> Result<Vec<(Acknowledged, Position)>, QueryError> {
    let keys: Vec<_> = acknowledged
        .iter()
        .map(|acknowledged| acknowledged.memory.key())
        .collect();
    let rows = acknowledged
        .iter()
        .flat_map(|acknowledged| &acknowledged.recent);
    let history_ids: Vec<HistoryId> = rows.map(|(done, _)| done.row).collect();
    let stored = session.positions(&keys, epoch).await?;
    let (existing, newest) = session.existing(&history_ids).await?;
    let compared = acknowledged.into_iter().map(|acknowledged| {
        let mut position = match stored.get(&acknowledged.memory.key()) {
            // A time has the same meaning on every timeline.
            _ if acknowledged.position.time_ms().is_some() => acknowledged.position.clone(),
            Some(position) => position.clone(),
            // The best estimate for a position that was never stored.
            None => Position::new(acknowledged.position.floor().min(newest), []),
        };
        let there = |(done, incident_id): &&(Done, IncidentId)| {
            existing.contains(&RowIdentity {
                history_id: done.row,
                incident_id: *incident_id,
                contact_id: acknowledged.memory.contact_id(),
            })
        };
        position.extend(
            acknowledged
                .recent
                .iter()
                .filter(there)
                .map(|(done, _)| done.row),
        );
        (acknowledged, position)
    });
    Ok(compared.collect())
}

#[cfg(test)]
mod tests {
    use super::super::Message;
    use super::super::registry::tests::{event, sign_in};
    use super::*;
    use crate::model::browser::BrowserKey;
    use crate::model::event::Event;
    use crate::model::ids::ContactId;

    #[test]
    fn positions_are_stored_once_unless_that_failed() {
        let hub = Hub::new(100);
        let (_place, mailbox) = hub.enter(&sign_in(7, "a")).unwrap();
        assert!(hub.unstored_positions().is_none(), "no epoch yet");
        hub.change_epoch(&"1".into(), 0);
        let unstored = || hub.unstored_positions().unwrap().1;
        let positions = unstored();
        assert_eq!(positions.len(), 1);
        assert!(unstored().is_empty());
        hub.still_unstored(&positions);
        assert_eq!(unstored().len(), 1);
        let memory = mailbox.unwrap().memory;
        let deliver = || {
            hub.delivered(&memory, &event(1), true);
        };
        deliver();
        deliver();
        assert_eq!(unstored().len(), 1);
        assert!(unstored().is_empty());

        hub.change_epoch(&"2".into(), 5);
        assert!(unstored().is_empty(), "a time is not stored");
        memory.lock().position.settle(HistoryId(1));
        assert_eq!(unstored().len(), 1);
    }

    #[test]
    fn another_timeline_drops_rows_that_it_does_not_have() {
        let hub = Hub::new(100);
        hub.settle(HistoryId(9), Some(&"1".into()));
        assert_eq!(hub.settled(), None, "not followed yet");
        hub.follow("1".into(), Vec::new());
        hub.settle(HistoryId(9), Some(&"1".into()));
        assert_eq!(hub.settled(), Some(HistoryId(9)));

        let (_place, mailbox) = hub.enter(&sign_in(7, "a")).unwrap();
        let mut mailbox = mailbox.unwrap();
        let memory = mailbox.memory.clone();
        let deliver = |history_id, incident_id: i64| {
            let event = Event {
                history_ids: vec![HistoryId(history_id)],
                ..Event::clone(&event(incident_id))
            };
            hub.delivered(&memory, &event, true);
        };
        deliver(20, 1);
        let acknowledged = hub.acknowledged();
        let recent = acknowledged[0].recent.iter().map(|(done, _)| done.row);
        assert!(recent.eq([HistoryId(20)]));
        // Between the query and following.
        deliver(15, 2);
        let acknowledged = acknowledged
            .into_iter()
            .map(|acknowledged| (acknowledged, Position::new(HistoryId(10), [])));
        hub.follow("2".into(), acknowledged.collect());
        let position = mailbox.memory.lock().position.clone();
        assert_eq!(position, Position::new(HistoryId(10), [15].map(HistoryId)));
        assert!(matches!(mailbox.messages.try_recv(), Ok(Message::Gap)));
        assert_eq!(hub.settled(), None);
        hub.settle(HistoryId(30), Some(&"1".into()));
        assert_eq!(hub.settled(), None);
    }

    #[test]
    fn only_disconnected_browsers_are_forgotten() {
        let hub = Hub::new(100);
        let (_here, _) = hub.enter(&sign_in(7, "a")).unwrap();
        let (place, mailbox) = hub.enter(&sign_in(7, "b")).unwrap();
        drop(place);
        assert!(hub.forget_browser(&mailbox.unwrap().memory));
        hub.forget(Duration::from_secs(60));
        assert!(hub.remembers(ContactId(7), BrowserKey::new("b")));
        hub.forget(Duration::ZERO);
        assert!(!hub.remembers(ContactId(7), BrowserKey::new("b")));
        assert!(hub.remembers(ContactId(7), BrowserKey::new("a")));
    }
}

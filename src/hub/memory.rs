//! What a browser has acknowledged, for as long as the process remembers it.

use std::borrow::Borrow;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::Instant;

use parking_lot::{Mutex, MutexGuard};

use crate::model::browser::BrowserKey;
use crate::model::event::Event;
use crate::model::explanation::{Done, How, now_s};
use crate::model::ids::{ContactId, IncidentId};
use crate::model::position::Position;
use crate::model::sign_in::SignIn;

/// How many delivered rows are remembered in addition to the position: enough for those delivered in the one or two seconds until
/// a position is stored, except in a storm.
const RECENT: usize = 64;

/// A browser of a contact, and what it has acknowledged. Shared by its task, the next task of the same browser, the hub, and the
/// task that stores positions.
///
/// As an element of a set it is equal to another one of the same browser.
#[derive(Debug, Clone)]
pub(crate) struct Memory(Arc<Known>);

#[derive(Debug)]
struct Known {
    contact_id: ContactId,
    key: BrowserKey,
    remembered: Mutex<Remembered>,
}

/// The content of a [`Memory`].
#[derive(Debug)]
pub(crate) struct Remembered {
    /// The rows that are done. It changes when an event is delivered, not when it is written.
    pub(crate) position: Position,
    /// The number of the hub's epoch that the ids belong to.
    pub(crate) epoch: u64,
    /// When Icinga Web authenticated the browser, in milliseconds since the Unix epoch.
    pub(crate) signed_in_at_ms: i64,
    /// The rows of the last delivered events and their incidents. They identify a row whose id may have been reused.
    pub(crate) recent: Vec<(Done, IncidentId)>,
    /// Undelivered events without a history row, which no replay would find.
    pub(crate) leftovers: Box<[Arc<Event>]>,
    /// Whether `position` has changed since it was last stored. If so, the hub lists it.
    pub(super) unstored: bool,
    /// When `position` last changed, or the browser last connected or disconnected.
    pub(crate) touched: Instant,
}

impl Memory {
    /// The memory of a new browser.
    pub(super) fn of(sign_in: &SignIn) -> Self {
        Self(Arc::new(Known {
            contact_id: sign_in.contact_id,
            key: sign_in.browser,
            remembered: Mutex::new(Remembered {
                position: sign_in.position.clone().unwrap_or_default(),
                epoch: sign_in.epoch,
                signed_in_at_ms: sign_in.signed_in_at_ms,
                recent: Vec::new(),
                leftovers: Box::default(),
                unstored: false,
                touched: Instant::now(),
            }),
        }))
    }

    /// The contact. A session that changes to another user gets another memory, so that the position is not inherited.
    pub(crate) fn contact_id(&self) -> ContactId {
        self.0.contact_id
    }

    /// The browser.
    pub(crate) fn key(&self) -> BrowserKey {
        self.0.key
    }

    /// Locks it, for a few statements without an await.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Remembered> {
        self.0.remembered.lock()
    }

    /// Whether both are the same, and not only of the same browser.
    pub(super) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

/// For the log: whose it is.
impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (contact_id, key) = (self.contact_id(), self.key());
        write!(f, "contact {contact_id}, browser {key:?}")
    }
}

impl Borrow<BrowserKey> for Memory {
    fn borrow(&self) -> &BrowserKey {
        &self.0.key
    }
}

impl Hash for Memory {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.key.hash(state);
    }
}

impl PartialEq for Memory {
    fn eq(&self, other: &Self) -> bool {
        self.0.key == other.0.key
    }
}

impl Eq for Memory {}

impl Remembered {
    /// Records that an event was delivered, or was given up if it was not `acknowledged`.
    pub(super) fn delivered(&mut self, event: &Event, acknowledged: bool) {
        self.touched = Instant::now();
        if event.epoch != self.epoch {
            // Its ids identify other rows now. It is older than the position's time.
            return;
        }
        if let Some(through) = event.through {
            self.position.settle(through);
        }
        self.position.extend(event.history_ids.iter().copied());
        let at_s = now_s();
        for row in &event.history_ids {
            let how = if !acknowledged {
                How::GivenUp
            } else if event.sums_up {
                How::SummedUp
            } else if event.bytes.is_empty() || event.named() != Some(*row) {
                How::Covered
            } else {
                How::Acknowledged
            };
            let done = Done {
                row: *row,
                at_s,
                how,
            };
            self.recent.push((done, event.incident_id));
        }
        let too_many = self.recent.len().saturating_sub(RECENT);
        drop(self.recent.drain(..too_many));
    }

    /// Begins another epoch: rows up to a time are done, in milliseconds since the Unix epoch.
    pub(super) fn change_epoch(&mut self, epoch: u64, delivered_until_ms: i64) {
        self.position = Position::delivered_until(delivered_until_ms);
        self.epoch = epoch;
        self.recent.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::super::registry::tests::{event, sign_in};
    use super::*;
    use crate::model::ids::HistoryId;

    fn memory() -> Memory {
        Memory::of(&sign_in(7, "a"))
    }

    #[test]
    fn recent_rows_are_bounded() {
        let memory = memory();
        let summary = Event {
            history_ids: (1..=100).map(HistoryId).collect(),
            ..Event::clone(&event(1))
        };
        memory.lock().delivered(&summary, true);
        let recent = memory.lock().recent.clone();
        assert_eq!(recent.len(), RECENT);
        let newest = recent
            .last()
            .map(|(done, incident_id)| (done.row, *incident_id));
        assert_eq!(newest, Some((HistoryId(100), IncidentId(1))));
    }

    #[test]
    fn the_outcome_of_each_row_is_remembered() {
        let of = |event: &Event, acknowledged| {
            let memory = memory();
            memory.lock().delivered(event, acknowledged);
            let recent = memory.lock().recent.clone();
            recent.iter().map(|(done, _)| done.how).collect::<Vec<_>>()
        };
        let shown = Event {
            history_ids: vec![HistoryId(5), HistoryId(4)],
            bytes: "data: 1\n\n".into(),
            ..Event::clone(&event(1))
        };
        assert_eq!(of(&shown, true), [How::Acknowledged, How::Covered]);
        assert_eq!(of(&shown, false), [How::GivenUp; 2]);
        let covering = Event::covering(vec![HistoryId(6)], 0);
        assert_eq!(of(&covering, true), [How::Covered]);
        let summary = Event {
            sums_up: true,
            ..shown
        };
        assert_eq!(of(&summary, true), [How::SummedUp; 2]);
    }

    #[test]
    fn a_delivery_in_another_epoch_does_not_change_the_position() {
        let memory = memory();
        memory.lock().change_epoch(1, 5);
        let earlier = Event {
            history_ids: vec![HistoryId(3)],
            ..Event::clone(&event(1))
        };
        memory.lock().delivered(&earlier, true);
        assert!(!memory.lock().position.contains(HistoryId(3)));
        let later = Event {
            epoch: 1,
            ..earlier
        };
        memory.lock().delivered(&later, true);
        assert!(memory.lock().position.contains(HistoryId(3)));
        assert_eq!(memory.lock().position.time_ms(), Some(5));
    }
}

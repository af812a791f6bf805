//! Which changes of incidents are new, and which were shown already.
//!
//! A role that can only connect can announce any incident. So the row decides: the transaction that wrote it last must have been
//! running within the last minute or two, and its change is shown once.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use crate::model::ids::IncidentId;
use crate::model::snapshot::Snapshot;

/// How long a change is new, at least; at most twice as long. Much longer than an announcement waits for a look.
const PERIOD: Duration = Duration::from_secs(60);

/// The changes shown in the current period and the one before.
#[derive(Debug, Default)]
pub(super) struct Recent {
    /// The start of the current period, and the oldest transaction that was running then, in 32 bits like PostgreSQL's `xmin`.
    now: Option<(Instant, u32)>,
    /// The oldest transaction of the previous period.
    before: Option<u32>,
    /// By incident and transaction.
    shown: HashSet<(IncidentId, u32)>,
    shown_before: HashSet<(IncidentId, u32)>,
}

impl Recent {
    /// Records the oldest running transaction, once per period.
    pub(super) fn saw(&mut self, snapshot: &Snapshot, now: Instant) {
        // `xmin` is the lower half of a transaction's number.
        #[allow(clippy::cast_possible_truncation, reason = "the lower half is wanted")]
        let oldest = snapshot.oldest_running() as u32;
        match self.now {
            Some((since, _)) if now.duration_since(since) < PERIOD => {}
            earlier => {
                self.before = Some(earlier.map_or(oldest, |(_, oldest)| oldest));
                self.now = Some((now, oldest));
                self.shown_before = std::mem::take(&mut self.shown);
            }
        }
    }

    /// Whether a transaction's change of an incident is new and was not shown. Records it as shown.
    pub(super) fn is_new(&mut self, incident_id: IncidentId, transaction: u32) -> bool {
        // Transaction numbers wrap around: half of all numbers are older.
        let recent = self
            .before
            .is_some_and(|oldest| transaction.wrapping_sub(oldest) < u32::MAX / 2);
        let change = (incident_id, transaction);
        recent && !self.shown_before.contains(&change) && self.shown.insert(change)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_new_for_a_minute_or_two_and_once() {
        let start = Instant::now();
        let mut recent = Recent::default();
        assert!(!recent.is_new(IncidentId(1), 5), "nothing is known yet");
        let future = u64::from(u32::MAX) + 5;
        recent.saw(&Snapshot::new(future, [future - 8]), start);
        let last = u32::MAX;
        for (transaction, new) in [(last - 4, false), (last - 3, true), (last, true), (2, true)] {
            assert_eq!(
                recent.is_new(IncidentId(1), transaction),
                new,
                "{transaction}"
            );
            assert!(!recent.is_new(IncidentId(1), transaction), "{transaction}");
        }
        assert!(recent.is_new(IncidentId(2), 2));
        recent.saw(&Snapshot::new(future, []), start + PERIOD);
        assert!(!recent.is_new(IncidentId(2), 2));
        assert!(recent.is_new(IncidentId(3), last));
        recent.saw(&Snapshot::new(future + 9, []), start + PERIOD * 2);
        assert!(!recent.is_new(IncidentId(4), last));
        assert!(recent.is_new(IncidentId(4), 5));
    }
}

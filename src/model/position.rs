//! A browser's position: the history rows that it has acknowledged.
//!
//! Ids are assigned before their transactions commit, so a lower id can become visible after a higher one, and "everything up to
//! the newest" could skip it. A position is therefore a floor, up to which all rows are done, and the ids above it that are done
//! too. The floor only rises to ids that are settled: no running transaction can still add a lower one (see [`crate::resolve`]).
//!
//! Ids have a meaning only within an epoch (see [`Epoch`](super::timeline::Epoch)). When another epoch begins, a position is a
//! time: all older rows are done.

use super::ids::HistoryId;
use std::collections::BTreeSet;

/// How many ids above the floor are kept. Events are sent oldest first, so if there are more, the floor can rise to the lowest of
/// them: that skips only rows of a transaction that stayed open while this many later rows were acknowledged.
const MAX_ABOVE: usize = 4000;

/// The rows that a browser has acknowledged.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Position {
    floor: HistoryId,
    above: BTreeSet<HistoryId>,
    /// Rows up to this time are done as well, in milliseconds since the Unix epoch; until the floor replaces it.
    delivered_until: Option<i64>,
}

impl Position {
    /// A position as stored.
    pub fn new(floor: HistoryId, above: impl IntoIterator<Item = HistoryId>) -> Self {
        let mut position = Self {
            floor,
            ..Self::default()
        };
        position.extend(above);
        position
    }

    /// The position of a browser for which everything up to a time is done, because its ids belong to an earlier epoch. In
    /// milliseconds since the Unix epoch.
    pub fn delivered_until(time_ms: i64) -> Self {
        Self {
            delivered_until: Some(time_ms),
            ..Self::default()
        }
    }

    /// Rows up to this time are done, whatever their ids; `None` if only ids count.
    pub fn time_ms(&self) -> Option<i64> {
        self.delivered_until
    }

    /// Ids up to and including this one are done.
    pub fn floor(&self) -> HistoryId {
        self.floor
    }

    /// The done ids above the floor, ascending.
    pub fn above(&self) -> impl Iterator<Item = HistoryId> + '_ {
        self.above.iter().copied()
    }

    /// Whether a row is done.
    pub fn contains(&self, history_id: HistoryId) -> bool {
        history_id <= self.floor || self.above.contains(&history_id)
    }

    /// Marks rows as done.
    pub fn extend(&mut self, history_ids: impl IntoIterator<Item = HistoryId>) {
        self.above
            .extend(history_ids.into_iter().filter(|id| *id > self.floor));
        while self.above.len() > MAX_ABOVE {
            if let Some(lowest) = self.above.pop_first() {
                self.floor = lowest;
            }
        }
    }

    /// Raises the floor to `settled`: no row up to there can still be missing, and rows up to the position's time are below it.
    pub fn settle(&mut self, settled: HistoryId) {
        self.delivered_until = None;
        if settled > self.floor {
            self.floor = settled;
            self.above = self
                .above
                .split_off(&HistoryId(settled.0.saturating_add(1)));
        }
    }

    /// Merges another copy of the position: a row is done if it is done in either.
    pub fn merge(&mut self, other: &Self) {
        let delivered_until = self.delivered_until.min(other.delivered_until);
        self.settle(other.floor);
        self.extend(other.above());
        self.delivered_until = delivered_until;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn above(position: &Position) -> Vec<i64> {
        position.above().map(|id| id.0).collect()
    }

    #[test]
    fn a_lower_id_that_comes_later_is_not_skipped() {
        let mut position = Position::new(HistoryId(10), []);
        position.extend([15].map(HistoryId));
        assert!(position.contains(HistoryId(10)) && position.contains(HistoryId(15)));
        assert!(!position.contains(HistoryId(12)));
        position.extend([12].map(HistoryId));
        assert!(position.contains(HistoryId(12)));
    }

    #[test]
    fn settling_raises_the_floor_and_forgets_what_is_below_it() {
        let mut position = Position::new(HistoryId(10), [12, 15, 20].map(HistoryId));
        position.settle(HistoryId(15));
        assert_eq!((position.floor().0, above(&position)), (15, vec![20]));
        position.settle(HistoryId(11));
        assert_eq!(position.floor().0, 15);
        assert!(
            position.contains(HistoryId(13))
                && position.contains(HistoryId(20))
                && !position.contains(HistoryId(19))
        );
    }

    #[test]
    fn ids_below_the_floor_are_not_kept() {
        let mut position = Position::new(HistoryId(10), [9, 10, 11].map(HistoryId));
        position.extend([3].map(HistoryId));
        assert_eq!(above(&position), [11]);
    }

    #[test]
    fn merging_keeps_what_either_side_knows() {
        let mut position = Position::new(HistoryId(10), [12, 30].map(HistoryId));
        position.merge(&Position::new(HistoryId(20), [25].map(HistoryId)));
        assert_eq!((position.floor().0, above(&position)), (20, vec![25, 30]));
    }

    #[test]
    fn a_time_counts_until_ids_do() {
        let mut position = Position::delivered_until(5);
        position.extend([1].map(HistoryId));
        assert_eq!((position.time_ms(), position.floor().0), (Some(5), 0));
        position.settle(HistoryId(0));
        assert_eq!(position.time_ms(), None);
        let mut known = Position::new(HistoryId(1), []);
        known.merge(&Position::delivered_until(5));
        assert_eq!(known.time_ms(), None);
    }

    #[test]
    fn the_number_of_remembered_ids_is_bounded() {
        let mut position = Position::new(HistoryId(0), []);
        position.extend((1..=6000).map(|id| HistoryId(id * 2)));
        assert_eq!(position.above().count(), MAX_ABOVE);
        assert_eq!(position.floor().0, 4000);
        position.settle(HistoryId(i64::MAX));
        assert!(position.contains(HistoryId(i64::MAX)));
    }
}

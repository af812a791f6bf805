//! Which ids of a table were seen, and which can still appear.
//!
//! An id is drawn from the sequence before its transaction commits, so a lower id can become visible after a higher one. A look
//! reads the ids above the newest one seen; ids missing below it are a gap. A gap is read again whenever a transaction that can
//! fill it has ended, and is given up when all of them have. So a transaction that stays open for an hour costs nothing until it
//! ends, no matter how many rows others write meanwhile.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::model::snapshot::Snapshot;

/// The age of a gap at which the running transactions are recorded as those that can fill it. An id can be drawn a moment before
/// its transaction gets a number, so a younger gap is read at each look.
const YOUNG: Duration = Duration::from_secs(1);

/// The ids of one table.
#[derive(Debug)]
pub struct Gaps {
    newest: i64,
    /// Ascending.
    gaps: Vec<Gap>,
}

/// Ids that were not seen although higher ones were.
#[derive(Debug, Clone)]
struct Gap {
    first: i64,
    last: i64,
    /// When the look that found it had read its rows: all these ids had been drawn by then.
    since: Instant,
    /// The transactions that can fill it; `None` while the gap is young.
    writers: Option<Arc<[u64]>>,
}

impl Gaps {
    /// Nothing is missing up to `newest`, and nothing is known above it.
    pub fn new(newest: i64) -> Self {
        Self {
            newest,
            gaps: Vec::new(),
        }
    }

    /// The newest id that was seen.
    pub fn newest(&self) -> i64 {
        self.newest
    }

    /// Up to this id, no missing id can still appear.
    pub fn floor(&self) -> i64 {
        self.gaps.first().map_or(self.newest, |gap| gap.first - 1)
    }

    /// Since when the [floor](Self::floor) is held back; `None` if nothing is missing.
    pub fn held_since(&self) -> Option<Instant> {
        self.gaps.first().map(|gap| gap.since)
    }

    /// Whether there are gaps that wait for transactions, and so are not read at each look.
    pub fn awaits(&self) -> bool {
        self.gaps.iter().any(|gap| gap.writers.is_some())
    }

    /// The ranges of ids, ends included, of young gaps, which the next look has to read.
    pub fn young(&self) -> Vec<(i64, i64)> {
        self.ranges(|gap| gap.writers.is_none())
    }

    /// The ranges of ids, ends included, that can have appeared by this snapshot, without the [young](Self::young) ones.
    pub fn filled(&self, snapshot: &Snapshot) -> Vec<(i64, i64)> {
        self.ranges(|gap| {
            let mut writers = gap.writers.iter().flat_map(|writers| writers.iter());
            writers.any(|transaction| snapshot.has_ended(*transaction))
        })
    }

    fn ranges(&self, wanted: impl Fn(&Gap) -> bool) -> Vec<(i64, i64)> {
        let gaps = self.gaps.iter().filter(|gap| wanted(gap));
        gaps.map(|gap| (gap.first, gap.last)).collect()
    }

    /// Records the `ids` that were read, ascending: above the newest one, in the young ranges and in the filled ones, all read
    /// after the `snapshot` was taken. The snapshot was requested at `asked`, and the last rows arrived at `read`: the server may
    /// be slow.
    pub fn saw(
        &mut self,
        ids: impl IntoIterator<Item = i64>,
        snapshot: &Snapshot,
        asked: Instant,
        read: Instant,
    ) {
        let mut seen = ids.into_iter().peekable();
        let mut left = Vec::with_capacity(self.gaps.len());
        for mut gap in self.gaps.drain(..) {
            let ended = |transaction: &u64| snapshot.has_ended(*transaction);
            gap.writers = match gap.writers.take() {
                Some(writers) if writers.iter().any(ended) => {
                    Some(writers.iter().copied().filter(|t| !ended(t)).collect())
                }
                // Each transaction that drew one of the ids has a number by this time.
                None if asked.duration_since(gap.since) >= YOUNG => {
                    Some(Arc::clone(snapshot.running()))
                }
                known => known,
            };
            let over = gap.writers.as_ref().is_some_and(|b| b.is_empty());
            while seen.next_if(|id| *id < gap.first).is_some() {}
            while let Some(id) = seen.next_if(|id| *id <= gap.last) {
                if gap.first < id && !over {
                    left.push(Gap {
                        last: id - 1,
                        ..gap.clone()
                    });
                }
                gap.first = id + 1;
            }
            if gap.first <= gap.last && !over {
                left.push(gap);
            }
        }
        for id in seen {
            if id > self.newest {
                if id > self.newest + 1 {
                    left.push(Gap {
                        first: self.newest + 1,
                        last: id - 1,
                        since: read,
                        writers: None,
                    });
                }
                self.newest = id;
            }
        }
        self.gaps = left;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// A look that takes no time.
    fn saw<const N: usize>(gaps: &mut Gaps, ids: [i64; N], snapshot: &Snapshot, now: Instant) {
        gaps.saw(ids, snapshot, now, now);
    }

    #[test]
    fn without_gaps_the_floor_is_the_newest() {
        let mut gaps = Gaps::new(10);
        saw(&mut gaps, [11, 12], &Snapshot::new(5, []), Instant::now());
        assert_eq!((gaps.newest(), gaps.floor()), (12, 12));
    }

    #[test]
    fn a_gap_is_read_again_when_a_transaction_that_can_fill_it_has_ended() {
        let start = Instant::now();
        let mut gaps = Gaps::new(10);
        // 12 and 14 were drawn by transactions 3 and 4.
        saw(&mut gaps, [11, 13, 15], &Snapshot::new(5, [3, 4]), start);
        assert_eq!((gaps.newest(), gaps.floor()), (15, 11));
        assert_eq!(gaps.young(), [(12, 12), (14, 14)]);
        saw(&mut gaps, [], &Snapshot::new(6, [3, 4, 5]), start + SECOND);
        assert!(gaps.young().is_empty());

        assert!(gaps.filled(&Snapshot::new(9, [3, 4, 5])).is_empty());
        let snapshot = Snapshot::new(9, [4, 5]);
        assert_eq!(gaps.filled(&snapshot), [(12, 12), (14, 14)]);
        saw(&mut gaps, [12], &snapshot, start + SECOND);
        assert_eq!(gaps.floor(), 13);
        // Rolled back: given up once all transactions of its time have ended.
        let snapshot = Snapshot::new(9, [5]);
        assert_eq!(gaps.filled(&snapshot), [(14, 14)]);
        saw(&mut gaps, [], &snapshot, start + SECOND);
        assert_eq!(gaps.floor(), 13);
        let snapshot = Snapshot::new(9, [8]);
        assert_eq!(gaps.filled(&snapshot), [(14, 14)]);
        saw(&mut gaps, [], &snapshot, start + SECOND);
        assert_eq!(gaps.floor(), 15);
    }

    #[test]
    fn an_id_drawn_before_its_transaction_had_a_number_is_awaited() {
        let start = Instant::now();
        let mut gaps = Gaps::new(10);
        // No transaction has a number yet, but 11 was drawn.
        saw(&mut gaps, [12], &Snapshot::new(5, []), start);
        saw(&mut gaps, [], &Snapshot::new(5, []), start + SECOND / 2);
        assert_eq!((gaps.floor(), gaps.young()), (10, vec![(11, 11)]));
        saw(&mut gaps, [], &Snapshot::new(6, [5]), start + SECOND);
        assert_eq!(gaps.floor(), 10);
        let ended = Snapshot::new(6, []);
        assert_eq!(gaps.filled(&ended), [(11, 11)]);
        saw(&mut gaps, [11], &ended, start + SECOND);
        assert_eq!(gaps.floor(), 12);
    }

    #[test]
    fn the_time_counts_from_the_end_of_a_look_that_took_long() {
        let start = Instant::now();
        let mut gaps = Gaps::new(10);
        // 11 was drawn just before 12 was read, and its transaction has no number yet when the next look begins.
        gaps.saw([12], &Snapshot::new(5, []), start, start + SECOND * 2);
        saw(&mut gaps, [], &Snapshot::new(5, []), start + SECOND * 2);
        assert_eq!((gaps.floor(), gaps.young()), (10, vec![(11, 11)]));
        // A snapshot that was requested early and read late does not count either.
        let (asked, read) = (start + SECOND * 5 / 2, start + SECOND * 4);
        gaps.saw([], &Snapshot::new(5, []), asked, read);
        assert_eq!(gaps.young(), [(11, 11)]);
        saw(&mut gaps, [11], &Snapshot::new(6, []), read);
        assert_eq!(gaps.floor(), 12);
    }

    #[test]
    fn a_range_is_filled_bit_by_bit() {
        let start = Instant::now();
        let mut gaps = Gaps::new(0);
        let running = Snapshot::new(9, [1]);
        saw(&mut gaps, [10], &running, start);
        saw(&mut gaps, [3, 9], &running, start);
        assert_eq!(gaps.young(), [(1, 2), (4, 8)]);
        saw(&mut gaps, [1, 2, 4, 11], &running, start);
        assert_eq!((gaps.floor(), gaps.newest()), (4, 11));
        // At the transaction's end, the ids that it wrote and those that it did not.
        saw(&mut gaps, [], &running, start + SECOND);
        saw(&mut gaps, [5], &Snapshot::new(9, []), start + SECOND);
        assert_eq!(gaps.floor(), 11);
    }
}

//! Counts of the last minutes: a counter since the start does not show the current state.
//!
//! One slot per minute, of fixed size: counting is an addition, and nothing has to be cleaned up.

use std::time::{Duration, Instant};

use super::metrics::LATENCY_BUCKETS;

/// How many minutes are kept, including the current one.
const MINUTES: usize = 5;

/// How long a slot is used.
const MINUTE: Duration = Duration::from_secs(60);

/// The counts of one minute.
#[derive(Debug, Default, Clone, Copy)]
struct Minute {
    /// The number of the minute since the start.
    number: usize,
    /// Latencies by bucket; the last bucket has no upper bound.
    latencies: [u32; LATENCY_BUCKETS.len() + 1],
    /// The longest of them, in seconds.
    slowest: f64,
    /// Events that were given up without a receipt.
    unacknowledged: usize,
}

/// The counts of the last minutes.
#[derive(Debug)]
pub(super) struct Recent {
    start: Instant,
    minutes: [Minute; MINUTES],
}

impl Recent {
    pub(super) fn new(start: Instant) -> Self {
        Self {
            start,
            minutes: [Minute::default(); MINUTES],
        }
    }

    fn number(&self, now: Instant) -> usize {
        let minutes = now.duration_since(self.start).as_secs() / MINUTE.as_secs();
        usize::try_from(minutes).unwrap_or(usize::MAX)
    }

    /// The slot of the current minute, reset if it has an older minute.
    fn current(&mut self, now: Instant) -> &mut Minute {
        let number = self.number(now);
        let minute = &mut self.minutes[number % MINUTES];
        if minute.number != number {
            *minute = Minute {
                number,
                ..Minute::default()
            };
        }
        minute
    }

    fn counted(&self, now: Instant) -> impl Iterator<Item = &Minute> {
        let number = self.number(now);
        (self.minutes.iter()).filter(move |minute| minute.number + MINUTES > number)
    }

    /// Counts a latency.
    pub(super) fn latency(&mut self, now: Instant, seconds: f64) {
        let minute = self.current(now);
        let bucket = LATENCY_BUCKETS.partition_point(|bound| *bound < seconds);
        minute.latencies[bucket] = minute.latencies[bucket].saturating_add(1);
        minute.slowest = minute.slowest.max(seconds);
    }

    /// Counts events that were given up without a receipt.
    pub(super) fn unacknowledged(&mut self, now: Instant, events: usize) {
        self.current(now).unacknowledged += events;
    }

    /// How many events were given up.
    pub(super) fn events_unacknowledged(&self, now: Instant) -> usize {
        self.counted(now).map(|minute| minute.unacknowledged).sum()
    }

    /// The latency in seconds that 95 % did not exceed, interpolated within a bucket; `None` without events.
    pub(super) fn latency_p95(&self, now: Instant) -> Option<f64> {
        let mut buckets = [0; LATENCY_BUCKETS.len() + 1];
        let mut slowest = 0.0_f64;
        for minute in self.counted(now) {
            for (sum, count) in buckets.iter_mut().zip(minute.latencies) {
                *sum += u64::from(count);
            }
            slowest = slowest.max(minute.slowest);
        }
        let rank = (buckets.iter().sum::<u64>() * 95).div_ceil(100);
        let mut below = 0;
        for (index, count) in buckets.into_iter().enumerate() {
            if count > 0 && below + count >= rank {
                let lower = index.checked_sub(1).map_or(0.0, |i| LATENCY_BUCKETS[i]);
                let bound = LATENCY_BUCKETS.get(index).copied();
                let upper = bound.unwrap_or(slowest).min(slowest);
                let share = (rank - below) as f64 / count as f64;
                return Some(lower + (upper - lower) * share);
            }
            below += count;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    #[test]
    fn without_events_there_is_no_latency() {
        let start = Instant::now();
        let mut recent = Recent::new(start);
        assert_eq!(recent.latency_p95(start), None);
        recent.unacknowledged(start, 1);
        assert_eq!(recent.latency_p95(start), None);
    }

    #[test]
    fn the_latency_is_never_beyond_the_slowest_nor_below_its_bucket() {
        let start = Instant::now();
        for (latencies, lowest, highest) in [
            (vec![0.0007], 0.0005, 0.0007),
            (vec![40.0], 10.0, 40.0),
            ([vec![0.0007; 95], vec![3.0; 5]].concat(), 0.0005, 0.001),
            ([vec![0.0007; 94], vec![3.0; 6]].concat(), 2.5, 3.0),
            (vec![0.0], 0.0, 0.0),
        ] {
            let mut recent = Recent::new(start);
            for latency in &latencies {
                recent.latency(start, *latency);
            }
            let p95 = recent.latency_p95(start).unwrap();
            assert!((lowest..=highest).contains(&p95), "{latencies:?}: {p95}");
        }
    }

    #[test]
    fn counts_older_than_five_minutes_are_dropped() {
        let start = Instant::now();
        let mut recent = Recent::new(start);
        recent.latency(after(start, 59), 3.0);
        recent.unacknowledged(after(start, 59), 2);
        recent.unacknowledged(after(start, 61), 1);
        assert_eq!(recent.events_unacknowledged(after(start, 299)), 3);
        assert!(recent.latency_p95(after(start, 299)).is_some());
        assert_eq!(recent.events_unacknowledged(after(start, 300)), 1);
        assert_eq!(recent.latency_p95(after(start, 300)), None);
        assert_eq!(recent.events_unacknowledged(after(start, 360)), 0);
        // The slot is reused.
        recent.unacknowledged(after(start, 361), 4);
        assert_eq!(recent.events_unacknowledged(after(start, 100_000)), 0);
        recent.unacknowledged(after(start, 100_000), 5);
        assert_eq!(recent.events_unacknowledged(after(start, 100_001)), 5);
    }
}

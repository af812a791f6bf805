//! How long to wait before the next attempt. Implemented here, because the crates for it also run the retries, and ours wait for
//! more than one thing.

use std::time::Duration;

use rand::RngExt;

/// Waiting times between attempts to connect: doubling, with jitter and a cap.
#[derive(Debug)]
pub(crate) struct Backoff {
    next: Duration,
}

/// The first wait: a database that was only restarted is back soon.
const BACKOFF_FIRST: Duration = Duration::from_millis(250);

/// The longest wait: how late events may be after a long outage.
const BACKOFF_CAP: Duration = Duration::from_secs(15);

impl Default for Backoff {
    fn default() -> Self {
        Self {
            next: BACKOFF_FIRST,
        }
    }
}

impl Backoff {
    /// The time to wait before the next attempt: between half and all of the current step, so that several daemons do not
    /// reconnect at the same time.
    pub(crate) fn next_delay(&mut self) -> Duration {
        let step = self.next;
        self.next = (step * 2).min(BACKOFF_CAP);
        step.mul_f64(rand::rng().random_range(0.5..=1.0))
    }

    /// Starts again with the first wait, after a success.
    pub(crate) fn reset(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_doubles_up_to_its_cap_and_starts_over() {
        let mut backoff = Backoff::default();
        let mut step = BACKOFF_FIRST;
        for _ in 0..20 {
            let delay = backoff.next_delay();
            assert!(delay >= step / 2 && delay <= step, "{delay:?} for {step:?}");
            step = (step * 2).min(BACKOFF_CAP);
        }
        backoff.reset();
        assert!(backoff.next_delay() <= BACKOFF_FIRST);
    }
}

//! How long to wait before trying again. By hand: the crates for it run the retries, too, and ours wait for more than one thing.

use std::time::Duration;

use rand::RngExt;

/// Doubling, jittered, capped waiting times between attempts to connect.
#[derive(Debug)]
pub(crate) struct Backoff {
    next: Duration,
}

/// The first wait: a database that was only restarted is back soon.
const BACKOFF_FIRST: Duration = Duration::from_millis(250);

/// The longest wait: how late streams may be after a long outage.
const BACKOFF_CAP: Duration = Duration::from_secs(15);

impl Default for Backoff {
    fn default() -> Self {
        Self {
            next: BACKOFF_FIRST,
        }
    }
}

impl Backoff {
    /// How long to wait before the next attempt: between half and all of the current step, so that
    /// several daemons do not come back in step.
    pub(crate) fn next_delay(&mut self) -> Duration {
        let step = self.next;
        self.next = (step * 2).min(BACKOFF_CAP);
        step.mul_f64(rand::rng().random_range(0.5..=1.0))
    }

    /// Starts over, after a success.
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

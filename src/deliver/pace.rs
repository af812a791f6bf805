//! Spreads receipts over time: each browser that reconnects costs a request.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// How soon after an event a stream is ended: further events of the same transaction are written by then.
const SOON: Duration = Duration::from_millis(20);

/// Mean time between two receipts of a bridge, when all its browsers are sent an event at once: 2,500 a second take less than a
/// sixth of a CPU.
const SPACING: Duration = Duration::from_micros(400);

/// When the next stream may be ended. Cheap to clone; all browsers of a bridge share it.
#[derive(Debug, Clone)]
pub(crate) struct Pace(Arc<Mutex<Instant>>);

impl Pace {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Mutex::new(Instant::now())))
    }

    /// When to end the stream of a browser that is sent an event at `now`: soon, but after those that were sent one before.
    pub(crate) fn after_event(&self, now: Instant) -> Instant {
        let mut next = self.0.lock();
        let due = now.max(*next);
        *next = due + SPACING;
        due + SOON
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_single_stream_ends_soon_and_many_are_spaced() {
        let pace = Pace::new();
        let now = Instant::now();
        let dues: Vec<_> = (0..2500).map(|_| pace.after_event(now)).collect();
        assert_eq!(dues[0], now + SOON);
        assert_eq!(dues[2499], now + SOON + SPACING * 2499);
        let later = now + Duration::from_secs(2);
        assert_eq!(pace.after_event(later), later + SOON);
    }
}

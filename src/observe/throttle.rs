//! Limits repeated messages to one log line a minute.

use std::time::{Duration, Instant};

/// Time between two lines.
const INTERVAL: Duration = Duration::from_secs(60);

/// One kind of message that may repeat.
#[derive(Debug, Default)]
pub(crate) struct Throttle {
    last: Option<Instant>,
    swallowed: u64,
}

impl Throttle {
    /// Counts one occurrence. `Some` if a line is due: the text to append to it, with the number of suppressed ones.
    pub(crate) fn take(&mut self) -> Option<String> {
        if self.last.is_some_and(|last| last.elapsed() < INTERVAL) {
            self.swallowed += 1;
            return None;
        }
        self.last = Some(Instant::now());
        Some(match std::mem::take(&mut self.swallowed) {
            0 => String::new(),
            count => format!(" (and {count} more since this was last logged)"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_one_line_and_the_next_one_counts_it() {
        let mut burst = Throttle::default();
        assert_eq!(burst.take().as_deref(), Some(""));
        assert_eq!(burst.take(), None);
        assert_eq!(burst.take(), None);
        burst.last = Instant::now().checked_sub(INTERVAL);
        assert_eq!(
            burst.take().as_deref(),
            Some(" (and 2 more since this was last logged)")
        );
        assert_eq!(burst.take(), None);
    }
}

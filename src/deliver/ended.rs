//! An ended stream whose receipt may still arrive.

use std::time::Duration;

use tokio::time::Instant;

use super::carried::{Carried, Unread};
use super::receipt::{Ending, Habits};
use super::stream::Stream;

/// How long a stream is remembered after its end, for late receipts.
const REMEMBERED: Duration = Duration::from_secs(10);

/// An ended stream.
#[derive(Debug)]
pub(super) struct Ended {
    /// The events that may not have been read. After [`Self::take_unread`] they also wait for another stream.
    pub(super) carried: Carried,
    /// How it ended, and when its events count as unread; `None` if that is decided.
    awaited: Option<(Ending, Instant)>,
    at: Instant,
}

impl Ended {
    /// A stream that ended `at` this time; `cleanly` if the daemon ended it and a receipt may follow.
    pub(super) fn new(stream: Stream, at: Instant, cleanly: bool, habits: &Habits) -> Self {
        let (carried, client, retry, written_at) = stream.into_parts();
        let ending = retry.filter(|_| cleanly).map(|retry| Ending {
            at: written_at.into_std(),
            retry,
            client,
        });
        Self {
            carried,
            awaited: ending.map(|ending| (ending, habits.unread_at(&ending).into())),
            at,
        }
    }

    /// How it ended, while its receipt is awaited.
    pub(super) fn ending(&self) -> Option<Ending> {
        self.awaited.map(|(ending, _)| ending)
    }

    /// Whether a receipt for any event is awaited.
    pub(super) fn is_awaited(&self) -> bool {
        self.awaited.is_some() && !self.carried.events.is_empty()
    }

    /// When its events count as unread.
    pub(super) fn unread_at(&self) -> Option<Instant> {
        self.awaited.map(|(_, at)| at)
    }

    /// Extends the wait for a receipt to this time at least.
    pub(super) fn wait_until(&mut self, until: Instant) {
        if let Some((_, unread_at)) = &mut self.awaited {
            *unread_at = until.max(*unread_at);
        }
    }

    /// The events that were not read. A late receipt may still correct that.
    pub(super) fn take_unread(&mut self) -> Vec<Unread> {
        self.awaited = None;
        self.carried.events.iter().cloned().collect()
    }

    /// Waits for no receipt any more.
    pub(super) fn stop_waiting(&mut self) {
        self.awaited = None;
    }

    /// When to forget it.
    pub(super) fn forget_at(&self) -> Instant {
        self.at + REMEMBERED
    }

    /// When something is due.
    pub(super) fn next_tick(&self) -> Instant {
        self.unread_at().unwrap_or_else(|| self.forget_at())
    }
}

//! A stream that is over, and whose receipt may still come.

use std::time::Duration;

use tokio::time::Instant;

use super::carried::{Carried, Unread};
use super::receipt::{Ending, Habits};
use super::stream::Stream;

/// How long a stream is remembered, so that a browser that names what it has read late is understood.
const REMEMBERED: Duration = Duration::from_secs(10);

/// A stream that is over.
#[derive(Debug)]
pub(super) struct Ended {
    /// What may not have been read. Behind [`Self::take_unread`] it waits for another stream as well.
    pub(super) carried: Carried,
    /// How it was ended, and when what it carried counts as not read; `None` if that is known.
    awaited: Option<(Ending, Instant)>,
    at: Instant,
}

impl Ended {
    /// A stream that is over `at` this time; `cleanly` if we have ended it and a receipt may follow.
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

    /// Whether a receipt is awaited for something.
    pub(super) fn is_awaited(&self) -> bool {
        self.awaited.is_some() && !self.carried.events.is_empty()
    }

    /// When what it carried counts as not read.
    pub(super) fn unread_at(&self) -> Option<Instant> {
        self.awaited.map(|(_, at)| at)
    }

    /// Has a receipt that is awaited be so until then, at least.
    pub(super) fn wait_until(&mut self, until: Instant) {
        if let Some((_, unread_at)) = &mut self.awaited {
            *unread_at = until.max(*unread_at);
        }
    }

    /// What was not read. A late receipt may still say otherwise.
    pub(super) fn take_unread(&mut self) -> Vec<Unread> {
        self.awaited = None;
        self.carried.events.iter().cloned().collect()
    }

    /// Nothing more is expected of its browser.
    pub(super) fn is_answered(&mut self) {
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

//! Receipts: what a browser's return proves that it has read.
//!
//! Written bytes prove nothing, because proxies accept them for clients that have gone. So a stream is ended some time after an
//! event, with a random `retry`, and the browser reconnects. Its request is the receipt:
//!
//! - by id, if it sends the last id that it has read in `Last-Event-ID` (Firefox, and browsers without a service worker);
//! - otherwise by time: only a browser that has read the stream to its end knows when to reconnect.
//!
//! All functions here depend only on what was observed, so that they can be tested without waiting.

use std::time::{Duration, Instant};

use crate::model::returned::{ClientKey, LastEventId, Returned};

/// The `retry` of streams that are ended for a receipt, in milliseconds. Short, because no event can be sent meanwhile; and a
/// wide range, so that a return for another reason is rarely punctual.
pub(crate) const RETRY_MS: std::ops::RangeInclusive<u32> = 100..=400;

/// How much earlier than its `retry` a return may be. Chromium never is; this is the granularity of clocks.
const EARLY: Duration = Duration::from_millis(15);

/// How much earlier than usual a return may be. A machine that has just started its browser, or was busy otherwise, is 50 to 100
/// ms late several times, and then 5 ms again.
const SOONER: Duration = Duration::from_millis(75);

/// How much later than usual a return may be: a hidden tab with throttled timers varies by 20 ms, a Chromium on a busy machine by
/// 100 ms.
const LATER: Duration = Duration::from_millis(100);

/// The minimum time between two expected returns, to distinguish them.
const APART: Duration = Duration::from_millis(95);

/// How late a browser may be while few returns are known: Chromium on the same machine is 4 to 25 ms late, the rest is for the
/// network.
const UNKNOWN_LATE: Duration = Duration::from_millis(300);

/// How long after its end the events of a stream count as unread if no receipt arrives. Firefox returns after 0.5 s.
const UNREAD_AFTER: Duration = Duration::from_millis(1500);

/// The same, but in addition to the latest known return, if that is longer.
const UNREAD_MARGIN: Duration = Duration::from_millis(500);

/// How many returns are remembered.
const REMEMBERED: usize = 5;

/// How many punctual returns without `Last-Event-ID` show that a browser does not send it any more, because it has installed a
/// service worker since.
const UNNAMED: u8 = 2;

/// A stream that the daemon has ended.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ending {
    /// When its last byte was written.
    pub(crate) at: Instant,
    /// The time after which its browser was asked to reconnect.
    pub(crate) retry: Duration,
    /// The address of its client.
    pub(crate) client: Option<ClientKey>,
}

impl Ending {
    /// Whether its return cannot be distinguished from one expected at `expected`.
    pub(crate) fn is_near(&self, expected: Instant) -> bool {
        let own = self.at + self.retry;
        own.max(expected) - own.min(expected) < APART
    }
}

/// What a return proves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Receipt {
    /// The browser has read up to this id.
    Named(LastEventId),
    /// The browser has read the stream with this index to its end.
    Punctual(usize),
    /// Nothing.
    None,
}

/// How a browser returns, as observed so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Habits {
    /// It has sent `Last-Event-ID`. Then a return without it proves nothing.
    names: bool,
    /// How many punctual returns without it there were since.
    unnamed: u8,
    /// How late the last returns were, in milliseconds after the `retry`, newest last.
    late_ms: [u16; REMEMBERED],
    /// How many returns are known.
    known: u8,
}

impl Habits {
    /// Whether the browser sends `Last-Event-ID`.
    pub(crate) fn names(&self) -> bool {
        self.names
    }

    /// How late the browser usually is, in milliseconds: the median of the last returns.
    pub(crate) fn late_ms(&self) -> Option<u16> {
        let mut late = self.known().to_vec();
        late.sort_unstable();
        late.get(late.len() / 2).copied()
    }

    fn known(&self) -> &[u16] {
        &self.late_ms[..self.known.into()]
    }

    /// Whether the usual lateness of the browser is known, or not needed.
    pub(crate) fn are_known(&self) -> bool {
        self.known > 0 || self.names
    }

    /// What a return proves about streams that the daemon has `ended`.
    pub(crate) fn judge(&self, returned: &Returned, ended: &[Ending]) -> Receipt {
        match returned.last_event_id {
            Some(named) => Receipt::Named(named),
            None if self.names => Receipt::None,
            None => self
                .punctual(returned, ended)
                .map_or(Receipt::None, Receipt::Punctual),
        }
    }

    /// The stream that this is the punctual return of: the one whose time matches best.
    fn punctual(&self, returned: &Returned, ended: &[Ending]) -> Option<usize> {
        let (soonest, latest) = self.usual();
        let distance = |(index, ending): (usize, &Ending)| {
            let expected = ending.at + ending.retry;
            let fits = expected + soonest.saturating_sub(SOONER) <= returned.at + EARLY
                && returned.at <= expected + latest + LATER
                && returned.client == ending.client;
            let middle = expected + (soonest + latest) / 2;
            let distance = returned.at.max(middle) - returned.at.min(middle);
            fits.then_some((distance, index))
        };
        let best = ended.iter().enumerate().filter_map(distance).min();
        best.map(|(_, index)| index)
    }

    /// The range of the browser's usual lateness. The latest of several returns may have had another reason.
    fn usual(&self) -> (Duration, Duration) {
        let mut late = self.late_ms;
        let late = &mut late[..self.known.into()];
        late.sort_unstable();
        let milliseconds = |ms: &u16| Duration::from_millis((*ms).into());
        match late {
            [soonest, _, .., latest, _] => (milliseconds(soonest), milliseconds(latest)),
            // Too few to rely on them alone.
            few => {
                let latest = few.last().map(milliseconds).unwrap_or_default();
                (Duration::ZERO, latest.max(UNKNOWN_LATE))
            }
        }
    }

    /// Learns from a return after streams that the daemon has `ended`.
    pub(crate) fn learn(&mut self, returned: &Returned, ended: &[Ending]) {
        let punctual = self.punctual(returned, ended);
        if returned.last_event_id.is_some() {
            self.names = true;
            self.unnamed = 0;
        } else if self.names && punctual.is_some() {
            self.unnamed += 1;
            if self.unnamed >= UNNAMED {
                self.names = false;
                self.unnamed = 0;
            }
        }
        // If it is not punctual, compared with the stream whose expected time it follows most closely.
        let late = |ending: &Ending| returned.at.checked_duration_since(ending.at + ending.retry);
        let late = match punctual {
            Some(index) => ended
                .get(index)
                .map(|ending| late(ending).unwrap_or_default()),
            None => ended.iter().filter_map(late).min(),
        };
        if let Some(late) = late
            && late < UNREAD_AFTER
        {
            self.remember(late);
        }
    }

    fn remember(&mut self, late: Duration) {
        let late_ms = u16::try_from(late.as_millis()).unwrap_or(u16::MAX);
        if let Some(next) = self.late_ms.get_mut(usize::from(self.known)) {
            *next = late_ms;
            self.known += 1;
        } else {
            self.late_ms.rotate_left(1);
            self.late_ms[REMEMBERED - 1] = late_ms;
        }
    }

    /// When the events of an ended stream count as unread.
    pub(crate) fn unread_at(&self, ending: &Ending) -> Instant {
        let latest = self.known().iter().max();
        let latest = Duration::from_millis(latest.copied().unwrap_or_default().into());
        ending.at + UNREAD_AFTER.max(ending.retry + latest + UNREAD_MARGIN)
    }
}

#[cfg(test)]
mod tests;

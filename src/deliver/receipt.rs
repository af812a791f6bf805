//! Receipts: what a browser's return proves of what it has read.
//!
//! A stream that takes bytes proves nothing: proxies take them for clients that are long gone. So a stream is ended some time
//! after an event, with a `retry` drawn for it, and the browser comes back. Its request is the receipt
//!
//! - exactly, if it names in `Last-Event-ID` what it has read last (Firefox, and browsers without a service worker);
//! - by its time otherwise: only a browser that has read the stream to its end knows when to come back.
//!
//! Everything here is a function of what was seen, so that it can be tested without time passing.

use std::time::{Duration, Instant};

use crate::model::returned::{ClientKey, LastEventId, Returned};

/// What streams are ended with for a receipt, in milliseconds. Short, because nothing comes meanwhile; and wide, so that a
/// return for another reason is seldom punctual.
pub(crate) const RETRY_MS: std::ops::RangeInclusive<u32> = 100..=400;

/// How much sooner than its `retry` a return may be. Chromium never is; the clocks' granularity is.
const EARLY: Duration = Duration::from_millis(15);

/// How much sooner than usual a return may be. A machine that has just started its browser, or was busy otherwise, is 50 to 100
/// ms late several times, and then 5 again.
const SOONER: Duration = Duration::from_millis(75);

/// How much later than usual a return may be: a hidden tab whose timers are throttled varies by 20 ms, a Chromium on a busy
/// machine by 100.
const LATER: Duration = Duration::from_millis(100);

/// How far apart returns are expected at least, to be told from each other.
const APART: Duration = Duration::from_millis(95);

/// How late a browser may be of which few returns were seen: Chromium on the same machine is 4 to 25 ms late, the rest is for
/// the line.
const UNKNOWN_LATE: Duration = Duration::from_millis(300);

/// How long after the end without a receipt what was written counts as not read. Firefox comes back after 0.5 s.
const UNREAD_AFTER: Duration = Duration::from_millis(1500);

/// How much later than the latest return that was seen, where that is longer.
const UNREAD_MARGIN: Duration = Duration::from_millis(500);

/// Of how many returns it is remembered how late they were.
const REMEMBERED: usize = 5;

/// How many punctual returns without `Last-Event-ID` show that a browser does not send it any more: it has installed a
/// service worker since.
const UNNAMED: u8 = 2;

/// A stream that we have ended.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ending {
    /// When its last byte was written.
    pub(crate) at: Instant,
    /// After which time its browser was told to come back.
    pub(crate) retry: Duration,
    /// Where it led to.
    pub(crate) client: Option<ClientKey>,
}

impl Ending {
    /// Whether its browser's return could not be told from one that is expected at `expected`.
    pub(crate) fn is_near(&self, expected: Instant) -> bool {
        let own = self.at + self.retry;
        own.max(expected) - own.min(expected) < APART
    }
}

/// What a return proves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Receipt {
    /// That the browser has read up to this.
    Named(LastEventId),
    /// That it has read the stream of this index to its end.
    Punctual(usize),
    /// Nothing.
    None,
}

/// How a browser comes back, as far as that was seen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Habits {
    /// It has sent `Last-Event-ID`: without it, a return proves nothing.
    names: bool,
    /// How many punctual returns have come without it since.
    unnamed: u8,
    /// How late the last returns were, in milliseconds beyond the `retry`, newest last.
    late_ms: [u16; REMEMBERED],
    /// How many of them are known.
    known: u8,
}

impl Habits {
    /// Whether the browser says what it has read.
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

    /// Whether it is known how late the browser usually is, or not needed.
    pub(crate) fn are_known(&self) -> bool {
        self.known > 0 || self.names
    }

    /// What a return proves of streams that we have `ended`.
    pub(crate) fn judge(&self, returned: &Returned, ended: &[Ending]) -> Receipt {
        match returned.last_event_id {
            Some(named) => Receipt::Named(named),
            None if self.names => Receipt::None,
            None => self
                .punctual(returned, ended)
                .map_or(Receipt::None, Receipt::Punctual),
        }
    }

    /// Of which stream this is the punctual return: the one whose time it fits best.
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

    /// How late the browser usually is, from and to. The latest of several returns may have been for another reason.
    fn usual(&self) -> (Duration, Duration) {
        let mut late = self.late_ms;
        let late = &mut late[..self.known.into()];
        late.sort_unstable();
        let milliseconds = |ms: &u16| Duration::from_millis((*ms).into());
        match late {
            [soonest, _, .., latest, _] => (milliseconds(soonest), milliseconds(latest)),
            // Too few to go by them alone.
            few => {
                let latest = few.last().map(milliseconds).unwrap_or_default();
                (Duration::ZERO, latest.max(UNKNOWN_LATE))
            }
        }
    }

    /// Learns from a return that followed on streams that we have `ended`.
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
        // Otherwise the one that it follows on most closely.
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

    /// When what was written to an ended stream counts as not read.
    pub(crate) fn unread_at(&self, ending: &Ending) -> Instant {
        let latest = self.known().iter().max();
        let latest = Duration::from_millis(latest.copied().unwrap_or_default().into());
        ending.at + UNREAD_AFTER.max(ending.retry + latest + UNREAD_MARGIN)
    }
}

#[cfg(test)]
mod tests;

//! What a bridge reports about one contact's browsers, for `explain`: digests, ids, counts, times and words, but no session id,
//! no user agent and no notification text.

use serde::{Deserialize, Serialize};

use super::ids::HistoryId;
use super::sign_in::Refusal;

/// A bridge's report about a contact.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Explanation {
    /// The browsers that have or had streams on this bridge.
    pub(crate) browsers: Vec<BrowserState>,
    /// Refused requests, and streams that ended with their sign-in; oldest first.
    pub(crate) refusals: Vec<Refused>,
}

/// A bridge's report about one browser.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BrowserState {
    /// [`BrowserKey::number`](super::browser::BrowserKey::number).
    pub(crate) browser: i64,
    /// `None` if it has no streams and is not expected back at once.
    #[serde(rename = "here")]
    pub(crate) connected: Option<Connected>,
    /// The outcome of the last rows that it was sent, oldest first.
    pub(crate) done: Vec<Done>,
}

/// A browser that has streams, or is expected back in a moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Connected {
    /// Open streams; none for a moment while the browser reconnects.
    pub(crate) streams: usize,
    /// Since when it is connected, in seconds since the Unix epoch. Its streams end and begin all the time meanwhile.
    pub(crate) since_s: u32,
    /// The time of its last request, in the same unit.
    pub(crate) returned_s: u32,
    /// Whether that request was a receipt.
    pub(crate) acknowledges: bool,
    /// Whether its proxy sends `X-Forwarded-For`.
    pub(crate) forwarded: bool,
    /// Whether the browser sends `Last-Event-ID`.
    pub(crate) names: bool,
    /// How late it usually returns, in milliseconds.
    pub(crate) late_ms: Option<u16>,
    /// Events that were written and are not acknowledged yet.
    pub(crate) unacknowledged: usize,
    /// Rows of events that are not acknowledged yet, oldest first.
    pub(crate) pending: Vec<Pending>,
}

/// A row whose event is not acknowledged yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Pending {
    pub(crate) row: HistoryId,
    /// How often it was written to a stream; 0 while it waits for one.
    pub(crate) writes: u8,
}

/// A row that the browser will not be sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Done {
    pub(crate) row: HistoryId,
    /// When it was done, in seconds since the Unix epoch.
    pub(crate) at_s: u32,
    pub(crate) how: How,
}

/// Why a row is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum How {
    /// Its event was acknowledged.
    Acknowledged,
    /// Another row's event that covers it was acknowledged: of another channel, or of a newer change of the incident.
    Covered,
    /// A summary of several incidents was acknowledged.
    SummedUp,
    /// Its event was written several times and never acknowledged.
    GivenUp,
}

/// A browser that got no stream, or whose streams were ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Refused {
    /// As [`BrowserState::browser`].
    pub(crate) browser: i64,
    pub(crate) why: Why,
    /// When it last happened, in seconds since the Unix epoch.
    pub(crate) at_s: u32,
    /// How often it happened.
    pub(crate) count: u32,
    /// Whether the browser was accepted since.
    pub(crate) over: bool,
}

/// Why a browser got no stream, or lost it; a word in JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Why {
    /// The request was refused.
    Refused(Refusal),
    /// The sign-in ended, or there was no room.
    Other(Other),
}

/// Other reasons than a refused request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Other {
    /// Its streams were ended because its sign-in was no longer valid.
    Ended,
    /// The daemon had as many streams as it can hold.
    Full,
}

/// The current time in seconds since the Unix epoch. 32 bits, because there is one per idle browser; they last until 2106.
pub(crate) fn now_s() -> u32 {
    let now = jiff::Timestamp::now().as_second();
    now.try_into().unwrap_or_default()
}

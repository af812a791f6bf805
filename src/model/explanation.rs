//! What a bridge knows of one contact's browsers, for `explain`: digests, ids, counts, times and words. No session id, no
//! user agent, no text.

use serde::{Deserialize, Serialize};

use super::ids::HistoryId;
use super::sign_in::Refusal;

/// What a bridge knows of a contact.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Explanation {
    /// The browsers that have or had streams here.
    pub(crate) browsers: Vec<BrowserState>,
    /// Requests that were not let in, and streams that ended with their sign-in; oldest first.
    pub(crate) refusals: Vec<Refused>,
}

/// What a bridge knows of one browser.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BrowserState {
    /// [`BrowserKey::number`](super::browser::BrowserKey::number).
    pub(crate) browser: i64,
    /// `None` if it has no streams, and is not expected back at once.
    #[serde(rename = "here")]
    pub(crate) connected: Option<Connected>,
    /// What became of the last rows that it was sent, oldest first.
    pub(crate) done: Vec<Done>,
}

/// A browser that has streams, or will be back in a moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Connected {
    /// Open streams; none for a moment while it comes back for the next one.
    pub(crate) streams: usize,
    /// Since when it is here, in seconds since the epoch of Unix. Streams end and begin all the time meanwhile.
    pub(crate) since_s: u32,
    /// Its last request, in the same unit.
    pub(crate) returned_s: u32,
    /// Whether that request was a receipt.
    pub(crate) acknowledges: bool,
    /// Whether its proxy says where the browser is (`X-Forwarded-For`).
    pub(crate) forwarded: bool,
    /// Whether the browser says what it has read (`Last-Event-ID`).
    pub(crate) names: bool,
    /// How late it usually is back, in milliseconds.
    pub(crate) late_ms: Option<u16>,
    /// Events that were written and not acknowledged yet.
    pub(crate) unacknowledged: usize,
    /// Rows of events that were not acknowledged yet, oldest first.
    pub(crate) pending: Vec<Pending>,
}

/// A row whose event is on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Pending {
    pub(crate) row: HistoryId,
    /// How often it was written to a stream; 0 while it waits for one.
    pub(crate) writes: u8,
}

/// A row that a browser need not be sent any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Done {
    pub(crate) row: HistoryId,
    /// When, in seconds since the epoch of Unix.
    pub(crate) at_s: u32,
    pub(crate) how: How,
}

/// How a row came to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum How {
    /// Its event was acknowledged.
    Acknowledged,
    /// Another row's event stands for it, which was acknowledged: of another channel, or of a newer change of the incident.
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
    /// When it last happened, in seconds since the epoch of Unix.
    pub(crate) at_s: u32,
    /// How often.
    pub(crate) count: u32,
    /// Whether the browser was let in since.
    pub(crate) over: bool,
}

/// Why a browser got no stream, or not any more; a word in JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Why {
    /// It was not let in, for good.
    Refused(Refusal),
    /// It may have one.
    Other(Other),
}

/// Why a browser that may have a stream got none, or not any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Other {
    /// Its streams were ended, because its sign-in was not valid any more.
    Ended,
    /// The daemon had as many streams as it can hold.
    Full,
}

/// Now, in seconds since the epoch of Unix. Of 32 bits, because there is one for each idle browser; they last until 2106.
pub(crate) fn now_s() -> u32 {
    let now = jiff::Timestamp::now().as_second();
    now.try_into().unwrap_or_default()
}

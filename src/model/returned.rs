//! A request for a stream, with what can show how far its browser has read.

use std::fmt;
use std::time::Instant;

use sha2::{Digest, Sha256};

use super::ids::HistoryId;

/// A point in a stream that is not the event of a history row: its beginning or its end. Random, so that it is unique across
/// bridges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark(pub u64);

impl Mark {
    /// A new, random mark.
    pub(crate) fn new() -> Self {
        Self(rand::random())
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not a number, so that it cannot be confused with the id of a row.
        write!(f, "m{:016x}", self.0)
    }
}

/// The last block with an id that a browser has read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LastEventId {
    /// An event, by its first row.
    Row(HistoryId),
    /// A mark.
    Mark(Mark),
}

impl LastEventId {
    /// Parses the header. `None` if the id is not one of ours, which is no reason to refuse the browser.
    pub fn parse(text: &str) -> Option<Self> {
        if let Some(digits) = text.strip_prefix('m') {
            let plain = digits.len() == 16 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
            let number = plain.then(|| u64::from_str_radix(digits, 16).ok())?;
            return number.map(|number| Self::Mark(Mark(number)));
        }
        let row = text.parse().ok().filter(|id| *id > 0);
        row.map(|id| Self::Row(HistoryId(id)))
    }

    /// The row, if it is one.
    pub fn row(self) -> Option<HistoryId> {
        match self {
            Self::Row(id) => Some(id),
            Self::Mark(_) => None,
        }
    }
}

/// The address that a client's request comes from, according to the proxy: enough of a digest to notice another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientKey([u8; 8]);

impl ClientKey {
    /// The key of an `X-Forwarded-For` header.
    pub fn new(forwarded_for: &[u8]) -> Self {
        let digest = Sha256::digest(forwarded_for);
        Self(digest.first_chunk().copied().unwrap_or_default())
    }
}

/// A request for a stream.
#[derive(Debug, Clone, Copy)]
pub struct Returned {
    /// When it arrived.
    pub at: Instant,
    /// What the browser has read, according to the request.
    pub last_event_id: Option<LastEventId>,
    /// Where it came from, if the proxy sends that.
    pub client: Option<ClientKey>,
    /// Whether the browser is Firefox, which ends the requests of its service worker 30 seconds after the worker's last event.
    pub firefox: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_ids_are_ignored() {
        let mark = Mark(0xf00d);
        assert_eq!(mark.to_string(), "m000000000000f00d");
        let named = LastEventId::parse(&mark.to_string());
        assert_eq!(named, Some(LastEventId::Mark(mark)));
        let row = LastEventId::Row(HistoryId(7));
        assert_eq!(LastEventId::parse("7"), Some(row));
        for other in [
            "",
            "0",
            "-1",
            "x",
            "m",
            "mf00d",
            "m+00000000000f00d",
            "7.5",
            "9999999999999999999",
        ] {
            assert_eq!(LastEventId::parse(other), None, "{other}");
        }
    }
}

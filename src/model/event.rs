//! An event: what a browser receives about one incident, and its bytes on the wire.
//!
//! The resolver makes events of database rows; the stages after it only pass them on.

use std::borrow::Cow;
use std::time::{Duration, Instant};

use super::ids::{HistoryId, IncidentId};
use super::returned::Mark;
use bytes::Bytes;
use jiff::Timestamp;
use serde::Serialize;

/// The longest title or message in an event, in bytes, including the ellipsis.
///
/// A popup shows a few lines. Plugin output may be megabytes, and would be held once per contact until browsers have read it.
pub const TEXT_LIMIT: usize = 4096;

/// How long a browser waits before it reconnects: the value that the PHP daemon sends.
pub const RETRY: Duration = Duration::from_secs(3);

/// A comment, which clients ignore. It keeps proxies from closing an idle stream.
pub const KEEP_ALIVE: Bytes = Bytes::from_static(b":\n\n");

/// The values of an event.
#[derive(Debug, Clone, Copy)]
pub struct Content<'a> {
    /// Milliseconds since the Unix epoch.
    pub time_ms: i64,
    /// The incident.
    pub incident_id: IncidentId,
    /// The severity as spelled in the database.
    pub severity: &'a str,
    /// The object's name.
    pub title: &'a str,
    /// The history row's message.
    pub message: Option<&'a str>,
}

/// One event, rendered once and shared by all streams that carry it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The `incident_history` rows that are done once this event is delivered: its own first, then those of the contact's
    /// other channels, or older changes that a replay leaves out. Empty for an incident that changed without a history row. Then
    /// there is no `id:` line either: an id would move the client's position past rows it was never sent.
    pub history_ids: Vec<HistoryId>,
    /// The number of the hub's epoch that the ids belong to. In another epoch they may identify other rows.
    pub epoch: u64,
    /// The incident.
    pub incident_id: IncidentId,
    /// Whether it is a summary of several incidents.
    pub sums_up: bool,
    /// The block on the wire, including its empty line.
    pub bytes: Bytes,
    /// All rows up to this one are also done once this event is delivered. Set by the summary of a replay that could not be read.
    pub through: Option<HistoryId>,
    /// When its bell was received, or when the look began that found it earlier or without a bell. Latency is measured from
    /// there. `None` for events that do not come from a look.
    pub received_at: Option<Instant>,
}

#[derive(Serialize)]
struct Data<'a> {
    time: String,
    payload: Payload<'a>,
}

#[derive(Serialize)]
struct Payload<'a> {
    incident_id: IncidentId,
    severity: &'a str,
    title: Cow<'a, str>,
    message: Cow<'a, str>,
}

/// An event for several contacts, rendered once: everything but the id.
#[derive(Debug, Clone)]
pub struct Rendered {
    incident_id: IncidentId,
    /// The lines up to the data, without the line break after it.
    text: String,
}

impl Rendered {
    /// Renders `content`.
    ///
    /// Not with `warp::sse::Event`, which omits the space after the colons: the bytes must be those of the PHP daemon. JSON
    /// contains no raw line breaks, so no text can end a field early.
    pub fn new(content: &Content<'_>) -> Self {
        let data = Data {
            time: rfc3339(content.time_ms),
            payload: Payload {
                incident_id: content.incident_id,
                severity: content.severity,
                title: shorten(content.title),
                // Not null, because the client shows the word.
                message: shorten(content.message.unwrap_or_default()),
            },
        };
        // expect: serialising strings and integers into memory cannot fail.
        let json = serde_json::to_string(&data).expect("strings and integers serialise");
        Self {
            incident_id: content.incident_id,
            text: format!("event: icinga2.notification\ndata: {json}"),
        }
    }

    /// The event for `incident_history` rows, with the first one as its id; without an id if only the incident itself changed.
    /// `epoch` is [`Event::epoch`].
    pub fn event(&self, history_ids: Vec<HistoryId>, epoch: u64) -> Event {
        let (text, retry) = (&self.text, RETRY.as_millis());
        let block = match history_ids.first() {
            Some(id) => format!("{text}\nid: {id}\nretry: {retry}\n\n"),
            None => format!("{text}\nretry: {retry}\n\n"),
        };
        Event {
            history_ids,
            epoch,
            incident_id: self.incident_id,
            sums_up: false,
            bytes: block.into(),
            through: None,
            received_at: None,
        }
    }
}

impl Event {
    /// An event that is not shown and only marks rows as done, because their event was sent already.
    pub fn covering(history_ids: Vec<HistoryId>, epoch: u64) -> Self {
        Self {
            history_ids,
            epoch,
            incident_id: IncidentId(0),
            sums_up: false,
            bytes: Bytes::new(),
            through: None,
            received_at: None,
        }
    }

    /// The row in the `id:` line, if there is one.
    pub fn named(&self) -> Option<HistoryId> {
        self.history_ids.first().copied()
    }
}

/// A block that shows nothing. Browsers that send `Last-Event-ID` send its id if it is the last block they have read.
pub fn mark(mark: Mark) -> Bytes {
    format!("event: icinga2.mark\ndata: {{}}\nid: {mark}\n\n").into()
}

/// A block that only sets how long the client waits before it reconnects.
pub fn retry(after: Duration) -> Bytes {
    format!("retry: {}\n\n", after.as_millis()).into()
}

/// RFC 3339 with milliseconds and numeric offset. A time that no calendar holds, or before the year 0, which RFC 3339 cannot
/// express, becomes the current one: a row with a broken clock is still news.
fn rfc3339(time_ms: i64) -> String {
    /// 0000-01-01T00:00:00Z. The last year that `Timestamp` holds is 9999, as in RFC 3339.
    const YEAR_0_MS: i64 = -62_167_219_200_000;
    Timestamp::from_millisecond(time_ms)
        .ok()
        .filter(|_| time_ms >= YEAR_0_MS)
        .unwrap_or_else(Timestamp::now)
        .strftime("%Y-%m-%dT%H:%M:%S.%3f+00:00")
        .to_string()
}

/// Cuts `text` to [`TEXT_LIMIT`] bytes on a character boundary and marks the cut with an ellipsis.
fn shorten(text: &str) -> Cow<'_, str> {
    const ELLIPSIS: &str = "…";
    if text.len() <= TEXT_LIMIT {
        return Cow::Borrowed(text);
    }
    let cut = text.floor_char_boundary(TEXT_LIMIT - ELLIPSIS.len());
    Cow::Owned(format!("{}{ELLIPSIS}", &text[..cut]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content<'a>(title: &'a str, message: Option<&'a str>) -> Content<'a> {
        Content {
            time_ms: 1_795_428_930_123,
            incident_id: IncidentId(42),
            severity: "crit",
            title,
            message,
        }
    }

    fn event(title: &str, message: Option<&str>, history_ids: &[i64]) -> Event {
        let ids = history_ids.iter().copied().map(HistoryId).collect();
        Rendered::new(&content(title, message)).event(ids, 0)
    }

    #[test]
    fn the_bytes_are_those_that_the_web_module_reads() {
        let event = event("db1!disk", Some("DISK CRITICAL"), &[1234, 1235]);
        assert_eq!(
            std::str::from_utf8(&event.bytes).unwrap(),
            "event: icinga2.notification\n\
             data: {\"time\":\"2026-11-23T10:15:30.123+00:00\",\"payload\":{\"incident_id\":42,\
             \"severity\":\"crit\",\"title\":\"db1!disk\",\"message\":\"DISK CRITICAL\"}}\n\
             id: 1234\n\
             retry: 3000\n\n"
        );
    }

    #[test]
    fn an_event_without_a_history_row_has_no_id_line() {
        let event = event("t", None, &[]);
        let text = std::str::from_utf8(&event.bytes).unwrap();
        assert!(!text.contains("\nid:"), "{text}");
        assert!(text.contains("\"message\":\"\""), "{text}");
    }

    #[test]
    fn texts_cannot_break_the_framing() {
        for text in [
            "a\r\nevent: x\r\n\r\n",
            "\n\n",
            "\0",
            "\u{2028}\u{85}",
            "\"\\",
        ] {
            let event = event(text, Some(text), &[1234]);
            let block = std::str::from_utf8(&event.bytes).unwrap();
            assert_eq!(block.matches('\n').count(), 5, "{block:?}");
            assert!(!block.contains('\r') && !block.contains('\0'), "{block:?}");
            let data = block
                .lines()
                .nth(1)
                .unwrap()
                .strip_prefix("data: ")
                .unwrap();
            let json: serde_json::Value = serde_json::from_str(data).unwrap();
            assert_eq!(json["payload"]["message"], text);
            assert_eq!(json["payload"]["title"], text);
        }
    }

    #[test]
    fn long_texts_are_cut_on_a_character_boundary() {
        for text in ["x".repeat(5000), "é".repeat(3000), "🔥".repeat(2000)] {
            let short = shorten(&text);
            assert!(short.len() <= TEXT_LIMIT && short.len() > TEXT_LIMIT - 7);
            assert!(text.starts_with(short.strip_suffix('…').unwrap()));
        }
        let exact = "x".repeat(TEXT_LIMIT);
        assert_eq!(shorten(&exact), exact);
    }

    #[test]
    fn an_impossible_time_is_replaced_by_now() {
        for time in [i64::MIN, -62_167_219_200_001, i64::MAX] {
            assert!(rfc3339(time).starts_with("2"), "{}", rfc3339(time));
        }
        assert_eq!(
            rfc3339(-62_167_219_200_000),
            "0000-01-01T00:00:00.000+00:00"
        );
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00.000+00:00");
    }
}

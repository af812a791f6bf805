//! Events on the wire, read by an EventSource written from the HTML standard.

use std::time::Duration;

use icinga_desktop_bridge::model::event::{
    self, Content, Event, KEEP_ALIVE, RETRY, Rendered, TEXT_LIMIT,
};
use icinga_desktop_bridge::model::ids::{HistoryId, IncidentId};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use super::values::number;

/// As spelled in the database.
const SEVERITIES: [&str; 9] = [
    "ok", "debug", "info", "notice", "warning", "err", "crit", "alert", "emerg",
];

/// The state of an EventSource after reading: dispatched events, and its own state.
#[derive(Debug, Default, PartialEq)]
struct Heard {
    /// Type, data and last event id of each.
    events: Vec<(String, String, String)>,
    last_event_id: String,
    reconnection_time: Option<u32>,
}

/// An EventSource's parser, written from the HTML standard ("Interpreting an event stream").
fn event_source(stream: &str) -> Heard {
    let mut heard = Heard::default();
    let (mut data, mut kind, mut id) = (String::new(), String::new(), String::new());
    let stream = stream.replace("\r\n", "\n").replace('\r', "\n");
    let Some((lines, _unfinished)) = stream.rsplit_once('\n') else {
        return heard;
    };
    for line in lines.split('\n') {
        if line.is_empty() {
            heard.last_event_id.clone_from(&id);
            let (data, kind) = (std::mem::take(&mut data), std::mem::take(&mut kind));
            if let Some(data) = data.strip_suffix('\n') {
                let kind = if kind.is_empty() {
                    "message".to_owned()
                } else {
                    kind
                };
                heard.events.push((kind, data.to_owned(), id.clone()));
            }
            continue;
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut kind),
            "data" => {
                data.push_str(value);
                data.push('\n');
            }
            "id" if !value.contains('\0') => value.clone_into(&mut id),
            "retry" if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) => {
                heard.reconnection_time = value.parse().ok();
            }
            // A comment has an empty field name, and others are ignored.
            _ => {}
        }
    }
    heard
}

#[derive(Debug, Clone)]
struct Input {
    history_ids: Vec<i64>,
    epoch: u64,
    time_ms: i64,
    incident_id: i64,
    severity: &'static str,
    title: String,
    message: Option<String>,
}

impl Input {
    fn render(&self) -> Event {
        let rendered = Rendered::new(&Content {
            time_ms: self.time_ms,
            incident_id: IncidentId(self.incident_id),
            severity: self.severity,
            title: &self.title,
            message: self.message.as_deref(),
        });
        rendered.event(self.ids(), self.epoch)
    }

    fn ids(&self) -> Vec<HistoryId> {
        self.history_ids.iter().copied().map(HistoryId).collect()
    }

    /// Whether `data` belongs to this event.
    fn is(&self, data: &str) -> Result<(), TestCaseError> {
        let data: serde_json::Value =
            serde_json::from_str(data).map_err(|error| TestCaseError::fail(error.to_string()))?;
        let time = data["time"].as_str().unwrap_or_default();
        prop_assert!(is_rfc3339(time), "{}", time);
        let payload = &data["payload"];
        prop_assert_eq!(&payload["incident_id"], self.incident_id);
        prop_assert_eq!(&payload["severity"], self.severity);
        is_text(&payload["title"], &self.title)?;
        // Never null: the client would show the word.
        is_text(
            &payload["message"],
            self.message.as_deref().unwrap_or_default(),
        )
    }
}

fn is_rfc3339(time: &str) -> bool {
    let shape = time.replace(|c: char| c.is_ascii_digit(), "0");
    shape == "0000-00-00T00:00:00.000+00:00"
}

fn is_text(sent: &serde_json::Value, text: &str) -> Result<(), TestCaseError> {
    let Some(sent) = sent.as_str() else {
        return Err(TestCaseError::fail(format!("{sent} is no text")));
    };
    if text.len() <= TEXT_LIMIT {
        prop_assert_eq!(sent, text);
    } else {
        let start = sent.strip_suffix('…').unwrap_or("no ellipsis");
        prop_assert!(sent.len() <= TEXT_LIMIT && text.starts_with(start));
        // Only the character that did not fit is lost.
        prop_assert!(sent.len() + 4 > TEXT_LIMIT, "{} bytes", sent.len());
    }
    Ok(())
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => any::<String>(),
        4 => "[\r\n\0\t :\"\\\\{}\u{85}\u{2028}\u{2029}\u{feff}a]{0,40}",
        // Around the limit, with characters of one to four bytes in any position.
        1 => (vec(select(vec!["a", "é", "…", "🔥", "\n", "\""]), 1..8), 4080..4110_usize)
            .prop_map(|(parts, length)| {
                let pattern = parts.concat();
                let mut text = String::new();
                while text.len() < length {
                    text.push_str(&pattern);
                }
                text
            }),
    ]
}

fn input() -> impl Strategy<Value = Input> {
    let calendar = -70_000_000_000_000..260_000_000_000_000_i64;
    let time = prop_oneof![number(), calendar];
    (
        vec(number(), 0..3),
        any::<u64>(),
        time,
        number(),
        select(&SEVERITIES),
        text(),
        option::of(text()),
    )
        .prop_map(
            |(history_ids, epoch, time_ms, incident_id, severity, title, message)| Input {
                history_ids,
                epoch,
                time_ms,
                incident_id,
                severity,
                title,
                message,
            },
        )
}

proptest! {
    #[test]
    fn an_event_is_its_fields_and_one_empty_line(input in input()) {
        let event = input.render();
        let block = std::str::from_utf8(&event.bytes).expect("text");
        prop_assert!(!block.contains(['\r', '\0']));
        let fields: Vec<_> = block.split('\n').map(|line| line.split(':').next()).collect();
        let expected = match input.history_ids.first() {
            Some(_) => vec!["event", "data", "id", "retry", "", ""],
            None => vec!["event", "data", "retry", "", ""],
        };
        prop_assert_eq!(fields, expected.into_iter().map(Some).collect::<Vec<_>>());
        let incident_id = IncidentId(input.incident_id);
        prop_assert_eq!(
            (event.history_ids, event.epoch, event.incident_id),
            (input.ids(), input.epoch, incident_id)
        );
    }

    #[test]
    fn an_event_source_reads_the_same_values(
        inputs in vec((input(), any::<bool>()), 0..4), retry in any::<u32>()
    ) {
        let mut stream = Vec::new();
        for (input, keep_alive) in &inputs {
            stream.extend_from_slice(&input.render().bytes);
            if *keep_alive {
                stream.extend_from_slice(&KEEP_ALIVE);
            }
        }
        let heard = event_source(std::str::from_utf8(&stream).expect("text"));
        prop_assert_eq!(heard.events.len(), inputs.len());
        prop_assert_eq!(heard.reconnection_time, (!inputs.is_empty()).then(|| u32::try_from(RETRY.as_millis()).expect("seconds")));
        let mut newest = String::new();
        for ((kind, data, id), (input, _)) in heard.events.iter().zip(&inputs) {
            prop_assert_eq!(kind, "icinga2.notification");
            if let Some(id) = input.history_ids.first() {
                newest = id.to_string();
            }
            prop_assert_eq!(id, &newest);
            input.is(data)?;
        }
        prop_assert_eq!(heard.last_event_id, newest);

        stream.extend_from_slice(&event::retry(Duration::from_millis(retry.into())));
        let final_block = event_source(std::str::from_utf8(&stream).expect("text"));
        prop_assert_eq!(final_block.events, heard.events);
        prop_assert_eq!(final_block.reconnection_time, Some(retry));
    }
}

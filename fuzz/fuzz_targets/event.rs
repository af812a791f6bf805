//! Whatever the texts and numbers, an event has four lines and an empty one, and its data has the same texts.
#![no_main]

use icinga_desktop_bridge::model::event::{Content, Rendered, TEXT_LIMIT};
use icinga_desktop_bridge::model::ids::{HistoryId, IncidentId};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (i64, i64, Vec<i64>, &str, &str, Option<&str>)| {
    let (time_ms, incident_id, history_ids, severity, title, message) = input;
    let id = history_ids.first().copied();
    let rendered = Rendered::new(&Content {
        time_ms,
        incident_id: IncidentId(incident_id),
        severity,
        title,
        message,
    });
    let event = rendered.event(history_ids.into_iter().map(HistoryId).collect(), 0);
    let block = std::str::from_utf8(&event.bytes).expect("text");
    assert!(!block.contains(['\r', '\0']));
    let mut lines = block.split('\n');
    assert_eq!(lines.next(), Some("event: icinga2.notification"));
    let data = lines
        .next()
        .and_then(|line| line.strip_prefix("data: "))
        .expect("data");
    if let Some(id) = id {
        assert_eq!(lines.next(), Some(format!("id: {id}").as_str()));
    }
    assert_eq!(lines.collect::<Vec<_>>(), ["retry: 3000", "", ""]);

    let data: serde_json::Value = serde_json::from_str(data).expect("JSON");
    // YYYY-MM-DDTHH:MM:SS.mmm+00:00: no year is longer or negative.
    let time = data["time"].as_str().expect("a time");
    assert!(
        time.len() == 29 && time.as_bytes()[0].is_ascii_digit(),
        "{time}"
    );
    let payload = &data["payload"];
    assert_eq!(payload["incident_id"], incident_id);
    assert_eq!(payload["severity"], severity);
    same(&payload["title"], title);
    same(&payload["message"], message.unwrap_or_default());
});

fn same(sent: &serde_json::Value, text: &str) {
    let sent = sent.as_str().expect("a text");
    if text.len() > TEXT_LIMIT {
        assert!(sent.len() <= TEXT_LIMIT);
        let start = sent.strip_suffix('…');
        assert!(start.is_some_and(|start| text.starts_with(start)));
    } else {
        assert_eq!(sent, text);
    }
}

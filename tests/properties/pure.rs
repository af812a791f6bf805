//! What holds for every input, not only for the examples beside the code: arbitrary input against naive models.

use std::collections::{BTreeMap, BTreeSet};

use icinga_desktop_bridge::auth::{Credentials, last_event_id};
use icinga_desktop_bridge::model::browser::BrowserKey;
use icinga_desktop_bridge::model::event::{self, Content, Event, KEEP_ALIVE, RETRY_MS, TEXT_LIMIT};
use icinga_desktop_bridge::model::notification::{
    self, Kind, Malformed, Marked, Notification, SessionChange, Severity,
};
use icinga_desktop_bridge::model::position::Position;
use icinga_desktop_bridge::model::timeline::Tide;
use icinga_desktop_bridge::resolve::{Announcement, Fold, Settling};
use proptest::collection::{btree_set, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use warp::http::header::COOKIE;
use warp::http::{HeaderMap, HeaderValue};

const SEVERITIES: [Severity; 9] = [
    Severity::Ok,
    Severity::Debug,
    Severity::Info,
    Severity::Notice,
    Severity::Warning,
    Severity::Err,
    Severity::Crit,
    Severity::Alert,
    Severity::Emerg,
];

/// Numbers with their extremes, which a plain `any` seldom hits.
fn number() -> impl Strategy<Value = i64> {
    prop_oneof![any::<i64>(), select(vec![i64::MIN, -1, 0, 1, i64::MAX])]
}

fn transaction() -> impl Strategy<Value = u64> {
    prop_oneof![any::<u64>(), select(vec![0, 3, u64::MAX])]
}

mod payloads {
    use super::*;

    /// JSON of any shape, often with the names and words that are looked for.
    fn json() -> impl Strategy<Value = serde_json::Value> {
        let word = prop_oneof![
            select(vec![
                "tx",
                "incident_id",
                "history_id",
                "contact_id",
                "state",
                "severity"
            ])
            .prop_map(str::to_owned),
            select(vec!["pending", "crit", "1", "-1", "18446744073709551616"])
                .prop_map(str::to_owned),
            any::<String>(),
        ];
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            any::<f64>().prop_map(Into::into),
            word.clone().prop_map(Into::into),
        ];
        leaf.prop_recursive(3, 24, 8, move |inner| {
            prop_oneof![
                vec(inner.clone(), 0..4).prop_map(serde_json::Value::from),
                vec((word.clone(), inner), 0..8)
                    .prop_map(|fields| serde_json::Value::Object(fields.into_iter().collect())),
            ]
        })
    }

    fn parse_as_everything(payload: &str) -> Vec<Malformed> {
        let refused = [
            Notification::parse(payload).err(),
            notification::parse::<SessionChange>(payload).err(),
            notification::parse::<Marked>(payload).err(),
        ];
        refused.into_iter().flatten().collect()
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(payload in any::<String>()) {
            parse_as_everything(&payload);
        }

        #[test]
        fn arbitrary_json_never_panics(payload in json()) {
            parse_as_everything(&payload.to_string());
        }

        #[test]
        fn a_history_rows_payload_reads_back(
            tx in transaction(), history_id in number(), incident_id in number(), contact_id in number(),
            state in option::of(select(vec!["pending", "sent", "suppressed", "failed"])),
        ) {
            // As announce_notified() of sql/install.sql formats it.
            let word = state.map_or("null".to_owned(), |state| format!("\"{state}\""));
            let payload = format!(
                "{{\"tx\":\"{tx}\",\"history_id\":{history_id},\"incident_id\":{incident_id},\
                 \"contact_id\":{contact_id},\"state\":{word}}}"
            );
            let announced = matches!(state, Some("pending" | "sent"));
            let kind = Kind::Notified { history_id, contact_id, announced };
            prop_assert_eq!(Notification::parse(&payload), Ok(Notification { tx, incident_id, kind }));
        }

        #[test]
        fn an_incidents_payload_reads_back(
            tx in transaction(), incident_id in number(), severity in select(&SEVERITIES)
        ) {
            // As announce_severity() of sql/install.sql formats it.
            let payload = format!(
                "{{\"tx\":\"{tx}\",\"incident_id\":{incident_id},\"severity\":\"{}\"}}",
                severity.as_str()
            );
            let kind = Kind::Changed { severity };
            prop_assert_eq!(Notification::parse(&payload), Ok(Notification { tx, incident_id, kind }));
        }

        /// The secret has letters that no error's own words have, so that any part of it would show.
        #[test]
        fn no_error_quotes_its_payload(
            secret in "[QXZ]{1,12}",
            template in select(vec![
                "@", "{@", "{\"@\":1}", "[\"@\"]", "{\"tx\":\"@\",\"incident_id\":1,\"severity\":\"ok\"}",
                "{\"tx\":\"1\",\"incident_id\":\"@\"}", "{\"tx\":\"1\",\"incident_id\":1,\"severity\":\"@\"}",
                "{\"tx\":\"1\",\"incident_id\":1,\"state\":\"@\"}", "{\"tx\":\"1\",\"incident_id\":@}",
                "{\"token\":\"@\",\"newest_id\":1}", "{\"contact_id\":\"@\"}",
            ]),
        ) {
            for error in parse_as_everything(&template.replace('@', &secret)) {
                prop_assert!(!format!("{error} {error:?}").contains(['Q', 'X', 'Z']), "{}", error);
            }
        }

        /// The same for any text: taken apart, an error's text is our own words and two numbers.
        #[test]
        fn an_errors_text_is_our_own_words_and_two_numbers(payload in any::<String>()) {
            for error in parse_as_everything(&payload) {
                let text = error.to_string();
                let rest = [
                    "a missing field or one of a wrong type", "an unexpected end", "a syntax error",
                    "neither that of a history row nor that of an incident",
                ].iter().find_map(|words| text.strip_prefix(words));
                let Some(rest) = rest else { return Err(TestCaseError::fail(text)) };
                let numbers = rest.replace(" at character ", "").replace(" of ", "");
                prop_assert!(numbers.bytes().all(|byte| byte.is_ascii_digit()), "{}", text);
            }
        }
    }
}

mod cookies {
    use super::*;

    fn session_id() -> impl Strategy<Value = String> {
        prop_oneof!["[A-Za-z0-9,-]{22,40}", "[A-Za-z0-9,-]{250,256}"]
    }

    /// What a header can hold: no control characters but the tab.
    fn header_bytes() -> impl Strategy<Value = Vec<u8>> {
        vec(
            prop_oneof![Just(b'\t'), 0x20..0x7f_u8, 0x80..=0xff_u8],
            0..80,
        )
    }

    /// Bytes that are often nearly a session cookie.
    fn cookie_bytes() -> impl Strategy<Value = Vec<u8>> {
        let part = prop_oneof![
            header_bytes(),
            Just(b"; ".to_vec()),
            Just(b"Icingaweb2=".to_vec()),
            "[A-Za-z0-9,-]{20,24}".prop_map(String::into_bytes),
            "(%2C|%2c|%41|%00|%C3|%|=|;|é| )".prop_map(String::into_bytes),
        ];
        vec(part, 0..8).prop_map(|parts| parts.concat())
    }

    fn headers(cookies: &[Vec<u8>]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for cookie in cookies {
            headers.append(
                COOKIE,
                HeaderValue::from_bytes(cookie).expect("valid in a header"),
            );
        }
        headers
    }

    /// The session cookie's value as the contract has it, byte by byte and without the crates.
    fn expected(cookies: &[Vec<u8>]) -> Option<String> {
        let pairs = cookies
            .iter()
            .flat_map(|cookie| cookie.split(|byte| *byte == b';'));
        let mut values = pairs.filter_map(|pair| pair.trim_ascii().strip_prefix(b"Icingaweb2="));
        let (mut raw, mut id) = (values.next()?, String::new());
        while let Some((first, rest)) = raw.split_first() {
            let hex = |byte: &u8| char::from(*byte).to_digit(16);
            let encoded = match (first, rest) {
                (b'%', [high, low, ..]) => hex(high).zip(hex(low)),
                _ => None,
            };
            let (byte, rest) = match encoded {
                Some((high, low)) => (u8::try_from(high * 16 + low).ok()?, &rest[2..]),
                None => (*first, rest),
            };
            let good = byte.is_ascii_alphanumeric() || byte == b',' || byte == b'-';
            id.push(char::from(good.then_some(byte)?));
            raw = rest;
        }
        (22..=256).contains(&id.len()).then_some(id)
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(cookies in vec(header_bytes(), 0..5)) {
            let _ = Credentials::read(&headers(&cookies));
        }

        #[test]
        fn nothing_but_the_first_cookies_valid_id_is_accepted(cookies in vec(cookie_bytes(), 0..5)) {
            let read = Credentials::read(&headers(&cookies)).ok();
            let expected = expected(&cookies);
            prop_assert_eq!(
                read.map(|credentials| credentials.browser()),
                expected.map(|id| BrowserKey::new(&id))
            );
        }

        #[test]
        fn a_valid_id_is_found_anywhere_among_other_cookies(
            id in session_id(),
            others in vec("[a-z_]{1,8}=[!-:<-~]{0,20}", 1..40),
            place in any::<Index>(),
            separator in select(vec![";", "; ", " ;\t"]),
            header_size in 1..10_usize,
        ) {
            let mut pairs = others;
            // PHP's own spelling of the comma.
            pairs.insert(place.index(pairs.len() + 1), format!("Icingaweb2={}", id.replace(',', "%2C")));
            let cookies: Vec<_> =
                pairs.chunks(header_size).map(|pairs| pairs.join(separator).into_bytes()).collect();
            let credentials = Credentials::read(&headers(&cookies));
            prop_assert_eq!(credentials.map(|credentials| credentials.browser()), Ok(BrowserKey::new(&id)));
        }

        #[test]
        fn debug_output_shows_nothing_of_the_id(id in session_id()) {
            let credentials = Credentials::read(&headers(&[format!("Icingaweb2={id}").into_bytes()]));
            prop_assert_eq!(format!("{credentials:?}"), "Ok(Credentials(***))");
        }

        #[test]
        fn only_positive_integers_are_taken_as_last_event_id(
            value in prop_oneof![
                header_bytes(),
                "[+-]?[0-9]{0,21}".prop_map(String::into_bytes),
                number().prop_map(|id| id.to_string().into_bytes()),
            ]
        ) {
            let mut headers = HeaderMap::new();
            headers.insert("last-event-id", HeaderValue::from_bytes(&value).expect("valid in a header"));
            // A number by hand; a leading + does no harm.
            let digits = value.strip_prefix(b"+").unwrap_or(&value);
            let number = digits.iter().try_fold(0_i128, |number, byte| {
                let digit = i128::from(byte.checked_sub(b'0').filter(|digit| *digit < 10)?);
                Some((number * 10 + digit).min(i128::from(i64::MAX) + 1))
            });
            let expected = number.and_then(|number| i64::try_from(number).ok()).filter(|id| *id > 0);
            prop_assert_eq!(last_event_id(&headers), expected);
        }
    }
}

mod framing {
    use super::*;

    /// What an EventSource has after reading: dispatched events, and its own state.
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
        time_ms: i64,
        incident_id: i64,
        severity: Severity,
        title: String,
        message: Option<String>,
    }

    impl Input {
        fn render(&self) -> Event {
            Event::render(Content {
                history_ids: self.history_ids.clone(),
                time_ms: self.time_ms,
                incident_id: self.incident_id,
                severity: self.severity.as_str(),
                title: &self.title,
                message: self.message.as_deref(),
            })
        }

        /// Whether `data` is this event's.
        fn is(&self, data: &str) -> Result<(), TestCaseError> {
            let data: serde_json::Value = serde_json::from_str(data)
                .map_err(|error| TestCaseError::fail(error.to_string()))?;
            let time = data["time"].as_str().unwrap_or_default();
            prop_assert!(is_rfc3339(time), "{}", time);
            let payload = &data["payload"];
            prop_assert_eq!(&payload["incident_id"], self.incident_id);
            prop_assert_eq!(&payload["severity"], self.severity.as_str());
            is_text(payload["title"].as_str(), Some(&self.title))?;
            is_text(payload["message"].as_str(), self.message.as_deref())
        }
    }

    fn is_rfc3339(time: &str) -> bool {
        let shape = time.replace(|c: char| c.is_ascii_digit(), "0");
        shape == "0000-00-00T00:00:00.000+00:00"
    }

    fn is_text(sent: Option<&str>, text: Option<&str>) -> Result<(), TestCaseError> {
        let (Some(sent), Some(text)) = (sent, text) else {
            prop_assert_eq!(sent, text);
            return Ok(());
        };
        if text.len() <= TEXT_LIMIT {
            prop_assert_eq!(sent, text);
        } else {
            let start = sent.strip_suffix('…').unwrap_or("no ellipsis");
            prop_assert!(sent.len() <= TEXT_LIMIT && text.starts_with(start));
            // No more is lost than the character that did not fit.
            prop_assert!(sent.len() + 4 > TEXT_LIMIT, "{} bytes", sent.len());
        }
        Ok(())
    }

    fn text() -> impl Strategy<Value = String> {
        prop_oneof![
            4 => any::<String>(),
            4 => "[\r\n\0\t :\"\\\\{}\u{85}\u{2028}\u{2029}\u{feff}a]{0,40}",
            // Around the limit, with characters of one to four bytes in any place.
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
            time,
            number(),
            select(&SEVERITIES),
            text(),
            option::of(text()),
        )
            .prop_map(
                |(history_ids, time_ms, incident_id, severity, title, message)| Input {
                    history_ids,
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
            prop_assert_eq!(heard.reconnection_time, (!inputs.is_empty()).then_some(RETRY_MS));
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

            stream.extend_from_slice(&event::retry(retry));
            let farewell = event_source(std::str::from_utf8(&stream).expect("text"));
            prop_assert_eq!(farewell.events, heard.events);
            prop_assert_eq!(farewell.reconnection_time, Some(retry));
        }
    }
}

mod positions {
    use super::*;

    /// How many ids above the floor a position remembers.
    const MAX_ABOVE: usize = 4000;

    #[derive(Debug, Clone)]
    enum Step {
        Extend(Vec<i64>),
        Settle(i64),
        Merge(i64, Vec<i64>),
    }

    fn step(ids: std::ops::Range<i64>) -> impl Strategy<Value = Step> {
        let id = prop_oneof![20 => ids, 1 => Just(i64::MIN)];
        prop_oneof![
            vec(id.clone(), 0..8).prop_map(Step::Extend),
            id.clone().prop_map(Step::Settle),
            (id.clone(), vec(id, 0..8)).prop_map(|(floor, above)| Step::Merge(floor, above)),
        ]
    }

    /// The same with a plain set: every id that was called done, and the highest that was settled.
    #[derive(Default)]
    struct Model {
        done: BTreeSet<i64>,
        settled: i64,
    }

    impl Model {
        fn take(&mut self, step: &Step) {
            match step {
                Step::Extend(ids) => self.done.extend(ids),
                Step::Settle(settled) => self.settled = self.settled.max(*settled),
                Step::Merge(floor, above) => {
                    self.settled = self.settled.max(*floor);
                    self.done.extend(above);
                }
            }
        }
    }

    fn take(position: &mut Position, step: &Step) {
        match step {
            Step::Extend(ids) => position.extend(ids.iter().copied()),
            Step::Settle(settled) => position.settle(*settled),
            Step::Merge(floor, above) => {
                position.merge(&Position::new(*floor, above.iter().copied()))
            }
        }
    }

    proptest! {
        #[test]
        fn it_contains_what_is_done_or_settled_and_nothing_else(steps in vec(step(-5..60), 0..30)) {
            let (mut position, mut model) = (Position::default(), Model::default());
            for step in &steps {
                take(&mut position, step);
                model.take(step);
                for id in -6..61 {
                    let expected = id <= model.settled || model.done.contains(&id);
                    prop_assert_eq!(position.contains(id), expected, "{} after {:?}", id, step);
                }
                prop_assert_eq!(position.floor(), model.settled);
            }
            // What is stored is enough to have the same again.
            prop_assert_eq!(&Position::new(position.floor(), position.above()), &position);
        }

        #[test]
        fn beyond_the_cap_only_the_oldest_gaps_are_given_up(
            runs in vec((1..5000_i64, 0..400_usize, 1..4_usize), 1..8), steps in vec(step(0..5000), 0..6)
        ) {
            let (mut position, mut model) = (Position::default(), Model::default());
            let runs = runs.into_iter().map(|(start, count, stride)| {
                Step::Extend((start..).step_by(stride).take(count).collect())
            });
            for step in runs.chain(steps) {
                take(&mut position, &step);
                model.take(&step);
                for id in &model.done {
                    prop_assert!(position.contains(*id), "{} is forgotten", id);
                }
                prop_assert!(position.above().count() <= MAX_ABOVE);
                // The floor is where it was settled, or, beyond the cap, a done id under a full memory.
                prop_assert!(position.floor() >= model.settled);
                for id in position.above() {
                    prop_assert!(id > position.floor() && model.done.contains(&id));
                }
                if position.floor() > model.settled {
                    prop_assert!(model.done.contains(&position.floor()));
                    let above = model.done.range(position.floor() + 1..).count();
                    prop_assert!(above >= MAX_ABOVE || position.above().count() == above);
                }
            }
        }

        #[test]
        fn extremes_do_no_harm(ids in vec(number(), 0..10), settled in number(), other in number()) {
            let mut position = Position::new(settled, ids.iter().copied());
            position.merge(&Position::new(other, ids.iter().copied()));
            position.settle(settled);
            for id in ids.iter().chain([&settled, &other]) {
                prop_assert!(position.contains(*id));
            }
        }
    }
}

mod folding {
    use super::*;

    #[derive(Debug, Clone, Copy)]
    enum Write {
        Row {
            incident_id: i64,
            contact_id: i64,
            announced: bool,
        },
        Severity {
            incident_id: i64,
            severity: Severity,
        },
    }

    fn write() -> impl Strategy<Value = Write> {
        let row =
            (1..4_i64, 1..4_i64, any::<bool>()).prop_map(|(incident_id, contact_id, announced)| {
                Write::Row {
                    incident_id,
                    contact_id,
                    announced,
                }
            });
        let severity = (1..5_i64, select(&SEVERITIES[..3])).prop_map(|(incident_id, severity)| {
            Write::Severity {
                incident_id,
                severity,
            }
        });
        prop_oneof![row, severity]
    }

    /// Transactions one after the other, as NOTIFY delivers them, each of any writes in any order. History ids
    /// go up over all of them, so they tell which row was meant.
    fn deliveries() -> impl Strategy<Value = Vec<Vec<Notification>>> {
        vec(vec(write(), 1..9), 0..6).prop_map(|transactions| {
            let mut history_ids = 1..;
            let mut notification = |tx, write| match write {
                Write::Row {
                    incident_id,
                    contact_id,
                    announced,
                } => {
                    let history_id = history_ids.next().unwrap_or_default();
                    Notification {
                        tx,
                        incident_id,
                        kind: Kind::Notified {
                            history_id,
                            contact_id,
                            announced,
                        },
                    }
                }
                Write::Severity {
                    incident_id,
                    severity,
                } => Notification {
                    tx,
                    incident_id,
                    kind: Kind::Changed { severity },
                },
            };
            let numbered = (100_u64..).zip(transactions);
            numbered
                .map(|(tx, writes)| {
                    writes
                        .into_iter()
                        .map(|write| notification(tx, write))
                        .collect()
                })
                .collect()
        })
    }

    /// What a transaction is to announce.
    #[derive(Debug, Default, PartialEq)]
    struct Announced {
        /// (contact, rows) of each event by rule A.
        notified: BTreeSet<(i64, Vec<i64>)>,
        /// Incidents by rule B, with the severity.
        changed: BTreeMap<i64, Option<&'static str>>,
    }

    /// Rules A and B, as the design's first section has them, for one whole transaction.
    fn expected(transaction: &[Notification]) -> Announced {
        let mut rows: BTreeMap<(i64, i64), Vec<i64>> = BTreeMap::new();
        let mut decided = BTreeSet::new();
        let mut written: BTreeMap<i64, Vec<Severity>> = BTreeMap::new();
        for notification in transaction {
            let incident_id = notification.incident_id;
            match notification.kind {
                Kind::Notified {
                    history_id,
                    contact_id,
                    announced,
                } => {
                    decided.insert(incident_id);
                    if announced {
                        rows.entry((incident_id, contact_id))
                            .or_default()
                            .push(history_id);
                    }
                }
                Kind::Changed { severity } => {
                    written.entry(incident_id).or_default().push(severity)
                }
            }
        }
        let sole = |written: &[Severity]| match written {
            [severity] => Some(severity.as_str()),
            _ => None,
        };
        Announced {
            notified: rows
                .into_iter()
                .map(|((_, contact_id), rows)| (contact_id, rows))
                .collect(),
            changed: written
                .into_iter()
                .filter(|(incident_id, _)| !decided.contains(incident_id))
                .map(|(incident_id, written)| (incident_id, sole(&written)))
                .collect(),
        }
    }

    /// Collects announcements. A covered row is put with its contact's event; as each row is of one incident,
    /// `incidents` knows which.
    fn announced(
        announcements: &[Announcement],
        incidents: &BTreeMap<i64, i64>,
    ) -> Result<Announced, TestCaseError> {
        let mut notified: BTreeMap<(i64, i64), Vec<i64>> = BTreeMap::new();
        let mut changed = BTreeMap::new();
        for announcement in announcements {
            match announcement {
                Announcement::Notified {
                    history_ids,
                    contact_id,
                    ..
                } => {
                    let key = (incidents[&history_ids[0]], *contact_id);
                    prop_assert!(
                        notified.insert(key, history_ids.clone()).is_none(),
                        "{:?} twice",
                        key
                    );
                }
                Announcement::Covered {
                    history_id,
                    contact_id,
                } => {
                    let rows = notified.get_mut(&(incidents[history_id], *contact_id));
                    let Some(rows) = rows else {
                        return Err(TestCaseError::fail(format!(
                            "{history_id} is covered by nothing"
                        )));
                    };
                    rows.push(*history_id);
                }
                Announcement::Changed {
                    incident_id,
                    severity,
                } => {
                    let word = severity.map(Severity::as_str);
                    prop_assert!(
                        changed.insert(*incident_id, word).is_none(),
                        "{} twice",
                        incident_id
                    );
                }
            }
        }
        let notified = notified
            .into_iter()
            .map(|((_, contact_id), rows)| (contact_id, rows))
            .collect();
        Ok(Announced { notified, changed })
    }

    fn incidents(transaction: &[Notification]) -> BTreeMap<i64, i64> {
        let row = |notification: &Notification| match notification.kind {
            Kind::Notified { history_id, .. } => Some((history_id, notification.incident_id)),
            Kind::Changed { .. } => None,
        };
        transaction.iter().filter_map(row).collect()
    }

    proptest! {
        /// Whole: also the severity of each event is known. In parts: it may be taken before it was heard.
        #[test]
        fn each_contact_of_an_incident_is_told_once_per_transaction(
            deliveries in deliveries(), cuts in vec(any::<bool>(), 64), settles in vec(any::<bool>(), 6)
        ) {
            let (mut whole, mut parts) = (Fold::default(), Fold::default());
            let mut cuts = cuts.into_iter();
            // With `settles`, announcements of a transaction come at its end; without, at the next one's begin.
            let mut told = Vec::new();
            for (transaction, settled) in deliveries.iter().zip(settles) {
                for notification in transaction {
                    parts.push(notification, 1);
                    if cuts.next() == Some(true) {
                        told.push(parts.take_ready());
                    }
                }
                if settled {
                    parts.settled();
                    // Said twice: a transaction's messages may come in two reads, both of which end all.
                    parts.settled();
                }

                for notification in transaction {
                    whole.push(notification, 1);
                }
                whole.settled();
                let ready = whole.take_ready();
                prop_assert_eq!(announced(&ready, &incidents(transaction))?, expected(transaction));
                for announcement in &ready {
                    let covered = matches!(announcement, Announcement::Covered { .. });
                    prop_assert!(!covered, "all rows were there");
                    if let Announcement::Notified { history_ids, severity, .. } = announcement {
                        let incident_id = incidents(transaction)[&history_ids[0]];
                        let written: Vec<_> = transaction.iter().filter_map(|notification| {
                            match notification.kind {
                                Kind::Changed { severity } if notification.incident_id == incident_id => Some(severity),
                                _ => None,
                            }
                        }).collect();
                        let sole = (written.len() == 1).then(|| written[0]);
                        prop_assert_eq!(*severity, sole);
                    }
                }
            }
            parts.settled();
            told.push(parts.take_ready());

            // Which transaction a row is of is known by the row; changes are counted over all.
            let told = told.concat();
            let mut changes: BTreeMap<(i64, Option<&str>), usize> = BTreeMap::new();
            for announcement in &told {
                if let Announcement::Changed { incident_id, severity } = announcement {
                    *changes.entry((*incident_id, severity.map(Severity::as_str))).or_default() += 1;
                }
            }
            for transaction in &deliveries {
                let incidents = incidents(transaction);
                let of_it: Vec<_> = told.iter().filter(|announcement| match announcement {
                    Announcement::Notified { history_ids, .. } => incidents.contains_key(&history_ids[0]),
                    Announcement::Covered { history_id, .. } => incidents.contains_key(history_id),
                    Announcement::Changed { .. } => false,
                }).cloned().collect();
                let expected = expected(transaction);
                prop_assert_eq!(announced(&of_it, &incidents)?.notified, expected.notified);
                for change in expected.changed {
                    let count = changes.get_mut(&change);
                    prop_assert!(count.is_some(), "{:?} is not told", change);
                    if let Some(count) = count {
                        *count = count.wrapping_sub(1);
                    }
                }
            }
            prop_assert!(changes.values().all(|count| *count == 0), "told, but not to be: {:?}", changes);
        }
    }
}

mod settling {
    use super::*;

    #[derive(Debug, Clone)]
    enum Step {
        Begin,
        /// The transaction writes a row: the id is handed out now, and is visible when it commits.
        Write(Index),
        /// The transaction ends, by commit or rollback.
        End(Index, bool),
        /// A beat takes its snapshot; it is heard only later.
        Beat,
        /// The oldest beat on its way is heard.
        Hear,
    }

    /// Weighted so that few transactions run at a time: errors show where one or two overlap with beats.
    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => Just(Step::Begin),
            5 => any::<Index>().prop_map(Step::Write),
            4 => (any::<Index>(), any::<bool>()).prop_map(|(which, commit)| Step::End(which, commit)),
            3 => Just(Step::Beat),
            4 => Just(Step::Hear),
        ]
    }

    proptest! {
        #[test]
        fn nothing_at_or_below_a_settled_id_becomes_visible_later(steps in vec(step(), 0..400)) {
            let mut settling = Settling::default();
            let mut running: BTreeMap<u64, Vec<i64>> = BTreeMap::new();
            let (mut next_transaction, mut next_id) = (10_u64, 1_i64);
            let mut visible = BTreeSet::new();
            let mut on_their_way = std::collections::VecDeque::new();
            let mut settled = i64::MIN;
            for step in steps {
                match step {
                    Step::Begin => {
                        running.insert(next_transaction, Vec::new());
                        next_transaction += 1;
                    }
                    Step::Write(which) if !running.is_empty() => {
                        let which = which.index(running.len());
                        if let Some(ids) = running.values_mut().nth(which) {
                            ids.push(next_id);
                            next_id += 1;
                        }
                    }
                    Step::End(which, commit) if !running.is_empty() => {
                        let which = running.keys().copied().nth(which.index(running.len()));
                        let ids = which.and_then(|tx| running.remove(&tx)).unwrap_or_default();
                        if commit {
                            for id in ids {
                                prop_assert!(id > settled, "{} comes after {} was settled", id, settled);
                                visible.insert(id);
                            }
                        }
                    }
                    // As pg_current_snapshot() has it; max(id) is of the same snapshot.
                    Step::Beat => on_their_way.push_back(Tide {
                        newest_id: visible.last().copied().unwrap_or(0),
                        oldest_running: running.keys().next().copied().unwrap_or(next_transaction),
                        first_future: next_transaction,
                        timeline: None,
                    }),
                    Step::Hear => {
                        if let Some(id) = on_their_way.pop_front().and_then(|beat| settling.beat(&beat)) {
                            settled = settled.max(id);
                        }
                    }
                    Step::Write(_) | Step::End(..) => {}
                }
            }
        }

        #[test]
        fn once_all_is_committed_three_beats_settle_all(
            ids in btree_set(1..100_i64, 0..5), earlier in option::of((0..10_u64, 10..20_u64))
        ) {
            let mut settling = Settling::default();
            let newest_id = ids.last().copied().unwrap_or(0);
            let beat = |newest_id, oldest_running, first_future| {
                Tide { newest_id, oldest_running, first_future, timeline: None }
            };
            if let Some((oldest_running, first_future)) = earlier {
                settling.beat(&beat(0, oldest_running, first_future));
            }
            settling.beat(&beat(newest_id, 30, 30));
            settling.beat(&beat(newest_id, 30, 30));
            prop_assert_eq!(settling.beat(&beat(newest_id, 30, 30)), Some(newest_id));
        }
    }
}

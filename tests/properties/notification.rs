//! Payloads of NOTIFY: what the triggers format reads back, and no error quotes what it was given.

use icinga_desktop_bridge::model::ids::{ContactId, HistoryId, IncidentId};
use icinga_desktop_bridge::model::notification::{
    self, Kind, Malformed, Marked, Notification, SessionChange,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use super::values::{SEVERITIES, number, transaction};

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
        select(vec!["pending", "crit", "1", "-1", "18446744073709551616"]).prop_map(str::to_owned),
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
        let kind = Kind::Notified {
            history_id: HistoryId(history_id),
            contact_id: ContactId(contact_id),
            announced,
        };
        let incident_id = IncidentId(incident_id);
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
        let incident_id = IncidentId(incident_id);
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

//! Payloads of NOTIFY: those that the triggers format can be parsed, and no error quotes its input.

use icinga_desktop_bridge::model::browser::BrowserKey;
use icinga_desktop_bridge::model::ids::{ContactId, IncidentId};
use icinga_desktop_bridge::model::notification::{
    Malformed, SessionChange, SeverityChange, Token, TokenPayload, parse,
};
use proptest::array::uniform32;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use sha2::{Digest, Sha256};

use super::values::number;

/// JSON of any shape, often with the expected names and words.
fn json() -> impl Strategy<Value = serde_json::Value> {
    let word = prop_oneof![
        select(vec!["incident_id", "contact_id", "browser", "token"]).prop_map(str::to_owned),
        select(vec!["1", "-1", "9223372036854775808"]).prop_map(str::to_owned),
        "[0-9a-f]{63,65}",
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
        parse::<SeverityChange>(payload).err(),
        parse::<SessionChange>(payload).err(),
        parse::<TokenPayload>(payload).err(),
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

    /// As sql/install.sql formats them.
    #[test]
    fn the_triggers_payloads_read_back(id in number(), session_id in any::<String>()) {
        let payload = format!("{{\"incident_id\":{id}}}");
        prop_assert_eq!(parse(&payload), Ok(SeverityChange { incident_id: IncidentId(id) }));
        let payload = format!("{{\"contact_id\":{id}}}");
        prop_assert_eq!(parse(&payload), Ok(SessionChange::ContactId(ContactId(id))));
        let digest = const_hex::encode(Sha256::digest(&session_id));
        let payload = format!("{{\"browser\":\"{digest}\"}}");
        prop_assert_eq!(parse(&payload), Ok(SessionChange::Browser(BrowserKey::new(&session_id))));
    }

    #[test]
    fn a_mark_reads_back(token in uniform32(any::<u8>())) {
        let marked = TokenPayload { token: Token(token) };
        prop_assert_eq!(parse(&marked.payload()), Ok(marked));
    }

    /// The secret has letters that no error's own words have, so that any part of it would show.
    #[test]
    fn no_error_quotes_its_payload(
        secret in "[QXZ]{1,12}",
        template in select(vec![
            "@", "{@", "{\"@\":1}", "[\"@\"]", "{\"incident_id\":\"@\"}", "{\"incident_id\":@}",
            "{\"incident_id\":1,\"incident_id\":\"@\"}", "{\"contact_id\":\"@\"}", "{\"contact_id\":1@}",
            "{\"browser\":\"@\"}", "{\"browser\":[\"@\"]}", "{\"token\":\"@\"}", "{\"token\":{\"@\":1}}",
        ]),
    ) {
        for error in parse_as_everything(&template.replace('@', &secret)) {
            prop_assert!(!format!("{error} {error:?}").contains(['Q', 'X', 'Z']), "{}", error);
        }
    }

    /// The same for any text: an error's text consists of our own words and two numbers.
    #[test]
    fn an_errors_text_is_our_own_words_and_two_numbers(payload in any::<String>()) {
        for error in parse_as_everything(&payload) {
            let text = error.to_string();
            let rest = [
                "a missing field or one of a wrong type", "an unexpected end", "a syntax error",
            ].iter().find_map(|words| text.strip_prefix(words));
            let Some(rest) = rest else { return Err(TestCaseError::fail(text)) };
            let numbers = rest.replace(" at character ", "").replace(" of ", "");
            prop_assert!(numbers.bytes().all(|byte| byte.is_ascii_digit()), "{}", text);
        }
    }
}

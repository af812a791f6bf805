//! NOTIFY channels and their payloads, parsed and checked.
//!
//! Any role that can connect to the database can send anything on a channel. So a payload is only used to decide where to look,
//! and never as data.

use super::browser::BrowserKey;
use super::ids::{ContactId, IncidentId};
use serde::Deserialize;

/// The bell: rows were committed. Its payload has no meaning; the resolver looks.
pub const BELL_CHANNEL: &str = "icinga_desktop_bell";

/// Announces an incident whose severity was changed without Icinga Notifications.
pub const INCIDENT_CHANNEL: &str = "icinga_desktop_incident";

/// Announces browsers and contacts whose sign-ins may have changed.
pub const SESSION_CHANNEL: &str = "icinga_desktop_session";

/// Carries the pulse, which proves that the daemon receives notifications.
pub const PULSE_CHANNEL: &str = "icinga_desktop_pulse";

/// Carries the questions of commands to the bridges of a database; see [`crate::ask`].
pub const ASK_CHANNEL: &str = "icinga_desktop_ask";

/// A payload of [`INCIDENT_CHANNEL`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct SeverityChange {
    /// The incident.
    pub incident_id: IncidentId,
}

/// A payload of [`SESSION_CHANNEL`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SessionChange {
    /// The browser whose session ended or changed, in hexadecimal.
    Browser(#[serde(with = "hex_key")] BrowserKey),
    /// The contact whose user name changed, or that was removed.
    ContactId(ContactId),
}

/// A browser's key as text.
mod hex_key {
    use super::BrowserKey;
    use serde::{Deserializer, de::Error as _};

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<BrowserKey, D::Error> {
        let digest: [u8; 32] = const_hex::serde::deserialize(deserializer)
            .map_err(|_| D::Error::custom("not a digest"))?;
        Ok(BrowserKey::from_digest(&digest))
    }
}

/// A random number that cannot be guessed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct Token(#[serde(with = "const_hex")] pub [u8; 32]);

/// A payload of [`PULSE_CHANNEL`] or [`ASK_CHANNEL`]. It contains only a random number, because every role can send and receive
/// it. The number of a beat stays with its sender, and a question is in the database, where only roles with the right to ask can
/// write it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct TokenPayload {
    /// The random number, in hexadecimal.
    pub token: Token,
}

impl TokenPayload {
    /// The payload as text.
    pub fn payload(&self) -> String {
        let digits = const_hex::encode(self.token.0);
        format!(r#"{{"token":"{digits}"}}"#)
    }
}

/// Why a payload could not be parsed. It never quotes the payload, which can be from anyone.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{problem} at character {column} of {length}")]
pub struct Malformed {
    /// The kind of problem.
    problem: &'static str,
    /// Its position, counted from 1.
    column: usize,
    /// The payload's length in bytes.
    length: usize,
}

/// Parses a payload of any channel.
///
/// # Errors
///
/// [`Malformed`].
pub fn parse<'a, T: Deserialize<'a>>(payload: &'a str) -> Result<T, Malformed> {
    use serde_json::error::Category;
    serde_json::from_str(payload).map_err(|error| Malformed {
        problem: match error.classify() {
            Category::Data => "a missing field or one of a wrong type",
            Category::Eof => "an unexpected end",
            Category::Syntax | Category::Io => "a syntax error",
        },
        column: error.column(),
        length: payload.len(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads_of_the_triggers_are_parsed() {
        assert_eq!(
            parse(r#"{"incident_id":42}"#),
            Ok(SeverityChange {
                incident_id: IncidentId(42)
            })
        );
        assert_eq!(
            parse(r#"{"contact_id":7}"#),
            Ok(SessionChange::ContactId(ContactId(7)))
        );
        let text =
            r#"{"browser":"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"}"#;
        assert_eq!(
            parse(text),
            Ok(SessionChange::Browser(BrowserKey::new("abc")))
        );
    }

    #[test]
    fn the_payload_of_a_token_is_read_back() {
        let marked = TokenPayload {
            token: Token([0xf0, 0x0f, 0x12, 0xff].repeat(8).try_into().unwrap()),
        };
        let text = marked.payload();
        assert_eq!(parse::<TokenPayload>(&text), Ok(marked));
        let token = &text[10..74];
        assert!(text.contains(&format!("\"{token}\"")), "{text}");
        for wrong in [
            &token[1..],
            "",
            "+f",
            &format!("{token}00"),
            &token.replacen('f', "g", 1),
        ] {
            let error = parse::<TokenPayload>(&text.replace(token, wrong))
                .unwrap_err()
                .to_string();
            assert!(wrong.is_empty() || !error.contains(wrong), "{error}");
        }
    }

    #[test]
    fn other_payloads_are_rejected_without_being_quoted() {
        let long = format!(r#"{{"incident_id":{}}}"#, "9".repeat(7000));
        for text in [
            "",
            "hunter2",
            "{",
            "[]",
            "null",
            r#"{"browser":"hunter2"}"#,
            r#"{"browser":7}"#,
            r#"{"browser":"ba7816bf"}"#,
            r#"{"incident_id":"hunter2"}"#,
            r#"{"contact_id":"hunter2"}"#,
            r#"{"hunter2":1}"#,
            &long,
        ] {
            let errors = [
                parse::<SeverityChange>(text).map(drop),
                parse::<SessionChange>(text).map(drop),
            ];
            for error in errors {
                let error = error.unwrap_err().to_string();
                assert!(!error.contains("hunter2"), "{error}");
            }
        }
    }
}

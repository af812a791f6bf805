//! What the triggers send: payloads of the NOTIFY channels, parsed and checked.
//!
//! Any role that may connect to the database can send anything on a channel. Nothing in a payload is
//! therefore trusted further than to say where to look; the resolver reads the rows themselves.

use std::borrow::Cow;

use super::ids::{ContactId, HistoryId, IncidentId};
use serde::Deserialize;

/// The channel that announces notified contacts and changed incidents.
pub const INCIDENT_CHANNEL: &str = "icinga_desktop_incident";

/// The channel that announces contacts whose sign-ins may have changed.
pub const SESSION_CHANNEL: &str = "icinga_desktop_session";

/// The channel over which a daemon finds out that it hears.
pub const PULSE_CHANNEL: &str = "icinga_desktop_pulse";

/// The channel over which commands ask the bridges of a database; see [`crate::ask`].
pub const ASK_CHANNEL: &str = "icinga_desktop_ask";

/// An incident's severity: the words of the database's enum, in its order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, strum::IntoStaticStr)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
#[allow(missing_docs, reason = "the words are Icinga's")]
pub enum Severity {
    Ok,
    Debug,
    Info,
    Notice,
    Warning,
    Err,
    Crit,
    Alert,
    Emerg,
}

impl Severity {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// A payload of [`INCIDENT_CHANNEL`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notification {
    /// The transaction that wrote it; all payloads of one arrive together.
    pub tx: u64,
    /// The incident.
    pub incident_id: IncidentId,
    /// Which of the triggers sent it.
    pub kind: Kind,
}

/// Which trigger sent a [`Notification`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A `notified` history row was written (rule A of the design).
    Notified {
        /// The row.
        history_id: HistoryId,
        /// Whom Icinga notifies.
        contact_id: ContactId,
        /// Whether the row's state was `pending` or `sent`. Other rows announce nothing, but say
        /// that Icinga has decided whom to notify.
        announced: bool,
    },
    /// The incident's severity was written (rule B of the design).
    Changed {
        /// The new one.
        severity: Severity,
    },
}

/// A payload of [`SESSION_CHANNEL`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct SessionChange {
    /// Whose sign-ins may have changed.
    pub contact_id: ContactId,
}

/// A random number: a mark that nobody can guess.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct Token(#[serde(with = "const_hex")] pub [u8; 32]);

/// A payload of [`PULSE_CHANNEL`] or [`ASK_CHANNEL`]. It holds nothing else, because everybody can send and hear it: what a
/// beat stands for stays with its sender, and a question stands in the database, where only those may write who may ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct Marked {
    /// The mark, in hexadecimal.
    pub token: Token,
}

impl Marked {
    /// The payload.
    pub fn payload(&self) -> String {
        let digits = const_hex::encode(self.token.0);
        format!(r#"{{"token":"{digits}"}}"#)
    }
}

/// Transactions travel as text: JSON's numbers would lose the upper ones.
fn number<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let text = Cow::<'de, str>::deserialize(deserializer)?;
    text.parse()
        .map_err(|_| serde::de::Error::custom("not a number"))
}

/// Why a payload was not understood. It never quotes the payload, which may be anybody's.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Malformed {
    /// Not the JSON object that is expected.
    #[error("{problem} at character {column} of {length}")]
    Json {
        /// The kind of problem.
        problem: &'static str,
        /// Where it is, counted from 1.
        column: usize,
        /// The payload's length in bytes.
        length: usize,
    },
    /// Well-formed, but neither a history row's nor an incident's.
    #[error("neither that of a history row nor that of an incident")]
    Fields,
}

#[derive(Deserialize)]
struct Payload<'a> {
    #[serde(deserialize_with = "number")]
    tx: u64,
    incident_id: IncidentId,
    history_id: Option<HistoryId>,
    contact_id: Option<ContactId>,
    #[serde(borrow)]
    state: Option<Cow<'a, str>>,
    severity: Option<Severity>,
}

/// Parses a payload of any channel.
///
/// # Errors
///
/// [`Malformed::Json`].
pub fn parse<'a, T: Deserialize<'a>>(payload: &'a str) -> Result<T, Malformed> {
    use serde_json::error::Category;
    serde_json::from_str(payload).map_err(|error| Malformed::Json {
        problem: match error.classify() {
            Category::Data => "a missing field or one of a wrong type",
            Category::Eof => "an unexpected end",
            Category::Syntax | Category::Io => "a syntax error",
        },
        column: error.column(),
        length: payload.len(),
    })
}

impl Notification {
    /// Parses a payload of [`INCIDENT_CHANNEL`].
    ///
    /// # Errors
    ///
    /// [`Malformed`], for everything that the triggers do not send.
    pub fn parse(payload: &str) -> Result<Self, Malformed> {
        let parsed: Payload<'_> = parse(payload)?;
        let kind = match (parsed.history_id, parsed.contact_id, parsed.severity) {
            (Some(history_id), Some(contact_id), None) => Kind::Notified {
                history_id,
                contact_id,
                announced: matches!(parsed.state.as_deref(), Some("pending" | "sent")),
            },
            (None, None, Some(severity)) => Kind::Changed { severity },
            _ => return Err(Malformed::Fields),
        };
        Ok(Self {
            tx: parsed.tx,
            incident_id: parsed.incident_id,
            kind,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_history_rows_payload() {
        let text =
            r#"{"tx":"7483","history_id":1234,"incident_id":42,"contact_id":7,"state":"pending"}"#;
        let expected = |announced| Notification {
            tx: 7483,
            incident_id: IncidentId(42),
            kind: Kind::Notified {
                history_id: HistoryId(1234),
                contact_id: ContactId(7),
                announced,
            },
        };
        assert_eq!(Notification::parse(text), Ok(expected(true)));
        for (state, announced) in [
            ("\"sent\"", true),
            ("\"suppressed\"", false),
            ("\"failed\"", false),
            ("null", false),
        ] {
            let text = text.replace("\"pending\"", state);
            assert_eq!(
                Notification::parse(&text),
                Ok(expected(announced)),
                "{state}"
            );
        }
    }

    #[test]
    fn an_incidents_payload() {
        for severity in [
            "ok", "debug", "info", "notice", "warning", "err", "crit", "alert", "emerg",
        ] {
            let text = format!(r#"{{"tx":"1","incident_id":42,"severity":"{severity}"}}"#);
            match Notification::parse(&text).unwrap().kind {
                Kind::Changed { severity: parsed } => assert_eq!(parsed.as_str(), severity),
                Kind::Notified { .. } => panic!("{text}"),
            }
        }
    }

    #[test]
    fn a_marks_payload() {
        let marked = Marked {
            token: Token([0xf0, 0x0f, 0x12, 0xff].repeat(8).try_into().unwrap()),
        };
        let text = marked.payload();
        assert_eq!(parse::<Marked>(&text), Ok(marked));
        let token = &text[10..74];
        assert!(text.contains(&format!("\"{token}\"")), "{text}");
        for wrong in [
            &token[1..],
            "",
            "+f",
            &format!("{token}00"),
            &token.replacen('f', "g", 1),
        ] {
            let error = parse::<Marked>(&text.replace(token, wrong))
                .unwrap_err()
                .to_string();
            assert!(wrong.is_empty() || !error.contains(wrong), "{error}");
        }
    }

    #[test]
    fn anything_else_is_refused_without_being_quoted() {
        let long = format!(r#"{{"tx":"1","incident_id":{}}}"#, "9".repeat(7000));
        for text in [
            "",
            "hunter2",
            "{",
            "[]",
            "null",
            "{\"tx\":\"hunter2\",\"incident_id\":1,\"severity\":\"ok\"}",
            r#"{"tx":"1","incident_id":"hunter2","severity":"ok"}"#,
            r#"{"tx":"1","incident_id":1,"severity":"hunter2"}"#,
            r#"{"tx":"1","incident_id":1}"#,
            r#"{"tx":"1","incident_id":1,"contact_id":1,"state":"sent"}"#,
            r#"{"tx":"1","incident_id":1,"contact_id":1,"history_id":1,"severity":"ok"}"#,
            r#"{"tx":1,"incident_id":1,"severity":"ok"}"#,
            &long,
        ] {
            let error = Notification::parse(text).unwrap_err().to_string();
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}

//! The findings, as lines and as JSON.

use std::io::{self, Write};

use jiff::Timestamp;
use serde::Serialize;

use super::browsers::{Bridges, RefusedBrowser, SignedInBrowser, Streams};
use super::notifications::Notification;
use crate::model::ids::ContactId;

/// The status of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Status {
    /// The condition is met.
    Ok,
    /// No problem, but a possible reason for a missing popup.
    Note,
    /// A problem; the line says what to do.
    Fail,
}

/// A line.
#[derive(Debug, Serialize)]
struct Line {
    status: Status,
    about: &'static str,
    text: String,
}

/// The contact.
#[derive(Debug, Serialize)]
pub(super) struct Contact {
    pub(super) id: ContactId,
    pub(super) username: String,
}

/// The bridges that were asked.
#[derive(Debug, Default, Serialize)]
struct Asked {
    /// How many bridges listen on the database.
    listening: usize,
    /// The names of those that answered.
    answered: Vec<String>,
}

/// All findings. Its keys are documented in `doc/troubleshoot.md`.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    user: String,
    pub(super) ok: bool,
    lines: Vec<Line>,
    pub(super) contact: Option<Contact>,
    bridges: Asked,
    pub(super) browsers: Vec<SignedInBrowser>,
    pub(super) streams: Vec<Streams>,
    pub(super) refusals: Vec<RefusedBrowser>,
    pub(super) notifications: Vec<Notification>,
}

impl Report {
    pub(super) fn new(user: &str) -> Self {
        Self {
            user: user.to_owned(),
            ok: true,
            lines: Vec::new(),
            contact: None,
            bridges: Asked::default(),
            browsers: Vec::new(),
            streams: Vec::new(),
            refusals: Vec::new(),
            notifications: Vec::new(),
        }
    }

    /// Adds a line.
    pub(super) fn add(&mut self, status: Status, about: &'static str, text: impl Into<String>) {
        self.ok &= status != Status::Fail;
        self.lines.push(Line {
            status,
            about,
            text: text.into(),
        });
    }

    pub(super) fn ok(&mut self, about: &'static str, text: impl Into<String>) {
        self.add(Status::Ok, about, text);
    }

    pub(super) fn note(&mut self, about: &'static str, text: impl Into<String>) {
        self.add(Status::Note, about, text);
    }

    pub(super) fn fail(&mut self, about: &'static str, text: impl Into<String>) {
        self.add(Status::Fail, about, text);
    }

    /// Records which bridges were asked and which answered.
    pub(super) fn bridges(&mut self, listening: usize, bridges: &Bridges) {
        self.bridges = Asked {
            listening,
            answered: bridges.names(),
        };
    }

    pub(super) fn write_lines(&self, out: &mut impl Write) -> io::Result<()> {
        for Line {
            status,
            about,
            text,
        } in &self.lines
        {
            let status = match status {
                Status::Ok => "ok   ",
                Status::Note => "note ",
                Status::Fail => "FAIL ",
            };
            writeln!(out, "{status} {about}: {text}")?;
        }
        Ok(())
    }

    pub(super) fn write_json(&self, out: &mut impl Write) -> io::Result<()> {
        for character in serde_json::to_string(self)?.chars() {
            // JSON allows some control characters in strings, which a terminal may interpret.
            if character.is_control() {
                write!(out, "\\u{:04x}", u32::from(character))?;
            } else {
                write!(out, "{character}")?;
            }
        }
        writeln!(out)
    }
}

/// Formats a time in seconds since the Unix epoch.
pub(super) fn time(seconds: impl Into<i64>) -> String {
    let time = Timestamp::from_second(seconds.into());
    time.map_or_else(|_| "an impossible time".to_owned(), |time| time.to_string())
}

/// Formats a duration, roughly.
pub(super) fn span(seconds: i64) -> String {
    let (count, unit) = match seconds.max(0) {
        seconds @ ..120 => (seconds, "second"),
        seconds @ ..7200 => (seconds / 60, "minute"),
        seconds @ ..172_800 => (seconds / 3600, "hour"),
        seconds => (seconds / 86_400, "day"),
    };
    let s = if count == 1 { "" } else { "s" };
    format!("{count} {unit}{s}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_durations_are_readable() {
        assert_eq!(time(1_795_428_930_u32), "2026-11-23T10:15:30Z");
        assert_eq!(time(i64::MAX), "an impossible time");
        for (seconds, said) in [
            (-5, "0 seconds"),
            (1, "1 second"),
            (119, "119 seconds"),
            (150, "2 minutes"),
            (7200, "2 hours"),
            (200_000, "2 days"),
        ] {
            assert_eq!(span(seconds), said);
        }
    }
}

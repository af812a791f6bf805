//! `explain`: reports why a user does or does not get popups. One line per condition, in the order that an event meets them: the
//! contact, the bridges, the browsers and their streams, refused requests, and the outcome of the last notifications.
//!
//! Answers of bridges are parsed strictly and only printed; they contain no notification text.

mod browsers;
mod contact;
mod notifications;
mod report;

use std::io::{self, Write};

use self::browsers::Bridges;
use self::report::Report;
use super::{NO_BRIDGE, Problem};
use crate::ask::{self, Answers, Question, TIMEOUT};
use crate::config::Config;
use crate::database::{Connector, ContactRow, Session};

/// Writes the report to `out`, as a JSON document if `json` is set. Returns whether no problem was found.
///
/// # Errors
///
/// If `out` cannot be written to.
pub async fn run(
    config: &Config,
    user: &str,
    json: bool,
    out: &mut impl Write,
) -> io::Result<bool> {
    let mut report = Report::new(user);
    if let Err(problem) = explain(config, user, &mut report).await {
        report.fail("database", problem.to_string());
    }
    if json {
        report.write_json(out)?;
    } else {
        report.write_lines(out)?;
    }
    Ok(report.ok)
}

async fn explain(config: &Config, user: &str, report: &mut Report) -> Result<(), Problem> {
    let connector = Connector::new(&config.database)?;
    let (session, _closed) = Session::open(&connector, "explain", None).await?;
    let Some(contact) = contact::find(&session, user, report).await? else {
        return Ok(());
    };
    let bridges = bridges(&session, &contact, report).await;
    let signed_in = session
        .sessions(&contact.username, browsers::SESSIONS)
        .await?;
    let session_days = config.daemon.tuning.session_days;
    browsers::signed_in(&signed_in, session_days, report);
    browsers::streams(&signed_in, &bridges, report);
    browsers::refusals(&signed_in, &bridges, report);
    let kinds = config.daemon.tuning.notify;
    notifications::explain(&session, &contact, kinds, &signed_in, &bridges, report).await?;
    report.note(
        "permissions",
        "cannot be checked from here. Desktop notifications must be enabled in the user's preferences in Icinga Web; the browser \
         must allow the site to show notifications (the icon to the left of the address, only over https); and the operating system \
         must allow the browser to, without a mode like Do Not Disturb. Run icinga-desktop-bridge send-test to see whether a popup \
         appears",
    );
    Ok(())
}

/// What the bridges of the database know about the contact.
async fn bridges(session: &Session, contact: &ContactRow, report: &mut Report) -> Bridges {
    let question = Question::Explain {
        contact_id: contact.id,
    };
    let Answers { listening, answers } = match ask::ask(session, question).await {
        Ok(answers) => answers,
        Err(error) => {
            report.fail("bridges", error.to_string());
            return Bridges::default();
        }
    };
    let mut bridges = Bridges::default();
    for answer in &answers {
        match answer.explanation() {
            Some(explanation) => bridges.add(answer.bridge, explanation),
            None => report.fail(
                "bridges",
                format!(
                    "bridge {:016x} did not answer this question because it has another version; upgrade it, and restart it",
                    answer.bridge
                ),
            ),
        }
    }
    let silent = listening.saturating_sub(answers.len());
    if listening == 0 {
        report.fail("bridges", NO_BRIDGE);
    } else if silent > 0 {
        report.fail(
            "bridges",
            format!(
                "{silent} of {listening} bridges did not answer within {TIMEOUT:?}, their logs say why; the following is from the \
                 others"
            ),
        );
    } else if bridges.len() == answers.len() {
        let all = answers.len();
        report.ok("bridges", format!("{all} of {all} answered"));
    }
    report.bridges(listening, &bridges);
    bridges
}

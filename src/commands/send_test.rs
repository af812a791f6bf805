//! `send-test`: sends a test notification to a user's open browsers, and reports which of them received it. One line each, as in
//! `check`.

use std::io::{self, Write};

use super::{NO_BRIDGE, Problem};
use crate::ask::{self, Answers, Question, TIMEOUT};
use crate::config::Config;
use crate::database::{Connector, Session};

/// Writes the results to `out`. Returns whether any browser received it.
///
/// # Errors
///
/// If `out` cannot be written to.
pub async fn run(config: &Config, user: &str, out: &mut impl Write) -> io::Result<bool> {
    let answers = match send(config, user).await {
        Ok(answers) => answers,
        Err(problem) => {
            writeln!(out, "FAIL  {problem}")?;
            return Ok(false);
        }
    };
    for answer in &answers.answers {
        writeln!(
            out,
            "ok    bridge {:016x}: {} of {} open browsers received it",
            answer.bridge, answer.delivered, answer.browsers
        )?;
    }
    match verdict(&answers, user) {
        Ok(result) => writeln!(out, "ok    {result}")?,
        Err(problem) => {
            writeln!(out, "FAIL  {problem}")?;
            return Ok(false);
        }
    }
    Ok(true)
}

async fn send(config: &Config, user: &str) -> Result<Answers, Problem> {
    let connector = Connector::new(&config.database)?;
    let (session, _closed) = Session::open(&connector, "send-test", None).await?;
    let Some(contact_id) = session.contact(user).await? else {
        return Err(format!(
            "no contact of Icinga Notifications has the user name \"{}\", or it was deleted; see Contacts in Icinga Web, \
             field Icinga Web User",
            user.escape_debug()
        )
        .into());
    };
    Ok(ask::ask(&session, Question::Test { contact_id }).await?)
}

/// The summary, or the problem if no browser received it.
fn verdict(answers: &Answers, user: &str) -> Result<String, Problem> {
    let user = user.escape_debug();
    let Answers { listening, answers } = answers;
    let browsers: usize = answers.iter().map(|answer| answer.browsers).sum();
    let delivered: usize = answers.iter().map(|answer| answer.delivered).sum();
    if *listening == 0 {
        return Err(NO_BRIDGE.into());
    }
    let silent = match listening.saturating_sub(answers.len()) {
        0 => String::new(),
        silent => format!(
            "{silent} of {listening} bridges did not answer within {TIMEOUT:?}; their logs say why. "
        ),
    };
    if delivered > 0 {
        let streams = if delivered == 1 { "stream" } else { "streams" };
        let rest = match browsers.saturating_sub(delivered) {
            0 => "",
            _ => "; those of the other browsers ended or read nothing",
        };
        return Ok(format!(
            "{silent}{delivered} {streams} received the test notification, one for each open browser of \"{user}\"{rest}"
        ));
    }
    let problem = if answers.is_empty() {
        format!("{silent}No browser received the test notification")
    } else if browsers == 0 {
        format!(
            "{silent}\"{user}\" has no open browser with a stream: open Icinga Web and enable desktop notifications; \
             if it is open, the log with --verbose says why it was refused"
        )
    } else {
        format!(
            "{silent}\"{user}\" has open browsers, but their streams ended or read nothing: try again, and if that does not help, \
             check the reverse proxy"
        )
    };
    Err(problem.into())
}

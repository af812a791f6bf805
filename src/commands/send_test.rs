//! `send-test`: shows a user's open browsers a test notification, and says who got it. A line each, as `check`
//! writes them.

use std::io::{self, Write};

use super::{NO_BRIDGE, Problem};
use crate::ask::{self, Answers, Question, TIMEOUT};
use crate::config::Config;
use crate::database::{Connector, Session};

/// Writes who got it to `out`. Returns whether anybody did.
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
            "ok    bridge {:016x}: {} of {} open browsers got it",
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
             where the field is called Icinga Web User",
            user.escape_debug()
        )
        .into());
    };
    Ok(ask::ask(&session, Question::Test { contact_id }).await?)
}

/// The sum, or why it is nothing and what to do.
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
            _ => "; those of the other browsers ended or take nothing",
        };
        return Ok(format!(
            "{silent}{delivered} {streams} got the test notification, one for each open browser of \"{user}\"{rest}"
        ));
    }
    let problem = if answers.is_empty() {
        format!("{silent}Nobody got the test notification")
    } else if browsers == 0 {
        format!(
            "{silent}\"{user}\" has no open browser with a stream: open Icinga Web and switch desktop notifications on; \
             if it is open, the log says with --verbose why it was refused"
        )
    } else {
        format!(
            "{silent}\"{user}\" has open browsers, but their streams ended or take nothing: try again, and look at the \
             reverse proxy if it stays so"
        )
    };
    Err(problem.into())
}

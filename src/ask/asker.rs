//! The command's side of a question: asks every bridge of the database and waits for the answers.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::question::{Answer, Question, decode};
use crate::database::installation::GRANT;
use crate::database::{QueryError, Session};
use crate::model::notification::Token;

/// How long the command waits for bridges. It stops as soon as all have answered.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(10);

/// Time between two queries for answers.
const POLL: Duration = Duration::from_millis(50);

/// The answers to a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answers {
    /// How many bridges listen on the database.
    pub(crate) listening: usize,
    /// The answers received within [`TIMEOUT`].
    pub(crate) answers: Vec<Answer>,
}

impl Answers {
    /// How many browsers are connected to more than one bridge. Complete unless a bridge has more than a thousand browsers.
    pub(crate) fn shared(&self) -> usize {
        let (mut once, mut twice) = (BTreeSet::new(), BTreeSet::new());
        for answer in &self.answers {
            for browser in &answer.numbers {
                if !once.insert(browser) {
                    twice.insert(browser);
                }
            }
        }
        twice.len()
    }

    /// When a look of any bridge last found rows without a bell, in milliseconds since the Unix epoch.
    pub(crate) fn without_bell_at_ms(&self) -> Option<i64> {
        let answers = self.answers.iter();
        answers.filter_map(|answer| answer.without_bell_at_ms).max()
    }
}

/// Why a question could not be asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AskError {
    /// The role may not write to the table of questions.
    #[error(
        "no right to write icinga_desktop.browser_position, through which bridges are asked; run: {GRANT}"
    )]
    NoRight,
    /// The server did not answer.
    #[error("cannot ask the bridges: {0}")]
    Query(#[from] QueryError),
}

/// Asks every bridge of the database and waits for the answers.
///
/// # Errors
///
/// [`AskError`]. If no bridge answers, that is not an error.
pub(crate) async fn ask(session: &Session, question: Question) -> Result<Answers, AskError> {
    if !session.stores_positions() {
        return Err(AskError::NoRight);
    }
    let listening = usize::try_from(session.listening().await?).unwrap_or_default();
    if listening == 0 {
        return Ok(Answers {
            listening,
            answers: Vec::new(),
        });
    }
    let token = Token(rand::random());
    session.ask(&token, &question.encode()).await?;
    let answers = collect(session, &token, listening).await;
    session.forget_question(&token).await?;
    Ok(Answers {
        listening,
        answers: answers?,
    })
}

async fn collect(
    session: &Session,
    token: &Token,
    listening: usize,
) -> Result<Vec<Answer>, QueryError> {
    let deadline = Instant::now() + TIMEOUT;
    loop {
        let stored = session.asked(token).await?;
        let answers = stored
            .as_deref()
            .and_then(decode)
            .map(|(_, answers)| answers);
        let answers = answers.unwrap_or_default();
        if answers.len() >= listening || Instant::now() >= deadline {
            return Ok(answers);
        }
        sleep(POLL).await;
    }
}

#[cfg(test)]
mod tests {
    use super::super::question::tests::answer;
    use super::*;

    #[test]
    fn a_browser_with_several_bridges_is_counted_once() {
        let all = |samples: &[&[i64]]| Answers {
            listening: samples.len(),
            answers: samples.iter().map(|sample| answer(1, sample)).collect(),
        };
        assert_eq!(all(&[]).shared(), 0);
        assert_eq!(all(&[&[1, 2]]).shared(), 0);
        assert_eq!(all(&[&[1, 2], &[3]]).shared(), 0);
        assert_eq!(all(&[&[1, 2], &[2, 3], &[2, 1]]).shared(), 2);
    }
}

//! The command's side of a question: asks every bridge of the database and waits for the answers.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::question::{Answer, Question, decode};
use crate::database::installation::GRANT;
use crate::database::{QueryError, Session};
use crate::model::notification::Token;

/// How long the command waits for bridges. It waits no longer than they take, unless one of them hangs.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(10);

/// Time between two looks for answers.
const POLL: Duration = Duration::from_millis(50);

/// What came back to a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answers {
    /// How many bridges listen on the database.
    pub(crate) listening: usize,
    /// What those answered that did, within [`TIMEOUT`].
    pub(crate) answers: Vec<Answer>,
}

impl Answers {
    /// How many browsers were found with more than one bridge; all that there are, unless more than a thousand are
    /// with a bridge.
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

    /// When a look of any bridge last found rows for which no bell had rung, in milliseconds since the epoch of Unix.
    pub(crate) fn without_bell_at_ms(&self) -> Option<i64> {
        let answers = self.answers.iter();
        answers.filter_map(|answer| answer.without_bell_at_ms).max()
    }
}

/// Why a question could not be put.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AskError {
    /// The role may not write where questions are stored.
    #[error(
        "no right to write icinga_desktop.browser_position, over which bridges are asked; run: {GRANT}"
    )]
    NoRight,
    /// The server did not answer.
    #[error("the bridges could not be asked: {0}")]
    Query(#[from] QueryError),
}

/// The command's side: asks every bridge of the database and waits for the answers.
///
/// # Errors
///
/// [`AskError`]; that no bridge answers is none.
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

//! Questions that commands put to every bridge of a database, and the answers.
//!
//! A question is a row of `icinga_desktop.browser_position`, under a random key that no browser has; NOTIFY only tells
//! the bridges that key. They append their answers to the row, and whoever asked removes it (if that fails,
//! housekeeping does). So only a role that may write what bridges write can ask or answer, although any role
//! may NOTIFY, and nothing but a random number is heard by others. A row with the floor -1 is a question:
//! positions begin at 0.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::future;
use log::{debug, info, warn};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

use crate::database::describe;
use crate::database::installation::GRANT;
use crate::database::{Queries, Session};
use crate::hub::Hub;
use crate::model::event::{Content, Event};
use crate::model::notification::Token;
use crate::observe::Throttle;

/// How many questions may wait; people ask them by hand.
pub const QUEUE: usize = 16;

/// How long a bridge waits until a test event counts as delivered. It takes a quarter of a second, unless the
/// client is slow.
const DELIVERY: Duration = Duration::from_secs(5);

/// How long the command waits for bridges. It waits no longer than they take, unless one of them hangs.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// Time between two looks for answers.
const POLL: Duration = Duration::from_millis(50);

/// Pause after a NOTIFY without a question behind it: whoever floods the channel causes ten look-ups of a key a
/// second, and no more.
const PAUSE: Duration = Duration::from_millis(100);

/// How many browsers an answer names. All bridges name those with the lowest numbers, so that a browser that several of
/// them have is found in several answers, or only others are.
const SAMPLE: usize = 1000;

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Question {
    /// Show the contact's browsers a test notification: who gets it?
    Test {
        /// The contact.
        contact_id: i64,
    },
    /// Which browsers are with you?
    RollCall,
}

impl Question {
    fn encode(self) -> [i64; 1] {
        match self {
            Self::Test { contact_id } => [contact_id],
            // No contact has that id.
            Self::RollCall => [0],
        }
    }
}

/// What a bridge answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// A random number that the bridge goes by while it runs.
    pub bridge: i64,
    /// Browsers with open streams: the contact's, or all.
    pub browsers: usize,
    /// How many of them got the test notification.
    pub delivered: usize,
    /// Numbers that stand for browsers; none for a test.
    pub sample: Vec<i64>,
}

impl Answer {
    fn encode(&self) -> Vec<i64> {
        let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        let head = [
            self.bridge,
            number(self.browsers),
            number(self.delivered),
            number(self.sample.len()),
        ];
        head.into_iter()
            .chain(self.sample.iter().copied())
            .collect()
    }

    fn decode(values: &[i64]) -> Option<(Self, &[i64])> {
        let ([bridge, browsers, delivered, length], rest) = values.split_first_chunk()?;
        let (sample, rest) = rest.split_at_checked(usize::try_from(*length).ok()?)?;
        let answer = Self {
            bridge: *bridge,
            browsers: usize::try_from(*browsers).ok()?,
            delivered: usize::try_from(*delivered).ok()?,
            sample: sample.to_vec(),
        };
        Some((answer, rest))
    }
}

/// A stored question with its answers; `None` if no bridge or command of ours wrote that.
fn decode(values: &[i64]) -> Option<(Question, Vec<Answer>)> {
    let (first, mut rest) = values.split_first()?;
    let question = match *first {
        0 => Question::RollCall,
        contact_id => Question::Test { contact_id },
    };
    let mut answers = Vec::new();
    while !rest.is_empty() {
        let answer;
        (answer, rest) = Answer::decode(rest)?;
        answers.push(answer);
    }
    Some((question, answers))
}

/// The event that a test shows. It is no incident's: id 0 is none, and no history row stands for it.
fn test_event() -> Event {
    Event::render(Content {
        history_ids: Vec::new(),
        time_ms: jiff::Timestamp::now().as_millisecond(),
        incident_id: 0,
        severity: "ok",
        title: "Test notification from icinga-desktop-bridge",
        message: Some("Desktop notifications of Icinga Notifications reach this browser."),
    })
}

/// The bridge's side: the task that answers.
#[derive(Debug)]
pub struct Answerer {
    questions: mpsc::Receiver<Token>,
    queries: Queries,
    hub: Hub,
    bridge: i64,
    unfounded: Throttle,
}

impl Answerer {
    /// Answers `questions` about the browsers of `hub`.
    pub fn new(questions: mpsc::Receiver<Token>, queries: Queries, hub: Hub) -> Self {
        Self {
            questions,
            queries,
            hub,
            bridge: rand::random(),
            unfounded: Throttle::default(),
        }
    }

    /// Runs until the listener is gone for good.
    pub async fn run(mut self) {
        while let Some(token) = self.questions.recv().await {
            // Without the right to it, there is no question to be read. Without a session, nobody waits for
            // an answer when there is one.
            let Some(session) = self.queries.current().filter(|s| s.stores_positions) else {
                continue;
            };
            match session.asked(&token).await {
                Ok(stored) => match stored.as_deref().and_then(decode) {
                    // Heard twice, a question is still answered once.
                    Some((question, answers))
                        if answers.iter().all(|a| a.bridge != self.bridge) =>
                    {
                        self.answer(&session, &token, question).await;
                    }
                    _ => self.ignore().await,
                },
                Err(error) => debug!("a question could not be read: {}", describe(&error)),
            }
        }
    }

    async fn answer(&self, session: &Session, token: &Token, question: Question) {
        let answer = match question {
            Question::Test { contact_id } => self.test(contact_id).await,
            Question::RollCall => self.roll_call(),
        };
        if let Err(error) = session.answer(token, &answer.encode()).await {
            warn!("a question could not be answered: {}", describe(&error));
        }
    }

    async fn test(&self, contact_id: i64) -> Answer {
        let tests = self.hub.test(contact_id, &Arc::new(test_event()));
        let browsers = tests.len();
        let outcomes =
            future::join_all(tests.into_iter().map(|test| timeout(DELIVERY, test))).await;
        let delivered = outcomes.iter().filter(|o| matches!(o, Ok(Ok(())))).count();
        info!(
            "test notification for contact {contact_id}: {delivered} of {browsers} browsers got it"
        );
        Answer {
            bridge: self.bridge,
            browsers,
            delivered,
            sample: Vec::new(),
        }
    }

    fn roll_call(&self) -> Answer {
        let browsers = self.hub.all_browsers();
        let mut sample: Vec<i64> = browsers.iter().map(|browser| browser.number()).collect();
        sample.sort_unstable();
        sample.truncate(SAMPLE);
        Answer {
            bridge: self.bridge,
            browsers: browsers.len(),
            delivered: 0,
            sample,
        }
    }

    async fn ignore(&mut self) {
        if let Some(more) = self.unfounded.take() {
            warn!(
                "a notification on channel {} was ignored: there is no question behind it, or it was answered{more}; \
                 somebody else sends on this channel",
                crate::model::notification::ASK_CHANNEL
            );
        }
        sleep(PAUSE).await;
    }
}

/// What came back to a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answers {
    /// How many bridges listen on the database.
    pub listening: usize,
    /// What those answered that did, within [`PATIENCE`].
    pub answers: Vec<Answer>,
}

impl Answers {
    /// How many browsers were found with more than one bridge; all that there are, unless more than a thousand are
    /// with a bridge.
    pub fn shared(&self) -> usize {
        let (mut once, mut twice) = (BTreeSet::new(), BTreeSet::new());
        for answer in &self.answers {
            for browser in &answer.sample {
                if !once.insert(browser) {
                    twice.insert(browser);
                }
            }
        }
        twice.len()
    }
}

/// Why a question could not be put.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The role may not write where questions are stored.
    #[error(
        "no right to write icinga_desktop.browser_position, over which bridges are asked; run: {GRANT}"
    )]
    NoRight,
    /// The server did not answer.
    #[error("the bridges could not be asked: {}", describe(.0))]
    Query(#[from] tokio_postgres::Error),
}

/// The command's side: asks every bridge of the database and waits for the answers.
///
/// # Errors
///
/// [`Error`]; that no bridge answers is none.
pub async fn ask(session: &Session, question: Question) -> Result<Answers, Error> {
    if !session.stores_positions {
        return Err(Error::NoRight);
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
) -> Result<Vec<Answer>, tokio_postgres::Error> {
    let deadline = Instant::now() + PATIENCE;
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
    use super::*;

    fn answer(bridge: i64, sample: &[i64]) -> Answer {
        Answer {
            bridge,
            browsers: 3,
            delivered: 2,
            sample: sample.to_vec(),
        }
    }

    #[test]
    fn answers_are_read_back_as_they_were_appended() {
        let answers = vec![
            answer(-5, &[]),
            answer(i64::MAX, &[1, -2, 3]),
            answer(0, &[9]),
        ];
        for question in [Question::RollCall, Question::Test { contact_id: 7 }] {
            let mut stored = question.encode().to_vec();
            for answer in &answers {
                stored.extend(answer.encode());
            }
            assert_eq!(decode(&stored), Some((question, answers.clone())));
            // Cut anywhere but between answers, it is not taken for what it is not.
            for length in 1..stored.len() {
                let whole = [1, 5, 12].contains(&length);
                assert_eq!(decode(&stored[..length]).is_some(), whole, "{length}");
            }
        }
        for wrong in [
            &[][..],
            &[0, 1, -1, 0, 0],
            &[0, 1, 1, 1, i64::MAX],
            &[0, 1, 1, 1, -1],
        ] {
            assert_eq!(decode(wrong), None, "{wrong:?}");
        }
    }

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

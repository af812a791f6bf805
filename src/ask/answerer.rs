//! The bridge's side of a question: the task that answers.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures::future;
use log::{debug, info, warn};
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};

use super::question::{Answer, Question, decode, pack};
use crate::database::{Queries, Session};
use crate::hub::{Hub, KnownBrowser};
use crate::model::event::{Content, Event, Rendered};
use crate::model::explanation::{BrowserState, Explanation};
use crate::model::ids::{ContactId, IncidentId};
use crate::model::notification::{ASK_CHANNEL, Token};
use crate::observe::{Health, Throttle};

/// How many questions may wait; people ask them by hand.
pub(crate) const QUEUE: usize = 16;

/// How long a bridge waits until a test event counts as delivered. It takes half a second, until the
/// browser is back, unless its stream is dead or the client slow.
const DELIVERY: Duration = Duration::from_secs(5);

/// Pause after a NOTIFY without a question behind it: whoever floods the channel causes ten look-ups of a key a
/// second, and no more.
const PAUSE: Duration = Duration::from_millis(100);

/// How many browsers an answer names. All bridges name those with the lowest numbers, so that a browser that several of
/// them have is found in several answers, or only others are.
const SAMPLE: usize = 1000;

/// How many browsers of a contact are explained, those that are here first.
const BROWSERS: usize = 32;

/// How long a browser's task may take to say how its streams are: it never waits for anything.
const TASK: Duration = Duration::from_secs(1);

/// The bridge's side: the task that answers.
#[derive(Debug)]
pub(crate) struct Answerer {
    questions: mpsc::Receiver<Token>,
    queries: Queries,
    hub: Hub,
    health: watch::Receiver<Health>,
    bridge: i64,
    unfounded: Throttle,
}

impl Answerer {
    /// Answers `questions` about the browsers of `hub` and the `health` of looks.
    pub(crate) fn new(
        questions: mpsc::Receiver<Token>,
        queries: Queries,
        hub: Hub,
        health: watch::Receiver<Health>,
    ) -> Self {
        Self {
            questions,
            queries,
            hub,
            health,
            bridge: rand::random(),
            unfounded: Throttle::default(),
        }
    }

    /// Runs until the listener is gone for good.
    pub(crate) async fn run(mut self) {
        while let Some(token) = self.questions.recv().await {
            // Without the right to it, there is no question to be read. Without a session, nobody waits for
            // an answer when there is one.
            let Some(session) = self.queries.current().filter(|s| s.stores_positions()) else {
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
                Err(error) => debug!("a question could not be read: {error}"),
            }
        }
    }

    async fn answer(&self, session: &Session, token: &Token, question: Question) {
        let answer = match question {
            Question::Test { contact_id } => self.test(session, contact_id).await,
            Question::RollCall => self.count_bridges(),
            Question::Explain { contact_id } => self.explain(session, contact_id).await,
        };
        if let Err(error) = session.answer(token, &answer.encode()).await {
            warn!("a question could not be answered: {error}");
        }
    }

    async fn test(&self, session: &Session, contact_id: ContactId) -> Answer {
        let opens = session.newest_incident(contact_id).await;
        let opens = opens.unwrap_or_else(|error| {
            warn!("no incident is known that the test notification could open: {error}");
            None
        });
        let tests = self.hub.test(contact_id, &Arc::new(test_event(opens)));
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
            without_bell_at_ms: None,
            numbers: Vec::new(),
        }
    }

    async fn explain(&self, session: &Session, contact_id: ContactId) -> Answer {
        // Whose streams have ended is known by these.
        let valid = session.valid_browsers(&[contact_id]).await;
        let valid = valid.unwrap_or_else(|error| {
            debug!("the browsers of contact {contact_id} are not known: {error}");
            HashSet::new()
        });
        let valid: Vec<_> = valid.into_iter().map(|(_, key, _)| key).collect();
        let seen = self.hub.explain(contact_id, &valid, BROWSERS);
        let browsers = future::join_all(seen.into_iter().map(state));
        let explanation = Explanation {
            browsers: browsers.await,
            refusals: self.hub.refusals(contact_id, &valid),
        };
        Answer {
            bridge: self.bridge,
            browsers: explanation.browsers.len(),
            delivered: 0,
            without_bell_at_ms: self.health.borrow().without_bell_at_ms,
            numbers: pack(&explanation),
        }
    }

    fn count_bridges(&self) -> Answer {
        let browsers = self.hub.all_browsers();
        let mut numbers: Vec<i64> = browsers.iter().map(|browser| browser.number()).collect();
        numbers.sort_unstable();
        numbers.truncate(SAMPLE);
        Answer {
            bridge: self.bridge,
            browsers: browsers.len(),
            delivered: 0,
            without_bell_at_ms: self.health.borrow().without_bell_at_ms,
            numbers,
        }
    }

    async fn ignore(&mut self) {
        if let Some(more) = self.unfounded.take() {
            warn!(
                "a notification on channel {} was ignored: there is no question behind it, or it was answered{more}; \
                 somebody else sends on this channel",
                ASK_CHANNEL
            );
        }
        sleep(PAUSE).await;
    }
}

/// How a browser is.
async fn state(seen: KnownBrowser) -> BrowserState {
    let connected = match seen.connected {
        Some(connected) => timeout(TASK, connected).await.ok().and_then(Result::ok),
        None => None,
    };
    BrowserState {
        browser: seen.key.number(),
        connected,
        done: seen.done,
    }
}

/// The event that a test shows. No history row stands for it. The client opens the incident that an event names, and has no
/// other link: that is one of the contact's, or 0, which is none.
fn test_event(opens: Option<IncidentId>) -> Event {
    let message = match opens {
        Some(_) => {
            "Desktop notifications of Icinga Notifications reach this browser. Its button opens your newest incident."
        }
        None => {
            "Desktop notifications of Icinga Notifications reach this browser. There is no incident of yours to open."
        }
    };
    let rendered = Rendered::new(&Content {
        time_ms: jiff::Timestamp::now().as_millisecond(),
        incident_id: opens.unwrap_or(IncidentId(0)),
        severity: "ok",
        title: "Test notification from icinga-desktop-bridge",
        message: Some(message),
    });
    rendered.event(Vec::new(), 0)
}

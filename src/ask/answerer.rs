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

/// How long a bridge waits for the receipt of a test event. It usually arrives within half a second, when the browser reconnects;
/// later if the stream is dead or the client is slow.
const DELIVERY: Duration = Duration::from_secs(5);

/// Pause after a notification without a question: a flood of them causes at most ten look-ups of a key per second.
const PAUSE: Duration = Duration::from_millis(100);

/// How many browsers an answer lists. All bridges list those with the lowest numbers, so that a browser connected to several
/// bridges is found in several answers.
const SAMPLE: usize = 1000;

/// How many browsers of a contact are explained, connected ones first.
const BROWSERS: usize = 32;

/// How long a browser's task may take to describe its streams; it never waits for anything.
const TASK: Duration = Duration::from_secs(1);

/// The task that answers questions.
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

    /// Runs until the listener ends.
    pub(crate) async fn run(mut self) {
        while let Some(token) = self.questions.recv().await {
            // Questions cannot be read without the right to positions. Without a session, the command gives up before there is
            // one again.
            let Some(session) = self.queries.current().filter(|s| s.stores_positions()) else {
                continue;
            };
            match session.asked(&token).await {
                Ok(stored) => match stored.as_deref().and_then(decode) {
                    // A question received twice is answered once.
                    Some((question, answers))
                        if answers.iter().all(|a| a.bridge != self.bridge) =>
                    {
                        self.answer(&session, &token, question).await;
                    }
                    _ => self.ignore().await,
                },
                Err(error) => debug!("cannot read a question: {error}"),
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
            warn!("cannot answer a question: {error}");
        }
    }

    async fn test(&self, session: &Session, contact_id: ContactId) -> Answer {
        let opens = session.newest_incident(contact_id).await;
        let opens = opens.unwrap_or_else(|error| {
            warn!("cannot find an incident for the test notification to open: {error}");
            None
        });
        let tests = self.hub.test(contact_id, &Arc::new(test_event(opens)));
        let browsers = tests.len();
        let outcomes =
            future::join_all(tests.into_iter().map(|test| timeout(DELIVERY, test))).await;
        let delivered = outcomes.iter().filter(|o| matches!(o, Ok(Ok(())))).count();
        info!(
            "test notification for contact {contact_id}: {delivered} of {browsers} browsers received it"
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
        // Also finds browsers without streams, which the hub knows only by their keys.
        let valid = session.valid_browsers(&[contact_id]).await;
        let valid = valid.unwrap_or_else(|error| {
            debug!("cannot check the browsers of contact {contact_id}: {error}");
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
                "a notification on channel {} was ignored: there is no question for it, or it was answered{more}; \
                 another program sends on this channel",
                ASK_CHANNEL
            );
        }
        sleep(PAUSE).await;
    }
}

/// The state of a browser.
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

/// The event of a test, without a history row. The client opens the incident that an event names: here the contact's newest, or 0
/// for none.
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

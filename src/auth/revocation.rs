//! Ends streams whose sign-in is no longer valid, and refreshes the sessions of connected browsers.
//!
//! Triggers report at once which sign-ins may have changed; a periodic check of all finds what they missed. A check that fails
//! does not count as passed: after a minute of failures all streams end, unless the database is unreachable, because then there
//! are no events to send either.

use std::collections::HashSet;
use std::time::Duration;

use log::{debug, error, info, warn};
use rand::RngExt as _;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};

use super::rechecks::QUEUE;
use crate::config::Tuning;
use crate::database::installation::GRANT;
use crate::database::{Queries, QueryError, Session};
use crate::hub::{Hub, Recheck};
use crate::model::ids::ContactId;
use crate::observe::Throttle;
use crate::observe::metrics::Metrics;

/// Time between two checks of all sign-ins: how long a stream can outlive its sign-in if a trigger is missing.
const CHECK_INTERVAL: Duration = Duration::from_secs(30);

/// Time until a failed check of all sign-ins is repeated.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// How long checks of all sign-ins can fail before streams end.
const TIMEOUT: Duration = Duration::from_secs(60);

/// The `retry` of a stream that ends because its sign-in could not be checked. Random, so that browsers do not reconnect all at
/// once: each is asked to come back later until checks work again.
const UNCHECKED_RETRY: std::ops::Range<Duration> = Duration::from_secs(5)..Duration::from_secs(15);

/// Time between two rounds of housekeeping.
const CLEAN_UP_INTERVAL: Duration = Duration::from_secs(3600);

/// Time until the first round: browsers of a restarted daemon have reconnected by then, so their sessions are refreshed before
/// old ones are removed.
const FIRST_CLEAN_UP: Duration = Duration::from_secs(300);

/// Contacts per query.
const CHUNK: usize = 1000;

/// Why sign-ins could not be checked.
#[derive(Debug, thiserror::Error)]
enum Unchecked {
    /// The session cannot be set up; its keeper logs why.
    #[error("there is no database session for sign-ins")]
    NoSession,
    /// The query failed.
    #[error(transparent)]
    Query(#[from] QueryError),
}

/// The task that checks sign-ins.
#[derive(Debug)]
pub(crate) struct SignIns {
    rechecks: mpsc::Receiver<Recheck>,
    queries: Queries,
    /// The session for events: without it, there are no events to send.
    events: Queries,
    hub: Hub,
    metrics: Metrics,
    tuning: watch::Receiver<Tuning>,
    /// Whether streams were ended because checks fail.
    failing: watch::Sender<bool>,
    /// When all sign-ins were last checked, or the database was unreachable.
    checked: Instant,
    failed: Throttle,
}

impl SignIns {
    /// Checks the sign-ins in `rechecks` through `queries`, and reports whether checks are `failing`. Failures count only while
    /// `events` has a session.
    pub(crate) fn new(
        rechecks: mpsc::Receiver<Recheck>,
        queries: Queries,
        events: Queries,
        hub: Hub,
        metrics: Metrics,
        tuning: watch::Receiver<Tuning>,
        failing: watch::Sender<bool>,
    ) -> Self {
        Self {
            rechecks,
            queries,
            events,
            hub,
            metrics,
            tuning,
            failing,
            checked: Instant::now(),
            failed: Throttle::default(),
        }
    }

    /// Runs until the listener or the query session's keeper ends.
    pub(crate) async fn run(mut self) {
        let now = Instant::now();
        let mut check = interval_at(now + CHECK_INTERVAL, CHECK_INTERVAL);
        let mut clean_up = interval_at(now + FIRST_CLEAN_UP, CLEAN_UP_INTERVAL);
        check.set_missed_tick_behavior(MissedTickBehavior::Delay);
        clean_up.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut changed = Vec::new();
        loop {
            tokio::select! {
                count = self.rechecks.recv_many(&mut changed, QUEUE) => {
                    if count == 0 {
                        return;
                    }
                }
                _ = check.tick() => changed.push(Recheck::All),
                _ = clean_up.tick() => {
                    if let Some(session) = self.queries.current() {
                        self.clean_up(&session).await;
                    }
                    continue;
                }
            }
            let all = changed.contains(&Recheck::All);
            let contacts = self.contacts(&changed);
            changed.clear();
            match self.check_all(&contacts).await {
                Some(Ok(())) if all => self.passed(),
                Some(Ok(())) => {}
                Some(Err(error)) => {
                    // Also after a check of some contacts: the next check of all repeats it.
                    check.reset_after(RETRY_AFTER);
                    self.failed(&error);
                }
                None => return,
            }
        }
    }

    /// Checks contacts; `None` once the daemon is stopping.
    async fn check_all(&mut self, contacts: &[ContactId]) -> Option<Result<(), Unchecked>> {
        for contacts in contacts.chunks(CHUNK) {
            let session = match timeout(RETRY_AFTER, self.queries.session()).await {
                Ok(session) => session?,
                Err(_) => return Some(Err(Unchecked::NoSession)),
            };
            if let Err(error) = self.check(&session, contacts).await {
                return Some(Err(error.into()));
            }
        }
        Some(Ok(()))
    }

    fn passed(&mut self) {
        self.checked = Instant::now();
        if self.failing.send_replace(false) {
            info!("sign-ins can be checked again");
        }
    }

    fn failed(&mut self, error: &Unchecked) {
        if self.events.current().is_none() {
            // There are no events to send either.
            self.checked = Instant::now();
            return debug!("sign-ins could not be checked, the database is unreachable: {error}");
        }
        if self.checked.elapsed() < TIMEOUT {
            if let Some(more) = self.failed.take() {
                warn!("sign-ins cannot be checked, retrying: {error}{more}");
            }
            return;
        }
        if !self.failing.send_replace(true) {
            error!(
                "sign-ins could not be checked for {TIMEOUT:?}, so all streams end until they can: {error}; if a right is \
                 missing, run: {GRANT}"
            );
        }
        let retry = || rand::rng().random_range(UNCHECKED_RETRY);
        self.hub.end_all(retry);
    }

    /// The contacts among `changed` that have streams here.
    fn contacts(&self, changed: &[Recheck]) -> Vec<ContactId> {
        if changed.contains(&Recheck::All) {
            return self.hub.contacts();
        }
        let contacts: HashSet<ContactId> = changed
            .iter()
            .flat_map(|recheck| match recheck {
                Recheck::Contact(contact_id) => vec![*contact_id],
                Recheck::Browser(key) => self.hub.contacts_of(*key),
                Recheck::All => Vec::new(),
            })
            .filter(|contact_id| self.hub.has(*contact_id))
            .collect();
        contacts.into_iter().collect()
    }

    async fn check(&self, session: &Session, contacts: &[ContactId]) -> Result<(), QueryError> {
        // Listed before the query: otherwise a browser that signs in meanwhile would be taken for signed out.
        let browsers: Vec<_> = contacts
            .iter()
            .flat_map(|contact_id| {
                let browsers = self.hub.browsers(*contact_id).into_iter();
                browsers.map(|(key, agent)| (*contact_id, key, agent))
            })
            .collect();
        if browsers.is_empty() {
            return Ok(());
        }
        let asked_at = std::time::Instant::now();
        let valid = session.valid_browsers(contacts).await?;
        for browser in browsers {
            let (contact_id, key, _) = browser;
            if valid.contains(&browser) {
                self.hub.mark_valid(contact_id, key, asked_at);
            } else {
                self.metrics.revoked.inc();
                self.hub.revoke(contact_id, key);
            }
        }
        Ok(())
    }

    async fn clean_up(&self, session: &Session) {
        let browsers = self.hub.signed_in();
        let session_days = self.tuning.borrow().session_days;
        let result = async {
            for browsers in browsers.chunks(CHUNK) {
                session.refresh(browsers, session_days).await?;
            }
            session.clean_up().await
        };
        match result.await {
            Ok((sessions, positions)) => {
                info!(
                    "housekeeping: removed {sessions} forgotten sessions and {positions} positions"
                );
            }
            Err(error) => {
                warn!("housekeeping failed: {error}; if a right is missing, run: {GRANT}")
            }
        }
    }
}

//! Keeps streams and sign-ins together: ends streams whose sign-in is not valid any more, and keeps the
//! sessions of live browsers young.
//!
//! Triggers tell at once whose sign-ins may have changed; a periodic check of everybody finds what they
//! did not tell.

use std::collections::HashSet;
use std::time::Duration;

use log::{debug, info, warn};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::rechecks::{QUEUE, Recheck};
use crate::database::installation::GRANT;
use crate::database::{Queries, QueryError, Session};
use crate::hub::Hub;
use crate::model::ids::ContactId;
use crate::observe::metrics::Metrics;

/// Time between two checks of everybody: how long a stream may outlive its sign-in if a trigger is
/// missing.
const CHECK_INTERVAL: Duration = Duration::from_secs(30);

/// Time between two rounds of housekeeping.
const CLEAN_UP_INTERVAL: Duration = Duration::from_secs(3600);

/// When the first round is: browsers of a restarted daemon have come back by then, so that their
/// sessions are made young before old ones are removed.
const FIRST_CLEAN_UP: Duration = Duration::from_secs(300);

/// Contacts that one query checks.
const CHUNK: usize = 1000;

/// The task.
#[derive(Debug)]
pub(crate) struct SignIns {
    rechecks: mpsc::Receiver<Recheck>,
    queries: Queries,
    hub: Hub,
    metrics: Metrics,
}

impl SignIns {
    /// Checks what `rechecks` names.
    pub(crate) fn new(
        rechecks: mpsc::Receiver<Recheck>,
        queries: Queries,
        hub: Hub,
        metrics: Metrics,
    ) -> Self {
        Self {
            rechecks,
            queries,
            hub,
            metrics,
        }
    }

    /// Runs until the listener or the query session's keeper is gone for good.
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
            let contacts = self.contacts(&changed);
            changed.clear();
            for contacts in contacts.chunks(CHUNK) {
                let Some(session) = self.queries.session().await else {
                    return;
                };
                if let Err(error) = self.check(&session, contacts).await {
                    // The periodic check does it again.
                    debug!("sign-ins could not be checked: {error}");
                }
            }
        }
    }

    /// The contacts among `changed` that have streams here.
    fn contacts(&self, changed: &[Recheck]) -> Vec<ContactId> {
        if changed.contains(&Recheck::All) {
            return self.hub.contacts();
        }
        let contacts: HashSet<ContactId> = changed
            .iter()
            .filter_map(|recheck| match recheck {
                Recheck::Contact(contact_id) => Some(*contact_id),
                Recheck::All => None,
            })
            .filter(|contact_id| self.hub.has(*contact_id))
            .collect();
        contacts.into_iter().collect()
    }

    async fn check(&self, session: &Session, contacts: &[ContactId]) -> Result<(), QueryError> {
        // Looked up before the database is asked: who signs in after that is not among them, and not
        // taken for signed out.
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
        let valid = session.valid_browsers(contacts).await?;
        for browser in browsers {
            if !valid.contains(&browser) {
                let (contact_id, key, _) = browser;
                self.metrics.revoked.inc();
                self.hub.revoke(contact_id, key);
            }
        }
        Ok(())
    }

    async fn clean_up(&self, session: &Session) {
        let browsers: Vec<_> = self
            .hub
            .contacts()
            .into_iter()
            .flat_map(|contact_id| self.hub.browsers(contact_id))
            .map(|(key, _)| key)
            .collect();
        let result = async {
            for browsers in browsers.chunks(CHUNK) {
                session.refresh(browsers).await?;
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

//! Stores browsers' positions, so that they outlive this process and are found by another one.

use std::time::Duration;

use log::{debug, warn};
use tokio::sync::oneshot;
use tokio::time::{MissedTickBehavior, interval};

use crate::burst::Burst;
use crate::database::describe;
use crate::hub::Hub;
use crate::queries::{Queries, Session};

/// Time between two writes: what was delivered within it may come again after a kill.
const INTERVAL: Duration = Duration::from_secs(1);

/// How long the position of an absent browser is kept in memory where it is stored as well: until it
/// surely is.
const KEEP_STORED: Duration = Duration::from_secs(120);

/// How long it is kept where it is not stored.
const KEEP_UNSTORED: Duration = Duration::from_secs(3600);

/// Positions that one statement writes.
const CHUNK: usize = 1000;

/// The task.
#[derive(Debug)]
pub struct Positions {
    hub: Hub,
    queries: Queries,
    failed: Burst,
}

impl Positions {
    /// Stores the positions of `hub` through `queries`.
    pub fn new(hub: Hub, queries: Queries) -> Self {
        Self {
            hub,
            queries,
            failed: Burst::default(),
        }
    }

    /// Stores what has changed, once a second and a last time when `stop` says so; as soon as the
    /// database is back if it was away. Not to be cancelled: what was being stored would count as stored.
    pub async fn run(mut self, mut stop: oneshot::Receiver<()>) {
        let mut ticks = interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // What the database did not take is due as soon as it is back.
        let mut overdue = false;
        loop {
            let due = async {
                if !overdue {
                    ticks.tick().await;
                }
                self.queries.session().await
            };
            let session = tokio::select! {
                session = due => session,
                _ = &mut stop => {
                    if let Some(session) = self.queries.current() {
                        self.store(&session).await;
                    }
                    return;
                }
            };
            let Some(session) = session else {
                return;
            };
            self.store(&session).await;
            overdue = session.is_closed();
        }
    }

    async fn store(&mut self, session: &Session) {
        if !session.stores_positions {
            self.hub.forget(KEEP_UNSTORED);
            return;
        }
        let positions = self.hub.unstored_positions();
        for (index, chunk) in positions.chunks(CHUNK).enumerate() {
            if let Err(error) = session.store_positions(chunk).await {
                if session.is_closed() {
                    debug!("positions could not be stored: {}", describe(&error));
                } else if let Some(more) = self.failed.take() {
                    warn!(
                        "positions could not be stored, they are kept in memory: {}{more}",
                        describe(&error)
                    );
                }
                self.hub.still_unstored(&positions[index * CHUNK..]);
                return;
            }
        }
        self.hub.forget(KEEP_STORED);
    }
}

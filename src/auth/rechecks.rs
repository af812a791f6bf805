//! Where the stages say whose sign-ins to check again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use log::debug;
use tokio::sync::{mpsc, watch};

use crate::hub::{Doubted, Hub};

/// How many changed sign-ins may wait to be checked.
pub(super) const QUEUE: usize = 4096;

/// Where to say whose sign-ins to check again. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Rechecks {
    queue: mpsc::Sender<Doubted>,
    changes: Arc<AtomicU64>,
    hub: Hub,
    hears: watch::Receiver<bool>,
}

impl Rechecks {
    /// The way to a [`SignIns`](super::SignIns) task, and its end there.
    pub(crate) fn new(hub: Hub, hears: watch::Receiver<bool>) -> (Self, mpsc::Receiver<Doubted>) {
        let (queue, receiver) = mpsc::channel(QUEUE);
        let changes = Arc::default();
        let rechecks = Self {
            queue,
            changes,
            hub,
            hears,
        };
        (rechecks, receiver)
    }

    /// Says that sign-ins may have changed. Until they are checked, nobody of them is let in without a question to the
    /// database.
    pub(crate) fn changed(&self, doubted: Doubted) {
        self.changes.fetch_add(1, Ordering::AcqRel);
        self.hub.doubt(doubted);
        self.check(doubted);
    }

    /// Whether it would be heard now if a sign-in changed.
    pub(crate) fn are_heard(&self) -> bool {
        *self.hears.borrow()
    }

    /// How often sign-ins may have changed so far. Whoever asks the database about one, and finds this
    /// moved when the answer is put to use, has to have it [checked](Self::check).
    pub(crate) fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    /// Has sign-ins checked.
    pub(crate) fn check(&self, doubted: Doubted) {
        if self.queue.try_send(doubted).is_err() {
            // The next periodic check finds it.
            debug!("sign-ins are checked later ({doubted:?}): too many changed at once");
        }
    }
}

//! Where the stages say whose sign-ins to check again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use log::debug;
use tokio::sync::{mpsc, watch};

use crate::hub::{Hub, Recheck};

/// How many changed sign-ins may wait to be checked.
pub(super) const QUEUE: usize = 4096;

/// Where to say whose sign-ins to check again. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Rechecks {
    queue: mpsc::Sender<Recheck>,
    changes: Arc<AtomicU64>,
    hub: Hub,
    listening: watch::Receiver<bool>,
}

impl Rechecks {
    /// The way to a [`SignIns`](super::SignIns) task, and its end there.
    pub(crate) fn new(
        hub: Hub,
        listening: watch::Receiver<bool>,
    ) -> (Self, mpsc::Receiver<Recheck>) {
        let (queue, receiver) = mpsc::channel(QUEUE);
        let changes = Arc::default();
        let rechecks = Self {
            queue,
            changes,
            hub,
            listening,
        };
        (rechecks, receiver)
    }

    /// Says that sign-ins may have changed. Until they are checked, nobody of them is let in without a question to the
    /// database.
    pub(crate) fn changed(&self, recheck: Recheck) {
        self.changes.fetch_add(1, Ordering::AcqRel);
        self.hub.invalidate(recheck);
        self.check(recheck);
    }

    /// Whether it would be heard now if a sign-in changed.
    pub(crate) fn is_listening(&self) -> bool {
        *self.listening.borrow()
    }

    /// How often sign-ins may have changed so far. Whoever asks the database about one, and finds this
    /// moved when the answer is put to use, has to have it [checked](Self::check).
    pub(crate) fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    /// Has sign-ins checked.
    pub(crate) fn check(&self, recheck: Recheck) {
        if self.queue.try_send(recheck).is_err() {
            // The next periodic check finds it.
            debug!("sign-ins are checked later ({recheck:?}): too many changed at once");
        }
    }
}

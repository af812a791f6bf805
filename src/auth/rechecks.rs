//! The queue of sign-ins to check again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use log::debug;
use tokio::sync::{mpsc, watch};

use crate::hub::{Hub, Recheck};

/// The maximum number of changed sign-ins that wait for a check.
pub(super) const QUEUE: usize = 4096;

/// The queue's sending side. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Rechecks {
    queue: mpsc::Sender<Recheck>,
    changes: Arc<AtomicU64>,
    hub: Hub,
    listening: watch::Receiver<bool>,
}

impl Rechecks {
    /// A queue to a [`SignIns`](super::SignIns) task: its sending and its receiving side.
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

    /// Reports that sign-ins may have changed. Until they are checked, their browsers get a stream only after a query to the
    /// database.
    pub(crate) fn changed(&self, recheck: Recheck) {
        self.changes.fetch_add(1, Ordering::AcqRel);
        self.hub.invalidate(recheck);
        self.check(recheck);
    }

    /// Whether changes of sign-ins are being received.
    pub(crate) fn is_listening(&self) -> bool {
        *self.listening.borrow()
    }

    /// How often sign-ins may have changed so far. If this number changes between the query for a sign-in and the use of its
    /// result, the caller has to request another [check](Self::check).
    pub(crate) fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    /// Queues sign-ins for a check.
    pub(crate) fn check(&self, recheck: Recheck) {
        if self.queue.try_send(recheck).is_err() {
            // The next periodic check finds it.
            debug!("sign-ins are checked later ({recheck:?}): too many changed at once");
        }
    }
}

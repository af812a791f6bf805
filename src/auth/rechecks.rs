//! Where the stages say whose sign-ins to check again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use log::debug;
use tokio::sync::mpsc;

use crate::model::browser::BrowserKey;
use crate::model::ids::ContactId;

/// How many changed sign-ins may wait to be checked.
pub(super) const QUEUE: usize = 4096;

/// Whose sign-ins to check again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Recheck {
    /// This browser's.
    Browser(BrowserKey),
    /// This contact's.
    Contact(ContactId),
    /// Everybody's.
    All,
}

/// Where to say whose sign-ins to check again. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Rechecks {
    queue: mpsc::Sender<Recheck>,
    changes: Arc<AtomicU64>,
}

impl Rechecks {
    /// The way to a [`SignIns`](super::SignIns) task, and its end there.
    pub(crate) fn new() -> (Self, mpsc::Receiver<Recheck>) {
        let (queue, receiver) = mpsc::channel(QUEUE);
        let changes = Arc::default();
        (Self { queue, changes }, receiver)
    }

    /// Says that sign-ins may have changed.
    pub(crate) fn changed(&self, recheck: Recheck) {
        self.changes.fetch_add(1, Ordering::AcqRel);
        self.check(recheck);
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

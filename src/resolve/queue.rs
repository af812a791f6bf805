//! What the listener passes to the resolver.

use std::time::Instant;

use crate::model::notification::Notification;
use crate::model::timeline::Tide;

/// How many notifications may wait for the resolver: a transaction that notifies 100,000 contacts
/// fits, at 64 bytes each.
pub(crate) const QUEUE: usize = 1 << 17;

/// What the listener tells the resolver.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Received {
    /// A trigger sent this.
    Notification {
        /// What it says.
        notification: Notification,
        /// The server's process whose transaction it was in, which nobody can pretend to be.
        backend: i32,
        /// When it was heard.
        at: Instant,
    },
    /// The transaction of the last notification has been received to its end.
    Settled,
    /// Our own pulse: everything that was committed before it has been received.
    Beat(Tide),
    /// Something may have been missed up to here.
    Gap,
}

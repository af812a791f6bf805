//! Every counter and gauge of the daemon, once.
//!
//! The stages count; the log's summaries and, later, the admin listener read.

use std::sync::Arc;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;

/// The counters, cheap to clone: every clone counts into the same ones.
#[derive(Debug, Clone, Default)]
pub struct Metrics(Arc<Inner>);

impl std::ops::Deref for Metrics {
    type Target = Inner;
    fn deref(&self) -> &Inner {
        &self.0
    }
}

/// The counters themselves.
#[derive(Debug, Default)]
pub struct Inner {
    /// Notifications received on our channels.
    pub notifications: Counter,
    /// Those of them that were not what the triggers send.
    pub notifications_malformed: Counter,
    /// Notifications dropped because the resolver's queue was full; a gap follows.
    pub notifications_overflowed: Counter,
    /// Gaps: times at which something may have been missed.
    pub gaps: Counter,
    /// Connections of the listener to the database that were lost.
    pub disconnects: Counter,
    /// Events handed to a recipient's broadcast channel.
    pub events: Counter,
    /// Events written to a stream.
    pub events_written: Counter,
    /// Times a browser fell behind its broadcast channel or its own queue.
    pub lags: Counter,
    /// Complete replays that were started for browsers with open streams.
    pub replays: Counter,
    /// Streams that were ended because their sign-in was not valid any more.
    pub revoked: Counter,
    /// Open streams.
    pub streams: Gauge,
    /// Requests that were not let in.
    pub refused: Counter,
}

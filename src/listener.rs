//! The listener: one task, one PostgreSQL session that only LISTENs.
//!
//! It passes what it hears to the resolver and never waits for it: the queue between them is bounded,
//! and what does not fit turns into a gap, as does every new connection. It never holds a transaction
//! open, which would block the notification queue of the whole cluster.

use std::convert::Infallible;
use std::pin::pin;

use futures::future::{Fuse, FusedFuture, FutureExt};
use futures::{StreamExt, stream};
use log::{error, info, warn};
use tokio::sync::{mpsc, watch};
use tokio_postgres::{AsyncMessage, Client, Error};

use crate::burst::Burst;
use crate::database::{Backoff, Connector, describe};
use crate::metrics::Metrics;
use crate::notification::{INCIDENT_CHANNEL, Kind, Notification};

/// How many notifications may wait for the resolver: a transaction that notifies 100,000 contacts
/// fits, at 48 bytes each.
pub const QUEUE: usize = 1 << 17;

/// What the listener tells the resolver.
#[derive(Debug, PartialEq, Eq)]
pub enum Received {
    /// A trigger sent this.
    Notification(Notification),
    /// The transaction of the last notification has been received to its end.
    Settled,
    /// Something may have been missed up to here.
    Gap,
}

/// The listener's task.
#[derive(Debug)]
pub struct Listener {
    connector: Connector,
    queue: mpsc::Sender<Received>,
    /// A gap that did not fit into the queue yet.
    gap: bool,
    /// Whether the session hears: what makes the daemon ready.
    hears: watch::Sender<bool>,
    metrics: Metrics,
    malformed: Burst,
}

impl Listener {
    /// A listener that sends what it hears to `queue` and whether it hears to `hears`.
    pub fn new(
        connector: Connector,
        queue: mpsc::Sender<Received>,
        hears: watch::Sender<bool>,
        metrics: Metrics,
    ) -> Self {
        Self {
            connector,
            queue,
            gap: false,
            hears,
            metrics,
            malformed: Burst::default(),
        }
    }

    /// Listens for ever, connecting again whenever the session ends.
    pub async fn run(mut self) -> Infallible {
        let mut backoff = Backoff::default();
        loop {
            let Err(reason) = self.listen(&mut backoff).await;
            if self.hears.send_replace(false) {
                self.metrics.disconnects.inc();
            }
            let delay = backoff.next_delay();
            error!("database: not listening: {reason}; next attempt in {delay:.1?}");
            tokio::time::sleep(delay).await;
        }
    }

    async fn listen(&mut self, backoff: &mut Backoff) -> Result<Infallible, String> {
        let (client, mut connection) = self
            .connector
            .connect("listener")
            .await
            .map_err(|error| error.to_string())?;
        let mut messages = stream::poll_fn(move |cx| connection.poll_message(cx));
        // Listening first: what is committed from here on is heard, and the gap that is reported next
        // makes the resolver look for what was committed before.
        let mut listening = pin!(listen(&client));
        loop {
            tokio::select! {
                result = &mut listening => {
                    result.map_err(|error| describe(&error))?;
                    break;
                }
                message = messages.next() => {
                    if let Some(notification) = self.read(message)? {
                        self.forward(Received::Notification(notification));
                    }
                }
            }
        }
        info!("database: LISTEN {INCIDENT_CHANNEL} is in force");
        backoff.reset();
        self.report_gap();
        self.hears.send_replace(true);

        // A changed incident waits for the end of its transaction (see the fold). PostgreSQL does not
        // mark it, but it answers a query only after it has delivered what it had begun to deliver, so
        // the answer to an empty query sent behind a notification is such a mark.
        let mut mark = pin!(Fuse::terminated());
        let mut unmarked = false;
        loop {
            if unmarked && mark.is_terminated() {
                unmarked = false;
                mark.set(client.check_connection().fuse());
            }
            let message = tokio::select! {
                biased;
                result = &mut mark => {
                    self.marked(result, unmarked)?;
                    continue;
                }
                message = messages.next() => message,
            };
            // The mark may have come in before this message.
            if let Some(result) = mark.as_mut().now_or_never() {
                self.marked(result, unmarked)?;
            }
            if let Some(notification) = self.read(message)? {
                unmarked |= matches!(notification.kind, Kind::Changed { .. });
                self.forward(Received::Notification(notification));
            }
        }
    }

    /// Takes a mark: it ends the last transaction, unless more was heard since it was asked for.
    fn marked(&mut self, result: Result<(), Error>, unmarked: bool) -> Result<(), String> {
        result.map_err(|error| describe(&error))?;
        if !unmarked {
            self.forward(Received::Settled);
        }
        Ok(())
    }

    /// Reads a message of the session. What is no notification of ours is logged and skipped.
    fn read(
        &mut self,
        message: Option<Result<AsyncMessage, Error>>,
    ) -> Result<Option<Notification>, String> {
        let notification = match message {
            None => return Err("the server closed the connection".to_owned()),
            Some(Err(error)) => return Err(describe(&error)),
            Some(Ok(AsyncMessage::Notification(notification))) => notification,
            Some(Ok(AsyncMessage::Notice(notice))) => {
                info!("database: {}: {}", notice.severity(), notice.message());
                return Ok(None);
            }
            Some(Ok(_)) => return Ok(None),
        };
        self.metrics.notifications.inc();
        match Notification::parse(notification.payload()) {
            Ok(notification) => Ok(Some(notification)),
            Err(reason) => {
                self.metrics.notifications_malformed.inc();
                if let Some(more) = self.malformed.take() {
                    warn!(
                        "a notification on channel {INCIDENT_CHANNEL} from backend {} was ignored: {reason}{more}; \
                         somebody else sends on this channel, or the triggers are of another version",
                        notification.process_id()
                    );
                }
                Ok(None)
            }
        }
    }

    /// Queues `received`, or turns it into a gap.
    fn forward(&mut self, received: Received) {
        if self.gap {
            self.report_gap();
        }
        if !self.gap && self.queue.try_send(received).is_err() {
            self.metrics.notifications_overflowed.inc();
            warn!(
                "the queue of {QUEUE} notifications is full: what does not fit is read again later"
            );
            self.gap = true;
        }
    }

    fn report_gap(&mut self) {
        self.gap = self.queue.try_send(Received::Gap).is_err();
        if !self.gap {
            self.metrics.gaps.inc();
        }
    }
}

async fn listen(client: &Client) -> Result<(), Error> {
    client
        .batch_execute(&format!("LISTEN {INCIDENT_CHANNEL}"))
        .await
}

//! The listener: one task, one PostgreSQL session that only LISTENs.
//!
//! It passes what it hears to the resolver, and changed sign-ins to whoever ends them, and never waits
//! for either: the queues are bounded, and what does not fit turns into a gap, as does every new
//! connection. It never holds a transaction open, which would block the notification queue of the whole
//! cluster.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Instant;

use futures::future::{Fuse, FusedFuture, FutureExt};
use futures::{StreamExt, stream};
use log::{error, info, warn};
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::timeout;
use tokio_postgres::{AsyncMessage, Client, Error};

use crate::auth::{Recheck, Rechecks};
use crate::database::{Backoff, ConnectError, Connector, SETUP_PATIENCE, describe};
use crate::listen::Expected;
use crate::model::database_session::DatabaseSession;
use crate::model::notification::{
    self, ASK_CHANNEL, INCIDENT_CHANNEL, Kind, Marked, Notification, PULSE_CHANNEL,
    SESSION_CHANNEL, SessionChange, Token,
};
use crate::observe::Throttle;
use crate::observe::metrics::Metrics;
use crate::resolve::{QUEUE, Received};

/// Where the listener sends what it hears.
#[derive(Debug)]
pub(crate) struct Outlets {
    /// To the resolver.
    pub(crate) queue: mpsc::Sender<Received>,
    /// To whoever ends streams whose sign-in is not valid any more.
    pub(crate) rechecks: Rechecks,
    /// To whoever answers the questions of commands.
    pub(crate) questions: mpsc::Sender<Token>,
    /// To the pulse: which beat of its own came back.
    pub(crate) beats: watch::Sender<u64>,
    /// Whether the session listens: what makes the daemon ready.
    pub(crate) hears: watch::Sender<bool>,
}

/// Why the daemon does not listen.
#[derive(Debug, thiserror::Error)]
enum ListenError {
    /// There is no session.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// LISTEN was not answered.
    #[error("no answer to LISTEN within {SETUP_PATIENCE:?}")]
    Silent,
    /// The session failed.
    #[error("{}", describe(.0))]
    Failed(#[from] Error),
    /// The session ended without an error.
    #[error("the server closed the connection")]
    Closed,
    /// The session looked healthy, but heard nothing.
    #[error("the session was deaf")]
    Deaf,
}

/// The listener's task.
#[derive(Debug)]
pub(crate) struct Listener {
    connector: Connector,
    outlets: Outlets,
    /// A gap that did not fit into the queue yet.
    gap: bool,
    /// The beat of our own that is on its way.
    expected: Expected,
    /// Tells that the session is deaf although it looks healthy.
    deaf: Arc<Notify>,
    metrics: Metrics,
    malformed: Throttle,
    overflowed: Throttle,
}

impl Listener {
    /// A listener that sends what it hears to `outlets`, and connects anew when told that it is `deaf`.
    pub(crate) fn new(
        connector: Connector,
        outlets: Outlets,
        expected: Expected,
        deaf: Arc<Notify>,
        metrics: Metrics,
    ) -> Self {
        Self {
            connector,
            outlets,
            gap: false,
            expected,
            deaf,
            metrics,
            malformed: Throttle::default(),
            overflowed: Throttle::default(),
        }
    }

    /// Listens for ever, connecting again whenever the session ends.
    pub(crate) async fn run(mut self) -> Infallible {
        let mut backoff = Backoff::default();
        loop {
            let Err(reason) = self.listen(&mut backoff).await;
            if self.outlets.hears.send_replace(false) {
                self.metrics.reconnect(DatabaseSession::Listener);
            }
            let delay = backoff.next_delay();
            error!("database: not listening: {reason}; next attempt in {delay:.1?}");
            tokio::time::sleep(delay).await;
        }
    }

    async fn listen(&mut self, backoff: &mut Backoff) -> Result<Infallible, ListenError> {
        let (client, mut connection) = self
            .connector
            .connect(DatabaseSession::Listener.into())
            .await?;
        let mut messages = stream::poll_fn(move |cx| connection.poll_message(cx));
        // Listening first: what is committed from here on is heard, and the gap that is reported next
        // makes the resolver look for what was committed before.
        let mut listening = pin!(timeout(SETUP_PATIENCE, listen(&client)));
        loop {
            tokio::select! {
                result = &mut listening => {
                    result.map_err(|_| ListenError::Silent)??;
                    break;
                }
                message = messages.next() => {
                    if let Some(received) = self.read(message)? {
                        self.forward(received);
                    }
                }
            }
        }
        info!("database: LISTEN {INCIDENT_CHANNEL} is in force");
        backoff.reset();
        self.report_gap();
        self.outlets.rechecks.changed(Recheck::All);
        self.outlets.hears.send_replace(true);
        let deaf = Arc::clone(&self.deaf);

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
                () = deaf.notified() => {
                return Err(ListenError::Deaf);
            }
                message = messages.next() => message,
            };
            // The mark may have come in before this message.
            if let Some(result) = mark.as_mut().now_or_never() {
                self.marked(result, unmarked)?;
            }
            if let Some(received) = self.read(message)? {
                unmarked |= matches!(
                    &received,
                    Received::Notification { notification, .. } if matches!(notification.kind, Kind::Changed { .. })
                );
                self.forward(received);
            }
        }
    }

    /// Takes a mark: it ends the last transaction, unless more was heard since it was asked for.
    fn marked(&mut self, result: Result<(), Error>, unmarked: bool) -> Result<(), ListenError> {
        result?;
        if !unmarked {
            self.forward(Received::Settled);
        }
        Ok(())
    }

    /// Reads a message of the session. What is no notification of ours is logged and skipped.
    fn read(
        &mut self,
        message: Option<Result<AsyncMessage, Error>>,
    ) -> Result<Option<Received>, ListenError> {
        let notification = match message {
            None => return Err(ListenError::Closed),
            Some(Err(error)) => return Err(error.into()),
            Some(Ok(AsyncMessage::Notification(notification))) => notification,
            Some(Ok(AsyncMessage::Notice(notice))) => {
                info!("database: {}: {}", notice.severity(), notice.message());
                return Ok(None);
            }
            Some(Ok(_)) => return Ok(None),
        };
        self.metrics.notifications.inc();
        let (channel, payload) = (notification.channel(), notification.payload());
        let received = match channel {
            INCIDENT_CHANNEL => Notification::parse(payload).map(|parsed| {
                Some(Received::Notification {
                    notification: parsed,
                    backend: notification.process_id(),
                    at: Instant::now(),
                })
            }),
            SESSION_CHANNEL => notification::parse(payload).map(|change: SessionChange| {
                let recheck = Recheck::Contact(change.contact_id);
                self.outlets.rechecks.changed(recheck);
                None
            }),
            ASK_CHANNEL => notification::parse(payload).map(|asked: Marked| {
                // Full: somebody floods the channel, which the one who answers logs.
                let _ = self.outlets.questions.try_send(asked.token);
                None
            }),
            _ => notification::parse(payload).map(|beat: Marked| {
                // Others' beats say nothing about our ears.
                let (number, tide) = self.expected.take(&beat.token)?;
                self.outlets.beats.send_replace(number);
                Some(Received::Beat(tide))
            }),
        };
        received.or_else(|reason| {
            self.metrics.notifications_malformed.inc();
            if let Some(more) = self.malformed.take() {
                warn!(
                    "a notification on channel {channel} from backend {} was ignored: {reason}{more}; \
                     somebody else sends on this channel, or the triggers are of another version",
                    notification.process_id()
                );
            }
            Ok(None)
        })
    }

    /// Queues `received`, or turns it into a gap.
    fn forward(&mut self, received: Received) {
        if self.gap {
            self.report_gap();
        }
        if !self.gap && self.outlets.queue.try_send(received).is_err() {
            self.metrics.notifications_overflowed.inc();
            if let Some(more) = self.overflowed.take() {
                warn!(
                    "the queue of {QUEUE} notifications is full{more}: what does not fit is read again later"
                );
            }
            self.gap = true;
        }
    }

    fn report_gap(&mut self) {
        self.gap = self.outlets.queue.try_send(Received::Gap).is_err();
        if !self.gap {
            self.metrics.gaps.inc();
        }
    }
}

async fn listen(client: &Client) -> Result<(), Error> {
    client
        .batch_execute(&format!(
            "LISTEN {INCIDENT_CHANNEL}; LISTEN {SESSION_CHANNEL}; LISTEN {PULSE_CHANNEL}; LISTEN {ASK_CHANNEL}"
        ))
        .await
}

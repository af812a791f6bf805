//! The listener: one task and one PostgreSQL session that only LISTENs.
//!
//! It rings the resolver's bell and passes on changed sign-ins, and never waits for either: bells are coalesced, and every new
//! connection reports a gap. It never keeps a transaction open, which would block the notification queue of the whole cluster.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;

use futures::{StreamExt, stream};
use log::{error, info, warn};
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::timeout;
use tokio_postgres::{AsyncMessage, Client, Error};

use crate::auth::Rechecks;
use crate::database::{Backoff, ConnectError, Connector, SETUP_TIMEOUT, describe};
use crate::hub::Recheck;
use crate::listen::Expected;
use crate::model::database_session::DatabaseSession;
use crate::model::ids::IncidentId;
use crate::model::notification::{
    self, ASK_CHANNEL, BELL_CHANNEL, INCIDENT_CHANNEL, PULSE_CHANNEL, SESSION_CHANNEL,
    SessionChange, SeverityChange, Token, TokenPayload,
};
use crate::observe::Throttle;
use crate::observe::metrics::Metrics;
use crate::resolve::Bell;

/// The channels that the listener sends to.
#[derive(Debug)]
pub(crate) struct Channels {
    /// To the resolver.
    pub(crate) bell: Bell,
    /// To the task that checks sign-ins.
    pub(crate) rechecks: Rechecks,
    /// To the task that answers questions of commands.
    pub(crate) questions: mpsc::Sender<Token>,
    /// To the pulse: which of its beats came back.
    pub(crate) beats: watch::Sender<u64>,
    /// Whether the session listens; part of readiness.
    pub(crate) listening: watch::Sender<bool>,
}

/// Why the daemon does not listen.
#[derive(Debug, thiserror::Error)]
enum ListenError {
    /// There is no connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// LISTEN was not answered.
    #[error("no answer to LISTEN within {SETUP_TIMEOUT:?}")]
    Silent,
    /// The session failed.
    #[error("{}", describe(.0))]
    Failed(#[from] Error),
    /// The session ended without an error.
    #[error("the server closed the connection")]
    Closed,
    /// The session seemed healthy, but received nothing.
    #[error("the session was deaf")]
    Deaf,
}

/// The listener's task.
#[derive(Debug)]
pub(crate) struct Listener {
    connector: Connector,
    channels: Channels,
    /// Our beat that is on its way.
    expected: Expected,
    /// Notified when the session is deaf although it seems healthy.
    deaf: Arc<Notify>,
    metrics: Metrics,
    malformed: Throttle,
    overflowed: Throttle,
}

impl Listener {
    /// A listener that sends to `channels`, and reconnects when `deaf` is notified.
    pub(crate) fn new(
        connector: Connector,
        channels: Channels,
        expected: Expected,
        deaf: Arc<Notify>,
        metrics: Metrics,
    ) -> Self {
        Self {
            connector,
            channels,
            expected,
            deaf,
            metrics,
            malformed: Throttle::default(),
            overflowed: Throttle::default(),
        }
    }

    /// Listens forever, reconnecting whenever the session ends.
    pub(crate) async fn run(mut self) -> Infallible {
        let mut backoff = Backoff::default();
        loop {
            let Err(reason) = self.listen(&mut backoff).await;
            if self.channels.listening.send_replace(false) {
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
        // LISTEN first: later commits are received, and the gap reported next makes the resolver look for earlier ones.
        let mut listening = pin!(timeout(SETUP_TIMEOUT, listen(&client)));
        loop {
            tokio::select! {
                result = &mut listening => {
                    result.map_err(|_| ListenError::Silent)??;
                    break;
                }
                message = messages.next() => self.read(message)?,
            }
        }
        info!("database: LISTEN succeeded for {BELL_CHANNEL} and the other channels");
        backoff.reset();
        self.metrics.gaps.inc();
        self.channels.bell.gap();
        self.channels.rechecks.changed(Recheck::All);
        self.channels.listening.send_replace(true);
        let deaf = Arc::clone(&self.deaf);
        loop {
            tokio::select! {
                () = deaf.notified() => return Err(ListenError::Deaf),
                message = messages.next() => self.read(message)?,
            }
        }
    }

    /// Reads a message of the session. Notifications that cannot be parsed are logged and skipped.
    fn read(&mut self, message: Option<Result<AsyncMessage, Error>>) -> Result<(), ListenError> {
        let notification = match message {
            None => return Err(ListenError::Closed),
            Some(Err(error)) => return Err(error.into()),
            Some(Ok(AsyncMessage::Notification(notification))) => notification,
            Some(Ok(AsyncMessage::Notice(notice))) => {
                info!("database: {}: {}", notice.severity(), notice.message());
                return Ok(());
            }
            Some(Ok(_)) => return Ok(()),
        };
        self.metrics.notifications.inc();
        let (channel, payload) = (notification.channel(), notification.payload());
        let understood = match channel {
            // Its payload has no meaning.
            BELL_CHANNEL => {
                self.channels.bell.ring();
                Ok(())
            }
            INCIDENT_CHANNEL => notification::parse(payload)
                .map(|change: SeverityChange| self.announce(change.incident_id)),
            SESSION_CHANNEL => notification::parse(payload).map(|change: SessionChange| {
                self.channels.rechecks.changed(match change {
                    SessionChange::Browser(key) => Recheck::Browser(key),
                    SessionChange::ContactId(contact_id) => Recheck::Contact(contact_id),
                });
            }),
            ASK_CHANNEL => notification::parse(payload).map(|asked: TokenPayload| {
                // If the channel is full, somebody floods it, which the answering task logs.
                let _ = self.channels.questions.try_send(asked.token);
            }),
            _ => notification::parse(payload).map(|beat: TokenPayload| {
                // Beats of other daemons prove nothing about this listener.
                if let Some(number) = self.expected.take(&beat.token) {
                    self.metrics.pulse_received();
                    self.channels.beats.send_replace(number);
                }
            }),
        };
        if let Err(reason) = understood {
            self.metrics.notifications_malformed.inc();
            if let Some(more) = self.malformed.take() {
                warn!(
                    "a notification on channel {channel} from backend {} was ignored: {reason}{more}; \
                     another program sends on this channel, or the triggers have another version",
                    notification.process_id()
                );
            }
        }
        Ok(())
    }

    fn announce(&mut self, incident_id: IncidentId) {
        if !self.channels.bell.announce(incident_id) {
            self.metrics.notifications_overflowed.inc();
            if let Some(more) = self.overflowed.take() {
                warn!(
                    "too many incidents are changed without Icinga Notifications at once, or another program sends on channel \
                     {INCIDENT_CHANNEL}: some of these changes are not shown{more}"
                );
            }
        }
    }
}

async fn listen(client: &Client) -> Result<(), Error> {
    client
        .batch_execute(&format!(
            "LISTEN {BELL_CHANNEL}; LISTEN {INCIDENT_CHANNEL}; LISTEN {SESSION_CHANNEL}; LISTEN {PULSE_CHANNEL}; LISTEN {ASK_CHANNEL}"
        ))
        .await
}

//! The task of one browser: it owns the browser's streams and gives each event to exactly one of them.
//!
//! One task per browser and not per stream, because two streams of a browser would have to agree on
//! who writes an event; here there is nothing to agree on. It never waits for a client: a client that
//! does not read has a bounded queue.

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll};
use std::time::Duration;

use log::debug;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Instant, sleep_until};

use super::stream::Stream;
use crate::event;
use crate::hub::{Batch, Command, Mailbox};
use crate::metrics::Metrics;

/// Silence after which a comment is written: half of what Apache's `timeout=30` allows, the shortest
/// of the proxies in the contract.
pub(crate) const KEEP_ALIVE_AFTER: Duration = Duration::from_secs(15);

/// What may wait for a client that does not read, in bytes. 300 events of a usual size fit; one
/// browser cannot cost more.
const MAX_QUEUED: usize = 256 * 1024;

/// Runs until the browser's last stream has ended.
pub(crate) async fn run(mailbox: Mailbox, metrics: Metrics) {
    let Mailbox {
        mut events,
        mut commands,
    } = mailbox;
    let mut browser = Browser {
        streams: Vec::new(),
        metrics,
    };
    let mut open = true;
    let keep_alive = sleep_until(Instant::now() + KEEP_ALIVE_AFTER);
    tokio::pin!(keep_alive);
    while open || !browser.streams.is_empty() {
        tokio::select! {
            // Before the events, so that a stream that was handed over gets what follows it.
            biased;
            command = commands.recv(), if open => match command {
                Some(Command::Stream { socket, head, place }) => {
                    browser.add(Stream::new(socket, head, place));
                }
                Some(Command::End) => browser.end(),
                // The hub knows no place of this browser any more.
                None => open = false,
            },
            (index, result) = poll_fn(|cx| browser.poll_streams(cx)) => browser.remove(index, &result),
            batch = events.recv(), if browser.can_receive() => match batch {
                Ok(batch) => browser.deliver(&batch),
                Err(RecvError::Lagged(missed)) => browser.lagged(missed),
                // The hub dropped the contact: every place is gone.
                Err(RecvError::Closed) => return,
            },
            () = &mut keep_alive, if !browser.streams.is_empty() => {
                keep_alive.as_mut().reset(browser.keep_alive());
            }
        }
    }
}

#[derive(Debug)]
struct Browser {
    /// Oldest first: the first is the one that gets events.
    streams: Vec<Stream>,
    metrics: Metrics,
}

impl Browser {
    fn add(&mut self, stream: Stream) {
        debug!(
            "stream opened for contact {}, browser {:?}",
            stream.place.contact_id(),
            stream.place.key()
        );
        self.metrics.streams.inc();
        self.streams.push(stream);
    }

    fn remove(&mut self, index: usize, result: &io::Result<()>) {
        let stream = self.streams.remove(index);
        self.metrics.streams.dec();
        debug!(
            "stream closed for contact {}, browser {:?}: {}",
            stream.place.contact_id(),
            stream.place.key(),
            match result {
                Ok(()) => "ended by us".to_owned(),
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof =>
                    "client left".to_owned(),
                Err(error) => error.to_string(),
            }
        );
    }

    /// Events stay in the broadcast channel until there is a stream that they can go to: the place
    /// was taken before the connection was handed over.
    fn can_receive(&self) -> bool {
        !self.streams.is_empty()
    }

    fn poll_streams(&mut self, cx: &mut Context<'_>) -> Poll<(usize, io::Result<()>)> {
        for (index, stream) in self.streams.iter_mut().enumerate() {
            if let Poll::Ready(result) = stream.poll(cx) {
                return Poll::Ready((index, result));
            }
        }
        Poll::Pending
    }

    fn deliver(&mut self, batch: &Batch) {
        // Delivered means survived (design 4) takes this place: until then an event is written to the
        // oldest stream, and lost with it.
        let Some(stream) = self.streams.first_mut() else {
            return;
        };
        for event in batch.iter() {
            stream.push(event.bytes.clone());
        }
        self.metrics.events_written.inc_by(batch.len() as u64);
        if stream.queued() > MAX_QUEUED {
            debug!(
                "stream of contact {} does not read",
                stream.place.contact_id()
            );
            self.lag();
        }
    }

    fn lagged(&mut self, missed: u64) {
        debug!("{missed} batches overtook a browser");
        self.lag();
    }

    /// The browser missed events. Replay (design 3) takes this place: until then its streams are cut,
    /// so that at least the client does not go on as if nothing had happened.
    fn lag(&mut self) {
        self.metrics.lags.inc();
        let cut = self.streams.drain(..).len();
        self.metrics.streams.dec_by(i64::try_from(cut).unwrap_or(0));
    }

    fn end(&mut self) {
        for stream in &mut self.streams {
            stream.end(event::retry(event::RETRY_MS));
        }
    }

    /// Writes a comment where it is due, and says when the next may be.
    fn keep_alive(&mut self) -> Instant {
        let now = Instant::now();
        let mut next = now + KEEP_ALIVE_AFTER;
        for stream in &mut self.streams {
            if stream.last_block + KEEP_ALIVE_AFTER <= now {
                // A client that has not taken the last block yet will not miss a comment.
                if stream.queued() == 0 {
                    stream.push(event::KEEP_ALIVE);
                }
            } else {
                next = next.min(stream.last_block + KEEP_ALIVE_AFTER);
            }
        }
        next
    }
}

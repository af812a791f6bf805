//! One open SSE response: its socket, what is still to be written to it, and what was written but may not have been read.
//!
//! That bytes were taken says nothing: a proxy takes them for a client that is long gone. What a stream carried is therefore
//! kept until the browser comes back for the next one, see [`receipt`](super::receipt).

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::carried::{Carried, Unread};
use crate::hub::{Handed, Place};
use crate::model::event::{self};
use crate::model::returned::{ClientKey, Mark};
use crate::net::Socket;
use crate::observe::metrics::Metrics;

/// How long a client may take nothing of what waits for it. The kernel gives up a peer that does not
/// acknowledge (`TCP_USER_TIMEOUT`); this is for one that acknowledges but never reads.
const STUCK_AFTER: Duration = Duration::from_secs(60);

/// A stream. It frees its place in the hub when dropped.
#[derive(Debug)]
pub(super) struct Stream {
    socket: Socket,
    /// Blocks in order, and when an event's notification was heard; the first may be partly written.
    queue: VecDeque<(Bytes, Option<std::time::Instant>)>,
    /// The first of them has been written in part.
    begun: bool,
    carried: Carried,
    /// Whether the last event has no id by which its browser could name it.
    unnamed: bool,
    /// The last block has been queued, with this `retry`: close once it is written.
    ending: Option<Duration>,
    /// When the stream is to be ended.
    end_due: Instant,
    /// Where it leads to, if the proxy says so.
    client: Option<ClientKey>,
    /// When a block was last queued.
    last_block: Instant,
    /// When the client last took something.
    last_progress: Instant,
    _place: Place,
}

impl Stream {
    /// A stream on a connection that was handed over, to be ended at `end_due`.
    pub(super) fn new(handed: Handed, end_due: Instant) -> Self {
        let now = Instant::now();
        Self {
            socket: handed.socket,
            queue: VecDeque::from([(handed.head, None)]),
            begun: false,
            carried: Carried::new(handed.mark),
            unnamed: false,
            ending: None,
            end_due,
            client: handed.returned.client,
            last_block: now,
            last_progress: now,
            _place: handed.place,
        }
    }

    /// Queues an event.
    pub(super) fn write(&mut self, unread: Unread) {
        let event = &unread.event;
        // Later it is no measure of the way from the database.
        let received_at = event.received_at.filter(|_| unread.writes == 0);
        self.unnamed = event.named().is_none();
        self.push_received(event.bytes.clone(), received_at, Instant::now());
        self.carried.events.push_back(Unread {
            writes: unread.writes.saturating_add(1),
            ..unread
        });
    }

    /// Whether nothing waits to be written.
    pub(super) fn is_written(&self) -> bool {
        self.queue.is_empty()
    }

    /// Whether nothing more is written to it.
    pub(super) fn is_ending(&self) -> bool {
        self.ending.is_some()
    }

    /// When it is to be ended; `None` if it is being ended.
    pub(super) fn end_due(&self) -> Option<Instant> {
        (!self.is_ending()).then_some(self.end_due)
    }

    /// Has it ended no later than `due`.
    pub(super) fn end_by(&mut self, due: Instant) {
        self.end_due = self.end_due.min(due);
    }

    /// Queues a last block, behind which the stream closes. The browser is to come back after `retry`.
    pub(super) fn end(&mut self, retry: Duration) {
        if self.is_ending() {
            return;
        }
        let now = Instant::now();
        if self.unnamed {
            let mark = Mark::new();
            self.carried.end = Some(mark);
            self.push(event::mark(mark), now);
        }
        self.push(event::retry(retry), now);
        self.ending = Some(retry);
    }

    /// Ends the stream of a client that must not get anything more: of what waits, only a block is written to its end that
    /// was begun. It is to come back after `retry`.
    pub(super) fn revoke(&mut self, retry: Duration) {
        self.queue.truncate(usize::from(self.begun));
        self.carried.events.clear();
        self.unnamed = false;
        // Also behind an end that was just taken back.
        self.ending = None;
        self.end(retry);
    }

    /// What it carried that may not have been read.
    pub(super) fn carried(&self) -> &Carried {
        &self.carried
    }

    /// As [`Self::carried`].
    pub(super) fn carried_mut(&mut self) -> &mut Carried {
        &mut self.carried
    }

    /// What is left of a stream that is over: what it carried, where it led to, the `retry` that it ended with, and when its
    /// last byte was written.
    pub(super) fn into_parts(self) -> (Carried, Option<ClientKey>, Option<Duration>, Instant) {
        (self.carried, self.client, self.ending, self.last_progress)
    }

    /// Writes a comment after a silence of `keep_alive`.
    pub(super) fn tick(&mut self, now: Instant, keep_alive: Duration) {
        if self.queue.is_empty() && self.last_block + keep_alive <= now {
            self.push(event::KEEP_ALIVE, now);
        }
    }

    /// When [`Stream::tick`] is to be called again, or the stream to be ended, at the latest.
    pub(super) fn next_tick(&self, keep_alive: Duration) -> Instant {
        let idle = if self.queue.is_empty() {
            self.last_block + keep_alive
        } else {
            self.last_progress + STUCK_AFTER
        };
        self.end_due().map_or(idle, |due| due.min(idle))
    }

    /// Writes what the socket takes, and notices when the client is gone. Ready once the stream is
    /// over: closed by us (`Ok`), by the client (`UnexpectedEof`), stuck (`TimedOut`) or broken.
    ///
    /// What the kernel has taken of an event counts into the latency of `metrics`.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, metrics: &Metrics) -> Poll<io::Result<()>> {
        self.poll_client(cx)?;
        while let Some((block, received_at)) = self.queue.front_mut() {
            // Not behind it: on a busy machine the client may have read it before this goes on.
            let now = Instant::now();
            let Poll::Ready(written) = Pin::new(&mut self.socket).poll_write(cx, block)? else {
                if self.last_progress + STUCK_AFTER <= now {
                    return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
                }
                return Poll::Pending;
            };
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.last_progress = now;
            block.advance(written);
            self.begun = !block.is_empty();
            if block.is_empty() {
                if let Some(received_at) = received_at {
                    metrics.latency_since(*received_at);
                }
                self.queue.pop_front();
            }
        }
        // Most streams are idle most of the time.
        if self.queue.capacity() > 0 {
            self.queue = VecDeque::new();
        }
        if self.carried.events.is_empty() && self.carried.events.capacity() > 0 {
            self.carried.events = VecDeque::new();
        }
        if self.ending.is_some() {
            // Whoever drops it closes the socket.
            return Poll::Ready(Ok(()));
        }
        Poll::Pending
    }

    fn push(&mut self, block: Bytes, now: Instant) {
        self.push_received(block, None, now);
    }

    fn push_received(
        &mut self,
        block: Bytes,
        received_at: Option<std::time::Instant>,
        now: Instant,
    ) {
        if self.queue.is_empty() {
            // Nothing waited until now, so this is when waiting begins.
            self.last_progress = now;
        }
        self.queue.push_back((block, received_at));
        self.last_block = now;
    }

    /// Reads and forgets what the client sends: after its request it has nothing to say, but the end
    /// of its sending means that it is gone.
    fn poll_client(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let mut scratch = [0; 512];
        // A client that sends without end must not keep this task from everything else.
        for _ in 0..16 {
            let mut buf = ReadBuf::new(&mut scratch);
            match Pin::new(&mut self.socket).poll_read(cx, &mut buf) {
                Poll::Pending => return Ok(()),
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Ready(Ok(())) if buf.filled().is_empty() => {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                Poll::Ready(Ok(())) => {}
            }
        }
        cx.waker().wake_by_ref();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::Arc;

    use socket2::SockRef;
    use tokio::io::AsyncReadExt as _;
    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::hub::Hub;
    use crate::model::browser::{AgentKey, BrowserKey};
    use crate::model::event::{Content, Event, Rendered};
    use crate::model::ids::{ContactId, HistoryId, IncidentId};
    use crate::model::returned::Returned;
    use crate::model::sign_in::SignIn;

    fn event_of(number: i64) -> Arc<Event> {
        let rendered = Rendered::new(&Content {
            time_ms: 0,
            incident_id: IncidentId(number),
            severity: "crit",
            title: "title",
            message: Some(&"x".repeat(4000)),
        });
        Arc::new(rendered.event(vec![HistoryId(number)], 0))
    }

    #[tokio::test]
    async fn a_revoked_stream_ends_behind_the_block_that_was_begun() {
        let hub = Hub::new(1);
        let sign_in = SignIn {
            contact_id: ContactId(7),
            browser: BrowserKey::new("a"),
            agent: AgentKey::new(""),
            position: None,
            epoch: 0,
            signed_in_at_ms: 0,
            asked_at: std::time::Instant::now(),
        };
        let returned = Returned {
            at: std::time::Instant::now(),
            last_event_id: None,
            client: None,
            firefox: false,
        };
        let (place, _mailbox) = hub.enter(&sign_in).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let connecting = TcpStream::connect(listener.local_addr().unwrap());
        let (theirs, accepted) = tokio::join!(connecting, listener.accept());
        let (mut theirs, ours) = (theirs.unwrap(), accepted.unwrap().0);
        // Not the megabytes that the kernel would make room for.
        SockRef::from(&ours).set_send_buffer_size(10_000).unwrap();
        let handed = Handed {
            socket: Socket::Left(ours),
            head: event::KEEP_ALIVE,
            mark: Mark::new(),
            returned,
            place,
        };
        let mut stream = Stream::new(handed, Instant::now());
        let metrics = Metrics::default();
        for number in 1..=1000 {
            let event = event_of(number);
            stream.write(Unread { event, writes: 0 });
        }
        // As much as the socket takes while nobody reads, until a block is cut.
        poll_fn(|cx| {
            assert!(stream.poll(cx, &metrics).is_pending() && stream.queue.len() > 2);
            if stream.begun {
                return Poll::Ready(());
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
        stream.revoke(event::RETRY);
        assert!(stream.carried().events.is_empty());

        let mut text = String::new();
        let (ended, read) = tokio::join!(
            async {
                let ended = poll_fn(|cx| stream.poll(cx, &metrics)).await;
                drop(stream);
                ended
            },
            theirs.read_to_string(&mut text)
        );
        assert!(ended.is_ok() && read.is_ok());
        let blocks: Vec<_> = text.split_inclusive("\n\n").collect();
        assert_eq!(blocks.first(), Some(&":\n\n"));
        assert_eq!(blocks.last(), Some(&"retry: 3000\n\n"));
        let written = &blocks[1..blocks.len() - 1];
        assert!(written.len() < 900, "{}", written.len());
        for (number, block) in (1..).zip(written) {
            assert_eq!(block.as_bytes(), event_of(number).bytes);
        }
    }
}

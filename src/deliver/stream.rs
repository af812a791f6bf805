//! One open SSE response: its socket, what still has to be written, and what was written but may not have been read.
//!
//! Written bytes prove nothing, because a proxy accepts them for a client that has gone. So the events of a stream are kept until
//! the browser returns for the next one, see [`receipt`](super::receipt).

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes};
use thin_vec::ThinVec;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::carried::{Carried, Unread};
use crate::hub::{Handed, Place};
use crate::model::event::{self};
use crate::model::returned::{ClientKey, Mark};
use crate::net::Socket;
use crate::observe::metrics::Metrics;

/// How long a client may read nothing while data waits for it. The kernel drops a peer that does not acknowledge
/// (`TCP_USER_TIMEOUT`); this is for one that acknowledges but never reads.
const STUCK_AFTER: Duration = Duration::from_secs(60);

/// The maximum number of blocks that one system call writes: their list takes a kilobyte of the stack.
const BLOCKS_PER_WRITE: usize = 64;

/// A stream. Dropping it frees its place in the hub.
#[derive(Debug)]
pub(super) struct Stream {
    socket: Socket,
    /// Blocks in order, and when an event's bell was received. The first one may be partly written.
    queue: VecDeque<(Bytes, Option<std::time::Instant>)>,
    /// The first block is partly written.
    begun: bool,
    carried: Carried,
    /// Whether the last event has no id that its browser could send.
    unnamed: bool,
    /// The final block is queued, with this `retry`: close the stream once it is written.
    ending: Option<Duration>,
    /// When the stream is to be ended.
    end_due: Instant,
    /// The address of the client, if the proxy sends it.
    client: Option<ClientKey>,
    /// When a block was last queued.
    last_block: Instant,
    /// When the socket last accepted bytes, or the queue stopped being empty.
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
        // A repeated write does not measure the latency from the database.
        let received_at = event.received_at.filter(|_| unread.writes == 0);
        self.unnamed = event.named().is_none();
        self.push_received(event.bytes.clone(), received_at, Instant::now());
        self.carried.events.push(Unread {
            writes: unread.writes.saturating_add(1),
            ..unread
        });
    }

    /// Whether everything is written.
    pub(super) fn is_written(&self) -> bool {
        self.queue.is_empty()
    }

    /// Whether the final block is queued.
    pub(super) fn is_ending(&self) -> bool {
        self.ending.is_some()
    }

    /// When it is to be ended; `None` if it is being ended.
    pub(super) fn end_due(&self) -> Option<Instant> {
        (!self.is_ending()).then_some(self.end_due)
    }

    /// Ends it no later than `due`.
    pub(super) fn end_by(&mut self, due: Instant) {
        self.end_due = self.end_due.min(due);
    }

    /// Queues the final block, after which the stream closes. The browser should reconnect after `retry`.
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

    /// Ends the stream of a client that must not receive anything more: of the queue, only a block that is partly written is
    /// completed. The client should reconnect after `retry`.
    pub(super) fn revoke(&mut self, retry: Duration) {
        self.queue.truncate(usize::from(self.begun));
        self.carried.events.clear();
        self.unnamed = false;
        // Also if the stream was already ending.
        self.ending = None;
        self.end(retry);
    }

    /// The events that may not have been read.
    pub(super) fn carried(&self) -> &Carried {
        &self.carried
    }

    /// As [`Self::carried`].
    pub(super) fn carried_mut(&mut self) -> &mut Carried {
        &mut self.carried
    }

    /// The remains of an ended stream: its events, the address of its client, the `retry` that it ended with, and when its last
    /// byte was written.
    pub(super) fn into_parts(self) -> (Carried, Option<ClientKey>, Option<Duration>, Instant) {
        (self.carried, self.client, self.ending, self.last_progress)
    }

    /// Writes a comment if nothing was written for `keep_alive`.
    pub(super) fn tick(&mut self, now: Instant, keep_alive: Duration) {
        if self.queue.is_empty() && self.last_block + keep_alive <= now {
            self.push(event::KEEP_ALIVE, now);
        }
    }

    /// When to call [`Stream::tick`] again or end the stream, at the latest.
    pub(super) fn next_tick(&self, keep_alive: Duration) -> Instant {
        let idle = if self.queue.is_empty() {
            self.last_block + keep_alive
        } else {
            self.last_progress + STUCK_AFTER
        };
        self.end_due().map_or(idle, |due| due.min(idle))
    }

    /// Writes what the socket accepts, and detects when the client has gone. Ready once the stream is over: closed by the daemon
    /// (`Ok`), by the client (`UnexpectedEof`), stuck (`TimedOut`) or broken.
    ///
    /// Adds the latency of an event to `metrics` when the kernel has accepted it.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, metrics: &Metrics) -> Poll<io::Result<()>> {
        self.poll_client(cx)?;
        while !self.queue.is_empty() {
            // Before writing: on a busy machine the client may read it before this task continues.
            let now = Instant::now();
            let Poll::Ready(written) = self.poll_write(cx)? else {
                if self.last_progress + STUCK_AFTER <= now {
                    return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
                }
                return Poll::Pending;
            };
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.last_progress = now;
            self.advance(written, metrics);
        }
        // Most streams are idle most of the time.
        if self.queue.capacity() > 0 {
            self.queue = VecDeque::new();
        }
        if self.carried.events.is_empty() && self.carried.events.capacity() > 0 {
            self.carried.events = ThinVec::new();
        }
        if self.ending.is_some() {
            // Dropping the stream closes the socket.
            return Poll::Ready(Ok(()));
        }
        Poll::Pending
    }

    /// Writes the first blocks of the queue in one system call. Returns how many bytes the socket accepted.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut slices = [IoSlice::new(&[]); BLOCKS_PER_WRITE];
        let mut filled = 0;
        for (slice, (block, _)) in slices.iter_mut().zip(&self.queue) {
            *slice = IoSlice::new(block);
            filled += 1;
        }
        Pin::new(&mut self.socket).poll_write_vectored(cx, &slices[..filled])
    }

    /// Removes so many `written` bytes from the queue.
    fn advance(&mut self, mut written: usize, metrics: &Metrics) {
        while written > 0
            && let Some((block, received_at)) = self.queue.front_mut()
        {
            let part = written.min(block.len());
            block.advance(part);
            written -= part;
            self.begun = !block.is_empty();
            if !self.begun {
                if let Some(received_at) = received_at {
                    metrics.latency_since(*received_at);
                }
                self.queue.pop_front();
            }
        }
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
            // The queue was empty, so the client starts to lag now at the earliest.
            self.last_progress = now;
        }
        self.queue.push_back((block, received_at));
        self.last_block = now;
    }

    /// Reads and discards what the client sends: nothing is expected after its request, but the end of its data means that it has
    /// gone.
    fn poll_client(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let mut scratch = [0; 512];
        // A client that sends endlessly must not block this task.
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
    async fn a_revoked_stream_ends_after_the_block_that_was_begun() {
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
        // Instead of the megabytes that the kernel would buffer.
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
        // Fills the socket while nobody reads, until a block is cut.
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

//! One open SSE response: its socket, what is still to be written to it, and what was written but may
//! not have arrived.
//!
//! *Delivered means survived.* Behind Apache a stream whose browser has left swallows two writes before
//! it closes. So some time after an event a comment is written, and only if the stream is still open
//! some time after that, the event counts as delivered.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use prometheus_client::metrics::histogram::Histogram;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use crate::hub::Place;
use crate::model::event::{self, Event};
use crate::net::Socket;

/// How long after an event the comment follows: far enough apart that no proxy reads both at once and
/// passes them on as one write.
const PROBE_AFTER: Duration = Duration::from_millis(50);

/// How long after the comment a stream must still be open: a proxy that could not pass it on has closed
/// its side by then. Longer would make a reload soon after an event show it twice.
const SURVIVED_AFTER: Duration = Duration::from_millis(200);

/// How long a client may take nothing of what waits for it. The kernel gives up a peer that does not
/// acknowledge (`TCP_USER_TIMEOUT`); this is for one that acknowledges but never reads.
const STUCK_AFTER: Duration = Duration::from_secs(60);

/// Blocks for which the queue keeps memory when it is empty.
const KEPT_CAPACITY: usize = 4;

/// A stream. It frees its place in the hub when dropped.
#[derive(Debug)]
pub(crate) struct Stream {
    socket: Socket,
    /// Blocks in order, and when an event's notification was heard; the first may be partly written.
    queue: VecDeque<(Bytes, Option<std::time::Instant>)>,
    /// The first of them has been written in part.
    begun: bool,
    /// The last block has been queued: close once it is written.
    ending: bool,
    /// Events whose bytes were queued, and when, until they count as delivered.
    unconfirmed: VecDeque<(Arc<Event>, Instant)>,
    /// How many of them a comment has followed.
    covered: usize,
    /// When the next comment is due.
    comment_due: Option<Instant>,
    /// For each comment that was written: if the stream is still open then, so many more events are
    /// delivered. Comments overlap, so that an event does not wait for the probe of those before it.
    surviving: VecDeque<(Instant, usize)>,
    /// When a block was last queued.
    last_block: Instant,
    /// When the client last took something.
    last_progress: Instant,
    _place: Place,
}

impl Stream {
    /// A stream that begins with `head`.
    pub(crate) fn new(socket: Socket, head: Bytes, place: Place) -> Self {
        let now = Instant::now();
        Self {
            socket,
            queue: VecDeque::from([(head, None)]),
            begun: false,
            ending: false,
            unconfirmed: VecDeque::new(),
            covered: 0,
            comment_due: None,
            surviving: VecDeque::new(),
            last_block: now,
            last_progress: now,
            _place: place,
        }
    }

    /// Queues an event.
    pub(crate) fn write(&mut self, event: Arc<Event>) {
        let now = Instant::now();
        self.push_heard(event.bytes.clone(), event.heard, now);
        self.unconfirmed.push_back((event, now));
        self.comment_due.get_or_insert(now + PROBE_AFTER);
    }

    /// Starts to find out whether the client is still there. A probe that is under way does not tell: its bytes may have
    /// been written before the client left.
    pub(crate) fn start_probe(&mut self) {
        let now = Instant::now();
        // What waits will be written from now on, and does as well.
        if self.is_written() {
            self.push(event::KEEP_ALIVE, now);
        }
        self.comment_due = Some(now + PROBE_AFTER);
    }

    /// Whether it is not yet known that the client is still there.
    pub(crate) fn is_probing(&self) -> bool {
        self.comment_due.is_some() || !self.surviving.is_empty()
    }

    /// Whether nothing waits to be written.
    pub(crate) fn is_written(&self) -> bool {
        self.queue.is_empty()
    }

    /// Queues a last block, behind which the stream closes.
    pub(crate) fn end(&mut self, retry_ms: u32) {
        if !self.ending {
            self.push(event::retry(retry_ms), Instant::now());
            self.ending = true;
        }
    }

    /// Ends the stream of a client that must not get anything more: of what waits, only a block is written to its end that
    /// was begun. It is to come back after `retry_ms` milliseconds.
    pub(crate) fn revoke(&mut self, retry_ms: u32) {
        self.queue.truncate(usize::from(self.begun));
        self.unconfirmed.clear();
        self.surviving.clear();
        self.covered = 0;
        self.comment_due = None;
        // Also behind a farewell that was just taken back.
        self.ending = false;
        self.end(retry_ms);
    }

    /// Events that do not count as delivered yet, oldest first.
    pub(crate) fn unconfirmed(&self) -> impl DoubleEndedIterator<Item = &Arc<Event>> {
        self.unconfirmed.iter().map(|(event, _)| event)
    }

    /// Does what is due by now, and writes a comment after a silence of `keep_alive`. Returns the events that count as
    /// delivered from here on.
    pub(crate) fn tick(&mut self, now: Instant, keep_alive: Duration) -> Vec<Arc<Event>> {
        let mut delivered = Vec::new();
        // What the client has not taken yet cannot have arrived: then everything takes longer.
        let taken = self.is_written();
        while let Some((until, count)) = self.surviving.front_mut()
            && *until <= now
        {
            if !taken {
                *until = now + SURVIVED_AFTER;
                break;
            }
            delivered.extend(self.unconfirmed.drain(..*count).map(|(event, _)| event));
            self.covered -= *count;
            self.surviving.pop_front();
        }
        if self.comment_due.is_some_and(|due| due <= now) {
            if taken {
                self.comment(now);
            } else {
                self.comment_due = Some(now + PROBE_AFTER);
            }
        }
        if self.queue.is_empty() && self.last_block + keep_alive <= now {
            self.push(event::KEEP_ALIVE, now);
        }
        delivered
    }

    /// Writes the comment that follows events.
    fn comment(&mut self, now: Instant) {
        self.push(event::KEEP_ALIVE, now);
        let followed = |(_, at): &&(Arc<Event>, Instant)| *at + PROBE_AFTER <= now;
        let uncovered = self.unconfirmed.iter().skip(self.covered);
        let count = uncovered.take_while(followed).count();
        self.covered += count;
        self.surviving.push_back((now + SURVIVED_AFTER, count));
        // Events that came in since want a comment of their own; one for all of them.
        self.comment_due = (self.covered < self.unconfirmed.len()).then_some(now + PROBE_AFTER);
    }

    /// When [`Stream::tick`] is to be called again, at the latest.
    pub(crate) fn next_tick(&self, keep_alive: Duration) -> Instant {
        let idle = if self.queue.is_empty() {
            self.last_block + keep_alive
        } else {
            self.last_progress + STUCK_AFTER
        };
        let probe = self.surviving.front().map(|(until, _)| *until);
        [self.comment_due, probe]
            .into_iter()
            .flatten()
            .fold(idle, Instant::min)
    }

    /// Writes what the socket takes, and notices when the client is gone. Ready once the stream is
    /// over: closed by us (`Ok`), by the client (`UnexpectedEof`), stuck (`TimedOut`) or broken.
    ///
    /// What the kernel has taken of an event counts into `latency`.
    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        latency: &Histogram,
    ) -> Poll<io::Result<()>> {
        self.poll_client(cx)?;
        while let Some((block, heard)) = self.queue.front_mut() {
            let Poll::Ready(written) = Pin::new(&mut self.socket).poll_write(cx, block)? else {
                if self.last_progress + STUCK_AFTER <= Instant::now() {
                    return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
                }
                return Poll::Pending;
            };
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.last_progress = Instant::now();
            block.advance(written);
            self.begun = !block.is_empty();
            if block.is_empty() {
                if let Some(heard) = heard {
                    latency.observe(heard.elapsed().as_secs_f64());
                }
                self.queue.pop_front();
            }
        }
        if self.queue.capacity() > KEPT_CAPACITY {
            self.queue.shrink_to(KEPT_CAPACITY);
        }
        if !self.is_probing() && self.unconfirmed.capacity() + self.surviving.capacity() > 0 {
            self.unconfirmed = VecDeque::new();
            self.surviving = VecDeque::new();
        }
        if self.ending {
            ready!(Pin::new(&mut self.socket).poll_shutdown(cx))?;
            return Poll::Ready(Ok(()));
        }
        Poll::Pending
    }

    fn push(&mut self, block: Bytes, now: Instant) {
        self.push_heard(block, None, now);
    }

    fn push_heard(&mut self, block: Bytes, heard: Option<std::time::Instant>, now: Instant) {
        if self.queue.is_empty() {
            // Nothing waited until now, so this is when waiting begins.
            self.last_progress = now;
        }
        self.queue.push_back((block, heard));
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

    use socket2::SockRef;
    use tokio::io::AsyncReadExt as _;
    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::hub::Hub;
    use crate::model::browser::{AgentKey, BrowserKey};
    use crate::model::event::{Content, Rendered};
    use crate::model::ids::{ContactId, HistoryId, IncidentId};
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
        };
        let (place, _mailbox) = hub.enter(&sign_in).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let connecting = TcpStream::connect(listener.local_addr().unwrap());
        let (theirs, accepted) = tokio::join!(connecting, listener.accept());
        let (mut theirs, ours) = (theirs.unwrap(), accepted.unwrap().0);
        // Not the megabytes that the kernel would make room for.
        SockRef::from(&ours).set_send_buffer_size(10_000).unwrap();
        let mut stream = Stream::new(Socket::Left(ours), event::KEEP_ALIVE, place);
        let latency = Histogram::new([1.0]);
        for number in 1..=1000 {
            stream.write(event_of(number));
        }
        // As much as the socket takes while nobody reads, until a block is cut.
        poll_fn(|cx| {
            assert!(stream.poll(cx, &latency).is_pending() && stream.queue.len() > 2);
            if stream.begun {
                return Poll::Ready(());
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
        stream.revoke(event::RETRY_MS);
        assert_eq!(stream.unconfirmed().count(), 0);

        let mut text = String::new();
        let (ended, read) = tokio::join!(
            async {
                let ended = poll_fn(|cx| stream.poll(cx, &latency)).await;
                drop(stream);
                ended
            },
            theirs.read_to_string(&mut text)
        );
        assert!(ended.is_ok() && read.is_ok());
        let blocks: Vec<_> = text.split_inclusive("\n\n").collect();
        assert_eq!(blocks.first(), Some(&":\n\n"));
        assert_eq!(blocks.last(), Some(&"retry: 3000\n\n"));
        let told = &blocks[1..blocks.len() - 1];
        assert!(told.len() < 900, "{}", told.len());
        for (number, block) in (1..).zip(told) {
            assert_eq!(block.as_bytes(), event_of(number).bytes);
        }
    }
}

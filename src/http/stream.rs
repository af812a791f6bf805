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
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::socket::Socket;
use crate::event::{self, Event};
use crate::hub::Place;

/// Silence after which a comment is written: half of what Apache's `timeout=30` allows, the shortest
/// of the proxies' limits.
const KEEP_ALIVE_AFTER: Duration = Duration::from_secs(15);

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
    /// Blocks in order; the first may be partly written.
    queue: VecDeque<Bytes>,
    /// The last block has been queued: close once it is written.
    ending: bool,
    /// Events whose bytes were queued, and when, until they count as delivered.
    unconfirmed: VecDeque<(Arc<Event>, Instant)>,
    probe: Probe,
    /// When a block was last queued.
    last_block: Instant,
    /// When the client last took something.
    last_progress: Instant,
    _place: Place,
}

/// Where the probe is that tells whether the client is still there.
#[derive(Debug, Clone, Copy)]
enum Probe {
    Idle,
    /// The comment is due then.
    Comment(Instant),
    /// If the stream is still open then, as many of the unconfirmed events are delivered.
    Survive(Instant, usize),
}

impl Stream {
    /// A stream that begins with `head`.
    pub(crate) fn new(socket: Socket, head: Bytes, place: Place) -> Self {
        let now = Instant::now();
        Self {
            socket,
            queue: VecDeque::from([head]),
            ending: false,
            unconfirmed: VecDeque::new(),
            probe: Probe::Idle,
            last_block: now,
            last_progress: now,
            _place: place,
        }
    }

    /// Queues an event.
    pub(crate) fn write(&mut self, event: Arc<Event>) {
        let now = Instant::now();
        self.push(event.bytes.clone(), now);
        self.unconfirmed.push_back((event, now));
        if matches!(self.probe, Probe::Idle) {
            self.probe = Probe::Comment(now + PROBE_AFTER);
        }
    }

    /// Starts to find out whether the client is still there, unless that is under way.
    pub(crate) fn start_probe(&mut self) {
        if matches!(self.probe, Probe::Idle) {
            let now = Instant::now();
            self.push(event::KEEP_ALIVE, now);
            self.probe = Probe::Comment(now + PROBE_AFTER);
        }
    }

    /// Whether it is not yet known that the client is still there.
    pub(crate) fn is_probing(&self) -> bool {
        !matches!(self.probe, Probe::Idle)
    }

    /// Queues a last block, behind which the stream closes.
    pub(crate) fn end(&mut self, retry_ms: u32) {
        if !self.ending {
            self.push(event::retry(retry_ms), Instant::now());
            self.ending = true;
        }
    }

    /// Events that do not count as delivered yet, oldest first.
    pub(crate) fn unconfirmed(&self) -> impl DoubleEndedIterator<Item = &Arc<Event>> {
        self.unconfirmed.iter().map(|(event, _)| event)
    }

    /// Does what is due by now. Returns the events that count as delivered from here on.
    pub(crate) fn tick(&mut self, now: Instant) -> Vec<Arc<Event>> {
        let mut delivered = Vec::new();
        match self.probe {
            Probe::Comment(due) if due <= now => {
                if self.queue.is_empty() {
                    self.push(event::KEEP_ALIVE, now);
                    let before = |(_, at): &&(Arc<Event>, Instant)| *at + PROBE_AFTER <= now;
                    let covered = self.unconfirmed.iter().take_while(before).count();
                    self.probe = Probe::Survive(now + SURVIVED_AFTER, covered);
                } else {
                    // What the client has not taken yet cannot have arrived.
                    self.probe = Probe::Comment(now + PROBE_AFTER);
                }
            }
            Probe::Survive(until, covered) if until <= now => {
                if self.queue.is_empty() {
                    delivered.extend(self.unconfirmed.drain(..covered).map(|(event, _)| event));
                    self.probe = match self.unconfirmed.front() {
                        Some((_, at)) => Probe::Comment(*at + PROBE_AFTER),
                        None => Probe::Idle,
                    };
                } else {
                    self.probe = Probe::Survive(now + SURVIVED_AFTER, covered);
                }
            }
            _ => {}
        }
        if self.queue.is_empty() && self.last_block + KEEP_ALIVE_AFTER <= now {
            self.push(event::KEEP_ALIVE, now);
        }
        delivered
    }

    /// When [`Stream::tick`] is to be called again, at the latest.
    pub(crate) fn next_tick(&self) -> Instant {
        let idle = if self.queue.is_empty() {
            self.last_block + KEEP_ALIVE_AFTER
        } else {
            self.last_progress + STUCK_AFTER
        };
        match self.probe {
            Probe::Idle => idle,
            Probe::Comment(due) => idle.min(due),
            Probe::Survive(until, _) => idle.min(until),
        }
    }

    /// Writes what the socket takes, and notices when the client is gone. Ready once the stream is
    /// over: closed by us (`Ok`), by the client (`UnexpectedEof`), stuck (`TimedOut`) or broken.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_client(cx)?;
        while let Some(block) = self.queue.front_mut() {
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
            if block.is_empty() {
                self.queue.pop_front();
            }
        }
        if self.queue.capacity() > KEPT_CAPACITY {
            self.queue.shrink_to(KEPT_CAPACITY);
        }
        if self.unconfirmed.is_empty() && self.unconfirmed.capacity() > 0 {
            self.unconfirmed = VecDeque::new();
        }
        if self.ending {
            ready!(Pin::new(&mut self.socket).poll_shutdown(cx))?;
            return Poll::Ready(Ok(()));
        }
        Poll::Pending
    }

    fn push(&mut self, block: Bytes, now: Instant) {
        if self.queue.is_empty() {
            // Nothing waited until now, so this is when waiting begins.
            self.last_progress = now;
        }
        self.queue.push_back(block);
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

//! One open SSE response: its socket, and what is still to be written to it.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::socket::Socket;
use crate::hub::Place;

/// A stream. It frees its place in the hub when dropped.
#[derive(Debug)]
pub(crate) struct Stream {
    socket: Socket,
    /// Blocks in order; the first may be partly written.
    queue: VecDeque<Bytes>,
    /// Bytes in `queue`.
    queued: usize,
    /// The last block has been queued: close once it is written.
    ending: bool,
    /// When a block was last queued.
    pub(crate) last_block: Instant,
    pub(crate) place: Place,
}

impl Stream {
    /// A stream that begins with `head`.
    pub(crate) fn new(socket: Socket, head: Bytes, place: Place) -> Self {
        let mut stream = Self {
            socket,
            queue: VecDeque::new(),
            queued: 0,
            ending: false,
            last_block: Instant::now(),
            place,
        };
        stream.push(head);
        stream
    }

    /// Queues a block.
    pub(crate) fn push(&mut self, block: Bytes) {
        self.queued += block.len();
        self.queue.push_back(block);
        self.last_block = Instant::now();
    }

    /// Bytes that the client has not taken yet.
    pub(crate) fn queued(&self) -> usize {
        self.queued
    }

    /// Queues a last block, behind which the stream closes.
    pub(crate) fn end(&mut self, farewell: Bytes) {
        self.push(farewell);
        self.ending = true;
    }

    /// Writes what the socket takes, and notices when the client is gone. Ready once the stream is
    /// over: closed by us (`Ok`), by the client (`UnexpectedEof`), or broken.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_client(cx)?;
        while let Some(block) = self.queue.front_mut() {
            let written = ready!(Pin::new(&mut self.socket).poll_write(cx, block))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.queued -= written;
            block.advance(written);
            if block.is_empty() {
                self.queue.pop_front();
            }
        }
        if self.queue.capacity() > KEPT_CAPACITY {
            self.queue.shrink_to(KEPT_CAPACITY);
        }
        if self.ending {
            return Pin::new(&mut self.socket).poll_shutdown(cx);
        }
        Poll::Pending
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

/// Blocks for which the queue keeps memory when it is empty.
const KEPT_CAPACITY: usize = 4;

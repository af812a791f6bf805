//! The task of one browser: it owns the browser's streams and gives each event to exactly one of them.
//!
//! One task per browser and not per stream, because two streams of a browser would have to agree on
//! who writes an event; here there is nothing to agree on. It never waits for a client: what a client
//! does not take is bounded, and read from the database again when it does.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::StreamExt as _;
use log::debug;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, sleep_until};

use super::stream::Stream;
use crate::config::Tuning;
use crate::deliver::{Missing, Replay, Replayer, Running};
use crate::hub::{Command, Handed, Hub, Mailbox, Memory, Message};
use crate::model::browser::BrowserKey;
use crate::model::event::Event;
use crate::model::ids::{ContactId, HistoryId};
use crate::observe::metrics::Metrics;

/// What may wait for a browser, in bytes: 300 events of a usual size fit, and one browser that does not
/// read costs no more.
const MAX_PENDING: usize = 256 * 1024;

/// When the task looks around if no stream has anything due.
const IDLE_TICK: Duration = Duration::from_secs(60);

/// What all browsers' tasks share.
#[derive(Debug, Clone)]
pub(crate) struct Shared {
    pub(crate) hub: Hub,
    pub(crate) replayer: Replayer,
    pub(crate) metrics: Metrics,
    pub(crate) tuning: watch::Receiver<Tuning>,
}

/// Runs until the browser's last place is gone.
pub(crate) async fn run(mailbox: Mailbox, shared: Shared) {
    let Mailbox {
        mut messages,
        mut commands,
        memory,
        contact_id,
        key,
    } = mailbox;
    let waiting = std::mem::take(&mut memory.lock().leftovers).into();
    let mut browser = Browser {
        contact_id,
        key,
        memory,
        shared,
        // Most browsers have one; the default growth would make room for four at once.
        streams: Vec::with_capacity(1),
        waiting,
        replay: None,
        // Whatever it missed since it was last here; nothing, if it never was.
        returning: true,
        incomplete: false,
        probes: Vec::new(),
        tests: Vec::new(),
        end: None,
    };
    let mut open = true;
    let tick = sleep_until(Instant::now());
    tokio::pin!(tick);
    while open || !browser.streams.is_empty() {
        browser.advance();
        let due = browser.next_tick();
        if tick.deadline() != due {
            tick.as_mut().reset(due);
        }
        tokio::select! {
            // Commands first, so that a stream that was handed over gets what follows it.
            biased;
            command = commands.next(), if open => match command {
                Some(command) => browser.obey(command),
                // The hub knows no place of this browser any more.
                None => open = false,
            },
            step = poll_fn(|cx| browser.poll(cx)) => match step {
                Step::Ended(index, result) => browser.remove(index, &result),
                // What is due next depends on it.
                Step::Written => {}
                Step::Replayed(replay) => browser.replayed(replay),
            },
            message = messages.recv() => match message {
                Ok(Message::Events(events)) => browser.receive(&events),
                Ok(Message::Gap) => browser.incomplete = true,
                // What is due next is asked anew anyway.
                Ok(Message::Retuned) => {}
                Err(RecvError::Lagged(missed)) => browser.lagged(missed),
                // The hub dropped the contact: every place is gone.
                Err(RecvError::Closed) => return,
            },
            () = &mut tick => browser.tick(),
        }
        // Read before looking whether messages are left: what was published before it was raised is
        // then among them.
        if let Some(settled) = browser.shared.hub.settled()
            && messages.is_empty()
            && browser.is_idle()
        {
            browser.memory.lock().position.settle(settled);
        }
    }
}

struct Browser {
    contact_id: ContactId,
    key: BrowserKey,
    memory: Memory,
    shared: Shared,
    /// Oldest first: the first is the one that gets events.
    streams: Vec<Stream>,
    /// Events that no stream has been given yet, or that came back from one that did not survive.
    waiting: VecDeque<Arc<Event>>,
    replay: Option<Running>,
    /// A replay is owed since the browser came back.
    returning: bool,
    /// A replay is owed since something may have been missed.
    incomplete: bool,
    /// Who wants to know whether the streams are alive.
    probes: Vec<oneshot::Sender<()>>,
    /// Test events that were written, and who wants to know when they are delivered. They are no events like
    /// others: never told again, part of no position, and counted nowhere.
    tests: Vec<(Arc<Event>, oneshot::Sender<()>)>,
    /// The daemon is stopping: how long the client shall wait, in milliseconds.
    end: Option<u32>,
}

/// What the browser's own futures come to.
enum Step {
    /// The stream of this index is over.
    Ended(usize, io::Result<()>),
    /// A client has taken all that waited for it.
    Written,
    Replayed(Replay),
}

impl Browser {
    /// Takes every step that is possible by now.
    fn advance(&mut self) {
        if self.replay.is_none() && self.end.is_none() {
            self.start_replay();
        }
        if self.replay.is_none() && self.end.is_none() {
            self.feed();
        }
        if let Some(retry_ms) = self.end {
            for stream in &mut self.streams {
                // What was written shall count as delivered if it was: the next daemon would tell it again.
                if stream.unconfirmed().next().is_none() {
                    stream.end(retry_ms);
                }
            }
        }
        if !self.streams.iter().any(Stream::is_probing) {
            for probe in self.probes.drain(..) {
                // Whoever asked may have left.
                let _ = probe.send(());
            }
        }
    }

    /// Starts the replay that is owed. One after a gap waits until there is a client for it that has
    /// taken what went before.
    fn start_replay(&mut self) {
        let missing = {
            let memory = self.memory.lock();
            let pending = self.pending().filter(|event| event.epoch == memory.epoch);
            Missing {
                contact_id: self.contact_id,
                position: memory.position.clone(),
                epoch: memory.epoch,
                known: (pending.flat_map(|event| event.history_ids.iter().copied())).collect(),
                settled: self.shared.hub.settled(),
            }
        };
        let replayer = &self.shared.replayer;
        if std::mem::take(&mut self.returning) {
            self.replay = Some(replayer.returning(missing));
        } else if self.incomplete
            && self.waiting.is_empty()
            && self.pending_bytes() < MAX_PENDING / 2
        {
            self.incomplete = false;
            self.shared.metrics.replays.inc();
            self.replay = Some(replayer.complete(missing));
        }
    }

    /// Gives what waits to the oldest stream.
    fn feed(&mut self) {
        if let Some(stream) = self.streams.first_mut() {
            for event in self.waiting.drain(..) {
                self.shared.metrics.events_written.inc();
                stream.write(event);
            }
        }
    }

    /// Events that are not delivered yet.
    fn pending(&self) -> impl Iterator<Item = &Arc<Event>> {
        let written = self.streams.iter().flat_map(Stream::unconfirmed);
        written.chain(&self.waiting)
    }

    fn pending_bytes(&self) -> usize {
        self.pending().map(|event| event.bytes.len()).sum()
    }

    fn is_idle(&self) -> bool {
        self.replay.is_none()
            && !self.returning
            && !self.incomplete
            && self.pending().next().is_none()
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Stream(handed) => {
                let Handed {
                    socket,
                    head,
                    place,
                } = *handed;
                debug!(
                    "stream opened for contact {}, browser {:?}",
                    self.contact_id, self.key
                );
                self.memory.lock().leftovers.clear();
                self.streams.push(Stream::new(socket, head, place));
            }
            Command::Probe(sender) => {
                for stream in &mut self.streams {
                    stream.start_probe();
                }
                self.probes.push(sender);
            }
            Command::Test(event, sender) => {
                if self.end.is_none()
                    && let Some(stream) = self.streams.first_mut()
                {
                    stream.write(Arc::clone(&event));
                    self.tests.push((event, sender));
                }
            }
            Command::End { retry_ms } => self.end = Some(retry_ms),
            Command::Revoke { retry_ms } => {
                debug!(
                    "contact {}, browser {:?}: sign-in not valid any more, or not known to be",
                    self.contact_id, self.key
                );
                self.end = Some(retry_ms);
                self.waiting.clear();
                for stream in &mut self.streams {
                    stream.revoke(retry_ms);
                }
            }
        }
    }

    fn receive(&mut self, events: &[Arc<Event>]) {
        let mut pending_bytes = self.pending_bytes();
        for event in events {
            if self.is_known(event) {
                continue;
            }
            if event.bytes.is_empty() {
                self.delivered(event);
            } else if event.history_ids.is_empty() && pending_bytes <= 2 * MAX_PENDING {
                // No replay would find it.
                pending_bytes += event.bytes.len();
                self.waiting.push_back(Arc::clone(event));
            } else if !self.incomplete && pending_bytes + event.bytes.len() <= MAX_PENDING {
                pending_bytes += event.bytes.len();
                self.waiting.push_back(Arc::clone(event));
            } else {
                if event.history_ids.is_empty() {
                    self.shared.metrics.events_dropped.inc();
                }
                if !self.incomplete {
                    // Once behind, the replay tells everything, oldest first: what is newer must not overtake it.
                    debug!(
                        "contact {}, browser {:?}: behind",
                        self.contact_id, self.key
                    );
                    self.shared.metrics.lags.inc();
                    self.incomplete = true;
                }
            }
        }
    }

    fn is_known(&self, event: &Event) -> bool {
        let memory = self.memory.lock();
        let same = |pending: &&Arc<Event>| pending.epoch == event.epoch;
        let known = |id: &HistoryId| {
            event.epoch == memory.epoch && memory.position.contains(*id)
                || (self.pending().filter(same)).any(|e| e.history_ids.contains(id))
        };
        event.history_ids.iter().any(known)
    }

    fn lagged(&mut self, missed: u64) {
        debug!(
            "contact {}, browser {:?}: {missed} messages overtook it",
            self.contact_id, self.key
        );
        self.shared.metrics.lags.inc();
        self.incomplete = true;
    }

    /// Puts what a replay found before what came in meanwhile.
    fn replayed(&mut self, replay: Replay) {
        self.replay = None;
        if replay.epoch != self.memory.lock().epoch {
            // Ids have started again meanwhile.
            self.incomplete = true;
            return;
        }
        if replay.more {
            self.incomplete = true;
            // What came in live must not overtake what the next chunk tells of the same incident; it finds both.
            self.waiting.retain(|event| event.history_ids.is_empty());
        }
        // What came in live and was found as well stands in the replay's order.
        self.waiting.retain(|event| {
            event.epoch != replay.epoch
                || !event.history_ids.iter().any(|id| {
                    replay
                        .events
                        .iter()
                        .any(|replayed| replayed.history_ids.contains(id))
                })
        });
        for event in replay.events.into_iter().rev() {
            self.waiting.push_front(event);
        }
    }

    fn delivered(&self, event: &Event) {
        self.memory.lock().delivered(event);
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Step> {
        for (index, stream) in self.streams.iter_mut().enumerate() {
            let had_to_write = !stream.is_written();
            if let Poll::Ready(result) = stream.poll(cx, &self.shared.metrics.latency) {
                return Poll::Ready(Step::Ended(index, result));
            }
            if had_to_write && stream.is_written() {
                return Poll::Ready(Step::Written);
            }
        }
        match &mut self.replay {
            Some(replay) => replay.as_mut().poll(cx).map(Step::Replayed),
            None => Poll::Pending,
        }
    }

    fn remove(&mut self, index: usize, result: &io::Result<()>) {
        let stream = self.streams.remove(index);
        let reason = match result {
            Ok(()) => "ended by us".to_owned(),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => "client left".to_owned(),
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                "client does not read".to_owned()
            }
            Err(error) => error.to_string(),
        };
        // What did not survive goes to the other stream, or waits for the next one.
        for event in stream.unconfirmed().rev() {
            if let Some(test) = self.test(event) {
                self.tests.swap_remove(test);
            } else {
                self.shared.metrics.events_returned.inc();
                self.waiting.push_front(event.again());
            }
        }
        if self.streams.is_empty() {
            // Before the place is freed: the next stream may get a new task.
            let unreplayable = |event: &&Arc<Event>| event.history_ids.is_empty();
            self.memory.lock().leftovers = self
                .waiting
                .iter()
                .filter(unreplayable)
                .map(Event::again)
                .collect();
        }
        drop(stream);
        debug!(
            "stream closed for contact {}, browser {:?}: {reason}",
            self.contact_id, self.key
        );
    }

    fn tick(&mut self) {
        let now = Instant::now();
        let keep_alive = self.keep_alive();
        let delivered: Vec<_> = self
            .streams
            .iter_mut()
            .flat_map(|stream| stream.tick(now, keep_alive))
            .collect();
        for event in delivered {
            if let Some(test) = self.test(&event) {
                let (_, sender) = self.tests.swap_remove(test);
                // Whoever asked may have left.
                let _ = sender.send(());
            } else {
                self.shared.metrics.events_delivered.inc();
                self.delivered(&event);
            }
        }
    }

    fn keep_alive(&self) -> Duration {
        self.shared.tuning.borrow().keep_alive
    }

    /// Which of the tests an event is, if it is one.
    fn test(&self, event: &Arc<Event>) -> Option<usize> {
        self.tests
            .iter()
            .position(|(test, _)| Arc::ptr_eq(test, event))
    }

    fn next_tick(&self) -> Instant {
        let keep_alive = self.keep_alive();
        let streams = (self.streams.iter()).map(|stream| stream.next_tick(keep_alive));
        streams.min().unwrap_or_else(|| Instant::now() + IDLE_TICK)
    }
}

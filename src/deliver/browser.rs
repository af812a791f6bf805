//! The task of one browser: it owns the browser's streams and writes each event to exactly one of them.
//!
//! There is one task per browser and not per stream, because two streams would have to agree on which of them writes an event. It
//! never waits for a client: what a client does not read is bounded, and read from the database again later.
//!
//! It survives its last stream for a while, because streams end regularly, so that browsers reconnect and prove what they have
//! read.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::StreamExt as _;
use log::debug;
use rand::RngExt as _;
use thin_vec::ThinVec;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, Sleep, sleep_until};

use super::carried::{self, Named, Unread};
use super::ended::Ended;
use super::pace::Pace;
use super::receipt::{self, Habits, Receipt};
use super::stream::Stream;
use crate::config::Tuning;
use crate::deliver::{Missing, Replay, Replayer, Running};
use crate::hub::{Command, Handed, Hub, Mailbox, Memory, Message};
use crate::model::event::{self, Event};
use crate::model::explanation::{Connected, Pending, now_s};
use crate::model::ids::HistoryId;
use crate::model::returned::{LastEventId, Returned};
use crate::observe::metrics::{Metrics, Proof};

/// What may wait for a browser, in bytes: room for 300 events of the usual size, and a bound for a browser that does not read.
const MAX_PENDING: usize = 256 * 1024;

/// Time between two streams of a browser that end for receipts, and until the first does: each costs the browser, the proxy and
/// the daemon a request.
const RETURN_INTERVAL: Duration = Duration::from_secs(2);

/// How many unread bytes make a stream end earlier, so that there is room for more events.
const MUCH_UNREAD: usize = MAX_PENDING / 4;

/// When a stream without events is ended: often enough to find dead ones, and rarely enough to cost nothing.
const RENEWAL: std::ops::Range<Duration> = Duration::from_secs(240)..Duration::from_secs(360);

/// The same for Firefox, which ends the requests of its service worker 30 seconds after the worker's last event, without
/// notifying the proxy. Each request is such an event.
const FIREFOX_RENEWAL: std::ops::Range<Duration> = Duration::from_secs(18)..Duration::from_secs(22);

/// The same for a browser's first stream, to learn how late the browser returns.
const FIRST_RENEWAL: std::ops::Range<Duration> = Duration::from_secs(2)..Duration::from_secs(10);

/// The longest time from a request to its stream: as long as the database may take to answer, or until a browser returns that was
/// asked to come back later because the database was unreachable.
const HAND_OVER_TIMEOUT: Duration = Duration::from_secs(10);

/// Time between two streams that are ended for a third tab that is alive.
const DISPLACE_INTERVAL: Duration = Duration::from_secs(60);

/// The delay of this process, stopped or without CPU time, from which it waits longer for receipts.
const STALLED: Duration = Duration::from_millis(250);

/// How often an event is written without a receipt before it is given up and its rows count as done: for a client that reads, but
/// does not return as asked. More than three, because three streams in a row may be dead.
const MAX_WRITES: u8 = 5;

/// How many unacknowledged rows are reported to `explain`.
const ROWS: usize = 64;

/// How long to wait for receipts when the daemon stops.
const LAST_RECEIPTS: Duration = Duration::from_secs(1);

/// The state shared by the tasks of all browsers.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) hub: Hub,
    pub(crate) replayer: Replayer,
    pub(crate) metrics: Metrics,
    pub(crate) tuning: watch::Receiver<Tuning>,
    pub(crate) pace: Pace,
}

/// Runs until the browser has no stream and none is expected, or has to end.
///
/// Not an async function, because its future would keep the arguments twice, and there is one per browser.
pub(crate) fn run(mailbox: Mailbox, shared: Arc<Shared>) -> impl Future<Output = ()> + Send {
    let Mailbox {
        mut messages,
        mut commands,
        memory,
    } = mailbox;
    let mut browser = Browser::new(memory, shared);
    async move {
        let tick = sleep_until(Instant::now());
        tokio::pin!(tick);
        while !browser.is_over() {
            browser.advance();
            browser.schedule(tick.as_mut());
            tokio::select! {
                // Commands first, so that a stream that was handed over gets the events after it.
                biased;
                command = commands.next() => match command {
                    Some(command) => browser.handle(command),
                    // The hub has unregistered the browser.
                    None => return,
                },
                step = poll_fn(|cx| browser.poll(cx)) => match step {
                    Step::Ended(index, result) => browser.remove(index, &result),
                    // The next due time depends on it.
                    Step::Written => {}
                    Step::Replayed(replay) => browser.replayed(replay),
                },
                message = messages.recv() => match message {
                    Ok(Message::Events(events)) => browser.receive(&events),
                    Ok(Message::Gap) => browser.incomplete = true,
                    // The next due time is computed again anyway.
                    Ok(Message::SettingsChanged) => {}
                    Err(RecvError::Lagged(missed)) => browser.lagged(missed),
                    Err(RecvError::Closed) => return,
                },
                () = &mut tick => browser.tick(tick.deadline()),
            }
            // Read before checking for messages: messages that were published before it was raised are then in the channel.
            if let Some(settled) = browser.shared.hub.settled()
                && messages.is_empty()
                && browser.is_idle()
            {
                browser.memory.lock().position.settle(settled);
            }
        }
    }
}

struct Browser {
    memory: Memory,
    shared: Arc<Shared>,
    /// Oldest first. Events go to the last one, because its request proves that its client is alive.
    streams: ThinVec<Stream>,
    /// Ended streams whose receipt may still arrive.
    ended: ThinVec<Ended>,
    habits: Habits,
    firefox: bool,
    /// Since when the browser is connected, in seconds since the Unix epoch.
    since_s: u32,
    /// The time of its last request, in the same unit.
    returned_s: u32,
    /// Whether the proxy sent the address that it came from.
    forwarded: bool,
    /// Whether that request was a receipt.
    acknowledges: bool,
    /// When a stream was last ended for a receipt, or the task began.
    last_end: Instant,
    /// The time of the last request that was a receipt.
    receipt_at: Option<std::time::Instant>,
    /// Until when the stream of a request is expected.
    expected_until: Option<Instant>,
    /// Events that are not written to a stream yet, or were not read.
    waiting: ThinVec<Unread>,
    replay: Option<Running>,
    /// A replay is needed because the browser was disconnected.
    returning: bool,
    /// A replay is needed because events may have been missed.
    incomplete: bool,
    /// Boxed like `end`, because few browsers need them.
    rare: Option<Box<Rare>>,
    end: Option<Box<End>>,
}

/// State that few browsers need.
#[derive(Default)]
struct Rare {
    /// When a stream was last ended for a third one.
    displaced_at: Option<Instant>,
    /// Requests that wait for a stream to end.
    room: Vec<oneshot::Sender<()>>,
    /// Test events and whom to notify of their delivery. Unlike other events they are not taken over by another task, belong to
    /// no position and are not counted.
    tests: Vec<(Arc<Event>, oneshot::Sender<()>)>,
}

/// How all streams of a browser end.
struct End {
    /// When clients should reconnect.
    retry: Duration,
    /// Until when to wait for receipts.
    until: Instant,
}

/// A result of the browser's own futures.
enum Step {
    /// The stream with this index has ended.
    Ended(usize, io::Result<()>),
    /// All bytes that waited for a client are written.
    Written,
    Replayed(Replay),
}

impl Browser {
    fn new(memory: Memory, shared: Arc<Shared>) -> Self {
        let leftovers = std::mem::take(&mut memory.lock().leftovers);
        let unread = |event| Unread { event, writes: 0 };
        Self {
            memory,
            shared,
            // Most browsers have one; the default growth would allocate four.
            streams: ThinVec::with_capacity(1),
            ended: ThinVec::new(),
            habits: Habits::default(),
            firefox: false,
            since_s: now_s(),
            returned_s: now_s(),
            forwarded: false,
            acknowledges: false,
            // Its other tabs connect at about this time, too. If the first stream had ended already, and its client had gone
            // without reading, the request of another could pass for its receipt, as long as the browser's lateness is unknown.
            last_end: Instant::now(),
            receipt_at: None,
            expected_until: Some(Instant::now() + HAND_OVER_TIMEOUT),
            waiting: leftovers.into_iter().map(unread).collect(),
            replay: None,
            // For what it missed since it was last connected; nothing, if it never was.
            returning: true,
            incomplete: false,
            rare: None,
            end: None,
        }
    }

    /// Whether there is nothing more to wait for. If so, the hub has unregistered the browser.
    fn is_over(&self) -> bool {
        let now = Instant::now();
        let over = match &self.end {
            Some(end) => {
                let awaits = end.until > now && self.ended.iter().any(Ended::is_awaited);
                self.streams.is_empty() && !awaits
            }
            // The browser may still name events that were written.
            None => {
                self.is_disconnected() && self.ended.iter().all(|e| e.carried.events.is_empty())
            }
        };
        if !over {
            return false;
        }
        // Before the browser is unregistered: its next stream gets a new task.
        let unreplayable =
            |event: &&Arc<Event>| event.history_ids.is_empty() && self.test(event).is_none();
        self.memory.lock().leftovers = self.pending().filter(unreplayable).cloned().collect();
        // Fails if a stream is being handed over.
        self.shared.hub.forget_browser(&self.memory)
    }

    /// Takes all steps that are possible now.
    fn advance(&mut self) {
        if let Some(end) = &self.end {
            let retry = end.retry;
            for index in 0..self.streams.len() {
                if self.streams[index].carried().events.is_empty() {
                    self.streams[index].end(retry);
                } else {
                    // Without a receipt for events that were read, the next daemon would send them again.
                    self.end_for_receipt(index);
                }
            }
            return;
        }
        if self.is_disconnected() {
            self.leave_to_replay();
        } else {
            if self.replay.is_none() {
                self.start_replay();
            }
            if self.replay.is_none() {
                self.feed();
            }
        }
    }

    /// Whether there is no stream and none is expected.
    fn is_disconnected(&self) -> bool {
        let mut ended = self.ended.iter();
        self.streams.is_empty()
            && !ended.any(|ended| ended.ending().is_some())
            && self
                .expected_until
                .is_none_or(|until| until <= Instant::now())
    }

    /// Keeps only events that no replay would find. When the browser reconnects, it is sent what it missed, within the usual
    /// limits.
    fn leave_to_replay(&mut self) {
        self.replay = None;
        self.returning = true;
        self.waiting
            .retain(|unread| unread.event.history_ids.is_empty());
        // No client would show them.
        let rare = self.rare.as_mut();
        let tests = rare
            .map(|rare| std::mem::take(&mut rare.tests))
            .unwrap_or_default();
        self.waiting.retain(|unread| {
            !tests
                .iter()
                .any(|(test, _)| Arc::ptr_eq(test, &unread.event))
        });
    }

    /// Starts a replay if one is needed. After a gap it waits until a client has read earlier events.
    fn start_replay(&mut self) {
        let gap =
            self.incomplete && self.waiting.is_empty() && self.pending_bytes() < MAX_PENDING / 2;
        if !self.returning && !gap {
            return;
        }
        let Some((named, epoch)) = self.shared.hub.epoch() else {
            // The first look reports a gap.
            return;
        };
        let missing = {
            let memory = self.memory.lock();
            if memory.epoch != epoch {
                // The gap is about to be reported.
                return;
            }
            let pending = self.pending().filter(|event| event.epoch == memory.epoch);
            Missing {
                contact_id: self.memory.contact_id(),
                position: memory.position.clone(),
                epoch,
                named,
                known: (pending.flat_map(|event| event.history_ids.iter().copied())).collect(),
                settled: self.shared.hub.settled(),
            }
        };
        let replayer = &self.shared.replayer;
        if std::mem::take(&mut self.returning) {
            self.replay = Some(replayer.returning(missing));
        } else {
            self.incomplete = false;
            self.shared.metrics.replays.inc();
            self.replay = Some(replayer.complete(missing));
        }
    }

    /// Writes waiting events to the newest stream, which is ended soon after.
    fn feed(&mut self) {
        if self.waiting.is_empty() {
            return;
        }
        let tests = (self.waiting.iter()).any(|unread| self.test(&unread.event).is_some());
        let is_open = |stream: &&mut Stream| !stream.is_ending();
        let Some(stream) = self.streams.iter_mut().rev().find(is_open) else {
            return;
        };
        let now = Instant::now();
        let mut due = self.shared.pace.after_event(now);
        let much = stream.carried().bytes() + bytes(&self.waiting) > MUCH_UNREAD;
        // A test should be acknowledged soon.
        if !much && !tests {
            due = due.max(self.last_end + RETURN_INTERVAL);
        }
        for unread in std::mem::take(&mut self.waiting) {
            self.shared.metrics.events_written.inc();
            stream.write(unread);
        }
        stream.end_by(due);
    }

    /// Ends a stream that is not ending yet, so that its browser's return proves what was read.
    fn end_for_receipt(&mut self, index: usize) {
        if self.streams[index].is_ending() {
            return;
        }
        let now = std::time::Instant::now();
        // Differs from those of streams that await a receipt: each return must match only one of them.
        let mut retry = Duration::ZERO;
        for _ in 0..8 {
            let drawn = rand::rng().random_range(receipt::RETRY_MS);
            retry = Duration::from_millis(drawn.into());
            let mut awaited = self.ended.iter().filter_map(Ended::ending);
            if !awaited.any(|ending| ending.is_near(now + retry)) {
                break;
            }
        }
        self.streams[index].end(retry);
        self.last_end = Instant::from_std(now);
    }

    /// Events that are not delivered yet.
    fn pending(&self) -> impl Iterator<Item = &Arc<Event>> {
        let streams = self.streams.iter().map(Stream::carried);
        let ended = self.ended.iter().filter(|ended| ended.is_awaited());
        let carried = streams.chain(ended.map(|ended| &ended.carried));
        let unread = carried.flat_map(|carried| &carried.events);
        unread.chain(&self.waiting).map(|unread| &unread.event)
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

    fn handle(&mut self, command: Command) {
        match command {
            Command::Stream(handed) => self.open(*handed),
            Command::Returned(returned) => self.returned(&returned),
            Command::MakeRoom(at, sender) => self.make_room(at, sender),
            Command::Test(event, sender) => {
                if self.end.is_none() && !self.is_disconnected() {
                    let tests = &mut self.rare.get_or_insert_default().tests;
                    tests.push((Arc::clone(&event), sender));
                    self.waiting.push(Unread { event, writes: 0 });
                }
            }
            Command::Explain(sender) => {
                // Otherwise the sender is dropped: the browser is disconnected.
                if !self.is_disconnected() {
                    let _ = sender.send(self.explain());
                }
            }
            Command::End { retry } => {
                let until = Instant::now() + LAST_RECEIPTS;
                self.end = Some(Box::new(End { retry, until }));
            }
            Command::Revoke { retry } => {
                debug!(
                    "{}: sign-in no longer valid, or cannot be checked",
                    self.memory
                );
                let until = Instant::now();
                self.end = Some(Box::new(End { retry, until }));
                self.waiting.clear();
                self.ended.clear();
                for stream in &mut self.streams {
                    stream.revoke(retry);
                }
            }
        }
    }

    fn open(&mut self, handed: Handed) {
        debug!("stream opened for {}", self.memory);
        self.firefox = handed.returned.firefox;
        self.forwarded = handed.returned.client.is_some();
        let now = Instant::now();
        let explained = self.receipt_at == Some(handed.returned.at);
        for index in 0..self.streams.len() {
            // Without a receipt, the request is from a new tab, or replaces a dead stream that the proxy still keeps open. Tabs
            // that are alive reconnect.
            if !explained || !self.streams[index].carried().events.is_empty() {
                self.end_for_receipt(index);
            }
        }
        // Their receipts have arrived or will not.
        for ended in &mut self.ended {
            if ended.carried.events.is_empty() {
                ended.stop_waiting();
            }
        }
        let renewal = if self.firefox {
            FIREFOX_RENEWAL
        } else if self.habits.are_known() {
            RENEWAL
        } else {
            FIRST_RENEWAL
        };
        let end_due = now + rand::rng().random_range(renewal);
        self.expected_until = None;
        // Usually one; the default growth would allocate four.
        self.streams.reserve_exact(1);
        self.streams.push(Stream::new(handed, end_due));
    }

    /// Ends a stream for the request from `at`, if that may replace one. A request that is not a receipt may: it comes from a
    /// page that was just loaded, or from another network, and the old streams are dead or reconnect. A receipt comes from a
    /// third tab that is alive: those may take turns once in a while.
    fn make_room(&mut self, at: std::time::Instant, sender: oneshot::Sender<()>) {
        let now = Instant::now();
        let rare = self.rare.get_or_insert_default();
        if !self.streams.iter().any(Stream::is_ending) {
            let recently = |displaced_at| now < displaced_at + DISPLACE_INTERVAL;
            if self.receipt_at == Some(at) && rare.displaced_at.is_some_and(recently) {
                return;
            }
            if !self.streams.is_empty() {
                rare.displaced_at = Some(now);
                self.end_for_receipt(0);
            }
        }
        self.rare.get_or_insert_default().room.push(sender);
    }

    /// Evaluates a request as a receipt.
    fn returned(&mut self, returned: &Returned) {
        self.expected_until = Some(Instant::now() + HAND_OVER_TIMEOUT);
        let awaited: Vec<usize> = (0..self.ended.len())
            .filter(|index| self.ended[*index].ending().is_some())
            .collect();
        let endings: Vec<_> = (awaited.iter())
            .filter_map(|index| self.ended[*index].ending())
            .collect();
        let receipt = self.habits.judge(returned, &endings);
        // Signed, because it may arrive early.
        let late = (endings.iter()).map(|ending| {
            let expected = ending.at + ending.retry;
            let late = returned
                .at
                .saturating_duration_since(expected)
                .as_secs_f64();
            let early = expected
                .saturating_duration_since(returned.at)
                .as_secs_f64();
            format!("{:.0} ms late", (late - early) * 1000.0)
        });
        debug!(
            "{}: is back: {receipt:?} of [{}]",
            self.memory,
            late.collect::<Vec<_>>().join(", ")
        );
        self.habits.learn(returned, &endings);
        let proof = match receipt {
            Receipt::Named(named) => self.named(named),
            Receipt::Punctual(index) => {
                let ended = self.ended.remove(awaited[index]);
                self.read(ended.carried.events.into_iter().collect(), true);
                Proof::Time
            }
            Receipt::None => Proof::None,
        };
        self.returned_s = now_s();
        self.forwarded = returned.client.is_some();
        self.acknowledges = proof != Proof::None;
        if self.acknowledges {
            self.receipt_at = Some(returned.at);
        }
        self.shared.metrics.returned(proof);
    }

    /// Describes its streams.
    fn explain(&self) -> Connected {
        let streams = self.streams.iter().map(Stream::carried);
        let ended = self.ended.iter().filter(|ended| ended.is_awaited());
        let carried = streams.chain(ended.map(|ended| &ended.carried));
        let written: Vec<_> = carried.flat_map(|carried| &carried.events).collect();
        let rows = |unread: &&Unread| {
            let (writes, rows) = (unread.writes, unread.event.history_ids.clone());
            rows.into_iter().map(move |row| Pending { row, writes })
        };
        // In a storm, the newest ones are of interest.
        let mut pending: Vec<_> = written
            .iter()
            .copied()
            .chain(&self.waiting)
            .flat_map(|u| rows(&u))
            .collect();
        pending.sort_unstable_by_key(|pending| pending.row);
        pending.drain(..pending.len().saturating_sub(ROWS));
        Connected {
            streams: self.streams.len(),
            since_s: self.since_s,
            returned_s: self.returned_s,
            acknowledges: self.acknowledges,
            forwarded: self.forwarded,
            names: self.habits.names(),
            late_ms: self.habits.late_ms(),
            unacknowledged: written.len(),
            pending,
        }
    }

    /// Takes the receipt of a browser that sends `Last-Event-ID`.
    fn named(&mut self, named: LastEventId) -> Proof {
        // A browser comes back because its stream is over. An open stream is meant only if the proxy has not noticed that yet.
        let ended = self.ended.iter().map(|ended| &ended.carried);
        if let Some(Named { read, index, left }) = carried::read_by(ended, named) {
            self.read(read, true);
            let ended = &mut self.ended[index];
            if left || ended.carried.events.is_empty() {
                // If no receipt is awaited any more, the rest was queued again already.
                let awaited = ended.is_awaited();
                let rest = ended.take_unread();
                if awaited {
                    self.unread(rest);
                }
            }
            return Proof::Id;
        }
        let open = self.streams.iter().map(Stream::carried);
        if let Some(Named { read, index, left }) = carried::read_by(open, named) {
            self.read(read, true);
            if left {
                let stream = &mut self.streams[index];
                let rest = stream.carried_mut().events.drain(..).collect();
                stream.end(event::RETRY);
                self.unread(rest);
            }
            return Proof::Id;
        }
        Proof::None
    }

    /// Marks events as read, on all streams that carried them; or as given up, if they were not `acknowledged`.
    fn read(&mut self, read: Vec<Unread>, acknowledged: bool) {
        let mut done: Vec<Arc<Event>> = Vec::new();
        for Unread { event, .. } in read {
            // An event written to two streams is in both.
            if done.iter().any(|read| Arc::ptr_eq(read, &event)) {
                continue;
            }
            let is_it = |unread: &Unread| Arc::ptr_eq(&unread.event, &event);
            self.waiting.retain(|unread| !is_it(unread));
            for stream in &mut self.streams {
                stream.carried_mut().events.retain(|unread| !is_it(unread));
            }
            for ended in &mut self.ended {
                ended.carried.events.retain(|unread| !is_it(unread));
            }
            if let (Some(test), Some(rare)) = (self.test(&event), &mut self.rare) {
                let (_, sender) = rare.tests.swap_remove(test);
                // The requester may have gone.
                let _ = sender.send(());
            } else {
                self.shared.metrics.events_delivered.inc();
                self.delivered(&event, acknowledged);
            }
            done.push(event);
        }
    }

    fn delivered(&self, event: &Event, acknowledged: bool) {
        let hub = &self.shared.hub;
        hub.delivered(&self.memory, event, acknowledged);
    }

    /// Queues events that were not read again, before those that wait.
    fn unread(&mut self, unread: Vec<Unread>) {
        let (over, again): (Vec<_>, Vec<_>) =
            (unread.into_iter()).partition(|unread| unread.writes >= MAX_WRITES);
        self.shared
            .metrics
            .events_returned
            .inc_by(again.len() as u64);
        self.wait_first(again);
        if !over.is_empty() {
            debug!(
                "{}: {} events were written {MAX_WRITES} times without a receipt, and are given up",
                self.memory,
                over.len()
            );
            self.shared.metrics.give_up(over.len());
            self.read(over, false);
        }
    }

    fn receive(&mut self, events: &[Arc<Event>]) {
        let mut pending_bytes = self.pending_bytes();
        for event in events {
            if self.is_known(event) {
                continue;
            }
            let unread = Unread {
                event: Arc::clone(event),
                writes: 0,
            };
            if event.bytes.is_empty() {
                self.delivered(event, true);
            } else if event.history_ids.is_empty() && pending_bytes <= 2 * MAX_PENDING {
                // No replay would find it.
                pending_bytes += event.bytes.len();
                self.waiting.push(unread);
            } else if !self.incomplete && pending_bytes + event.bytes.len() <= MAX_PENDING {
                pending_bytes += event.bytes.len();
                self.waiting.push(unread);
            } else {
                if event.history_ids.is_empty() {
                    self.shared.metrics.events_dropped.inc();
                }
                if !self.incomplete {
                    // The replay will send everything, oldest first: newer events must not overtake it.
                    debug!("{}: behind", self.memory);
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
        debug!("{}: missed {missed} messages", self.memory);
        self.shared.metrics.lags.inc();
        self.incomplete = true;
    }

    /// Queues the events of a replay before those that arrived meanwhile.
    fn replayed(&mut self, replay: Replay) {
        self.replay = None;
        if replay.epoch != self.memory.lock().epoch {
            // Ids have restarted meanwhile.
            self.incomplete = true;
            return;
        }
        if replay.more {
            self.incomplete = true;
            // Live events must not overtake older ones of the same incident in the next chunk, which finds both.
            self.waiting
                .retain(|unread| unread.event.history_ids.is_empty() || unread.writes > 0);
        }
        // A live event that the replay also found keeps the replay's order.
        let found = |event: &Event| {
            let mut ids = replay
                .events
                .iter()
                .flat_map(|replayed| &replayed.history_ids);
            event.epoch == replay.epoch && ids.any(|id| event.history_ids.contains(id))
        };
        self.waiting.retain(|unread| !found(&unread.event));
        let unread = |event| Unread { event, writes: 0 };
        self.wait_first(replay.events.into_iter().map(unread));
    }

    /// Queues events before those that wait.
    fn wait_first(&mut self, first: impl IntoIterator<Item = Unread>) {
        let later = std::mem::take(&mut self.waiting);
        self.waiting = first.into_iter().chain(later).collect();
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Step> {
        for (index, stream) in self.streams.iter_mut().enumerate() {
            let had_to_write = !stream.is_written();
            if let Poll::Ready(result) = stream.poll(cx, &self.shared.metrics) {
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
        self.streams.shrink_to_fit();
        let reason = match result {
            Ok(()) => "ended by the daemon".to_owned(),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => "client left".to_owned(),
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                "client does not read".to_owned()
            }
            Err(error) => error.to_string(),
        };
        debug!("stream closed for {}: {reason}", self.memory);
        let now = Instant::now();
        let mut ended = Ended::new(stream, now, result.is_ok(), &self.habits);
        if ended.ending().is_none() {
            // Unread events go to the other stream, or wait for the next one.
            self.unread(ended.take_unread());
        }
        self.ended.reserve_exact(1);
        self.ended.push(ended);
        self.notify_room();
    }

    /// Notifies requests that wait for a place.
    fn notify_room(&mut self) {
        for sender in self.rare.iter_mut().flat_map(|s| s.room.drain(..)) {
            // The requester may have gone.
            let _ = sender.send(());
        }
    }

    /// Does what is due; `due` is the time it was scheduled for.
    fn tick(&mut self, due: Instant) {
        let now = Instant::now();
        if due + STALLED < now {
            // Receipts that arrived meanwhile may not have been handled yet.
            for ended in &mut self.ended {
                ended.wait_until(now + STALLED);
            }
        }
        let keep_alive = self.keep_alive();
        for index in 0..self.streams.len() {
            self.streams[index].tick(now, keep_alive);
            if self.streams[index].end_due().is_some_and(|due| due <= now) {
                self.end_for_receipt(index);
            }
        }
        let is_due = |ended: &&mut Ended| ended.unread_at().is_some_and(|at| at <= now);
        let overdue = self.ended.iter_mut().filter(is_due);
        let unread = overdue.flat_map(Ended::take_unread).collect();
        self.unread(unread);
        self.ended.retain(|ended| now < ended.forget_at());
        if self.ended.is_empty() {
            // Usually it stays empty for minutes.
            self.ended = ThinVec::new();
        }
    }

    fn keep_alive(&self) -> Duration {
        self.shared.tuning.borrow().keep_alive
    }

    /// The index of a test event; `None` for other events.
    fn test(&self, event: &Arc<Event>) -> Option<usize> {
        let tests = self.rare.as_ref().map(|rare| rare.tests.iter());
        tests?.position(|(test, _)| Arc::ptr_eq(test, event))
    }

    /// Sets `tick` to when something is due.
    fn schedule(&self, tick: Pin<&mut Sleep>) {
        let due = self.next_tick();
        if tick.deadline() != due {
            tick.reset(due);
        }
    }

    fn next_tick(&self) -> Instant {
        let keep_alive = self.keep_alive();
        let streams = (self.streams.iter()).map(|stream| stream.next_tick(keep_alive));
        let ended = self.ended.iter().map(Ended::next_tick);
        let now = Instant::now();
        // Deadlines that have passed are ignored.
        let end = (self.end.as_ref()).map(|end| end.until);
        let end = end.filter(|until| now < *until);
        let expected = self.expected_until.filter(|until| now < *until);
        let ticks = streams.chain(ended).chain(end).chain(expected);
        // Without any of these the browser is over, unless a stream is being handed over, which is a command.
        ticks.min().unwrap_or(now + HAND_OVER_TIMEOUT)
    }
}

fn bytes(unread: &[Unread]) -> usize {
    unread.iter().map(|unread| unread.event.bytes.len()).sum()
}

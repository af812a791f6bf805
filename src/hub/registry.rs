//! The registry of the hub: who is connected, which broadcast channel reaches them, and what they have acknowledged.
//!
//! It maps a contact id to that contact's broadcast channel and browsers. A browser (one signed-in session) has at most
//! [`MAX_STREAMS`] streams, all owned by one task ([`crate::deliver`]), because each event is written to exactly one of them. It
//! stays registered for a while after its last stream. Publishing never blocks, and wakes only the contact's browsers.
//!
//! What a browser has acknowledged survives its task as its [`Memory`], and the process in the database
//! ([`crate::hub::Positions`]).
//!
//! One mutex guards the maps: each operation is a few look-ups, and no guard is held across an await.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use futures::channel::mpsc;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{broadcast, oneshot};

use super::browsers::{Browsers, Keyed};
use super::memory::{Memory, Remembered};
use super::refusals::Refusals;
use crate::model::browser::{AgentKey, BrowserKey};
use crate::model::event::{self, Event};
use crate::model::explanation::{Connected, Done, Other, Refused, Why};
use crate::model::ids::{ContactId, HistoryId};
use crate::model::returned::{Mark, Returned};
use crate::model::sign_in::SignIn;
use crate::model::timeline::{Epoch, Timeline};
use crate::net::Socket;

/// Streams per browser: Icinga Web's service worker allows two tabs, and its manual promises no more.
pub(crate) const MAX_STREAMS: usize = 2;

/// How long a checked sign-in counts as valid. All are checked twice in that time.
const VALID_FOR: Duration = Duration::from_secs(60);

/// How long after its last stream a browser is expected to reconnect, which takes less than a second.
const EXPECTED_FOR: Duration = Duration::from_secs(2);

/// How many messages a contact's broadcast channel holds for browsers that have not received them yet. A message has all events
/// of the contact from one query of the resolver, so a storm is a few messages, and browsers receive between two queries. A slot
/// costs 48 bytes per recipient.
const BROADCAST_CAPACITY: usize = 2;

/// A message to all browsers of a contact.
#[derive(Debug, Clone)]
pub(crate) enum Message {
    /// The events from one query of the resolver, in order. An event without bytes is not shown and only marks its rows as done.
    Events(Arc<[Arc<Event>]>),
    /// Events may have been missed: start a replay.
    Gap,
    /// Settings have changed, and with them the times at which something is due.
    SettingsChanged,
}

/// A command to a browser's task.
#[derive(Debug)]
pub(crate) enum Command {
    /// A connection was handed over and is a stream now.
    Stream(Box<Handed>),
    /// The browser requested a stream: this may be a receipt. Boxed, because each browser has room for one command.
    Returned(Box<Returned>),
    /// A request from this time found no free place: end a stream for it, if it may have one.
    MakeRoom(Instant, oneshot::Sender<()>),
    /// The sign-in is no longer valid, or cannot be checked: end all streams at once.
    Revoke {
        /// When the client should reconnect.
        retry: Duration,
    },
    /// Write this event to a stream, and reply when it is delivered. If that never happens, the sender is dropped.
    Test(Arc<Event>, oneshot::Sender<()>),
    /// Describe the browser's streams. If it has none and none is expected, the sender is dropped.
    Explain(oneshot::Sender<Connected>),
    /// The daemon stops: end all streams, and wait a moment for receipts.
    End {
        /// When the client should reconnect.
        retry: Duration,
    },
}

/// A connection that is handed over to its browser's task.
#[derive(Debug)]
pub(crate) struct Handed {
    pub(crate) socket: Socket,
    /// The head of the answer and the first bytes of its body, not written yet.
    pub(crate) head: bytes::Bytes,
    /// The mark in the first bytes.
    pub(crate) mark: Mark,
    /// The request.
    pub(crate) returned: Returned,
    /// The stream's place.
    pub(crate) place: Place,
}

/// The inputs of a new browser's task.
#[derive(Debug)]
pub(crate) struct Mailbox {
    /// The contact's events.
    pub(crate) messages: broadcast::Receiver<Message>,
    /// Everything else.
    pub(crate) commands: mpsc::UnboundedReceiver<Command>,
    /// Which browser it is, and what it has acknowledged.
    pub(crate) memory: Memory,
}

/// Which sign-ins to check again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Recheck {
    /// The browser's.
    Browser(BrowserKey),
    /// The contact's.
    Contact(ContactId),
    /// All.
    All,
}

/// What is known about a browser.
#[derive(Debug)]
pub(crate) struct KnownBrowser {
    pub(crate) key: BrowserKey,
    /// The reply of its task, if it has one.
    pub(crate) connected: Option<oneshot::Receiver<Connected>>,
    /// The outcome of the last rows that it was sent, oldest first.
    pub(crate) done: Vec<Done>,
}

/// Why there is no place for a stream.
#[derive(Debug)]
pub(crate) enum Full {
    /// The browser has its two streams; see [`Hub::make_room`].
    Browser,
    /// The daemon has its maximum number of streams.
    Daemon,
    /// The daemon is stopping.
    Stopping,
    /// Ids have restarted since the sign-in was queried.
    EpochChanged,
}

/// A handle to the hub. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Hub(pub(super) Arc<Shared>);

#[derive(Debug)]
pub(super) struct Shared {
    max_streams: usize,
    state: Mutex<State>,
    /// [`UNKNOWN`] until the first look.
    pub(super) settled: AtomicI64,
    newest: AtomicI64,
    refusals: Mutex<Refusals>,
}

/// No id is known to be settled.
pub(super) const UNKNOWN: i64 = -1;

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) recipients: HashMap<ContactId, Recipient>,
    /// By browser: those that are registered, and those that left a while ago.
    pub(super) memories: HashSet<Memory>,
    /// Those whose position has changed since it was last stored, in that order: no scan of all memories is needed.
    pub(super) unstored: Vec<Memory>,
    /// Disconnected browsers and when they left, in that order. They may have reconnected.
    pub(super) left: VecDeque<(Instant, Memory)>,
    streams: usize,
    stopping: bool,
    /// The timeline that all ids here belong to.
    pub(super) timeline: Option<Timeline>,
    /// When all sign-ins may last have changed.
    invalidated_at: Option<Instant>,
    /// The epoch of the ids; `None` until the first look.
    pub(super) epoch: Option<Epoch>,
    /// How many epochs have ended.
    pub(super) epoch_number: u64,
}

#[derive(Debug)]
pub(super) struct Recipient {
    messages: broadcast::Sender<Message>,
    pub(super) browsers: Browsers<Browser>,
}

#[derive(Debug)]
pub(super) struct Browser {
    memory: Memory,
    commands: mpsc::UnboundedSender<Command>,
    /// Places taken, including those whose connection is not handed over yet.
    places: usize,
    agent: AgentKey,
    /// The time of the last check that found its sign-in valid.
    valid_at: Instant,
    /// When its sign-in may last have changed.
    invalidated_at: Option<Instant>,
    /// When it last freed a place.
    left_at: Instant,
}

impl Keyed for Browser {
    fn key(&self) -> BrowserKey {
        self.memory.key()
    }
}

impl Hub {
    /// A hub for at most `max_streams` streams.
    pub(crate) fn new(max_streams: usize) -> Self {
        Self(Arc::new(Shared {
            max_streams,
            state: Mutex::default(),
            settled: AtomicI64::new(UNKNOWN),
            newest: AtomicI64::new(0),
            refusals: Mutex::default(),
        }))
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock()
    }

    /// Whether this process remembers the browser.
    pub(crate) fn remembers(&self, contact_id: ContactId, key: BrowserKey) -> bool {
        self.state().memory(contact_id, key).is_some()
    }

    /// Takes a place for another stream of a registered browser whose sign-in is known to be valid: it was checked within the
    /// last minute, and has not changed since. Otherwise `None`.
    pub(crate) fn come_back(
        &self,
        key: BrowserKey,
        agent: AgentKey,
    ) -> Option<Result<Place, Full>> {
        let mut guard = self.state();
        let state = &mut *guard;
        let contact_id = state.memories.get(&key)?.contact_id();
        let recipient = state.recipients.get_mut(&contact_id)?;
        let browser = recipient.browsers.get_mut(key)?;
        let invalidated_at = browser.invalidated_at.max(state.invalidated_at);
        // A browser that was disconnected for longer may have acknowledged events on another bridge.
        let expected = browser.places > 0 || browser.left_at.elapsed() < EXPECTED_FOR;
        let valid = expected
            && browser.agent == agent
            && browser.valid_at.elapsed() < VALID_FOR
            && invalidated_at.is_none_or(|invalidated_at| invalidated_at < browser.valid_at);
        if !valid {
            return None;
        }
        let taken = if state.stopping {
            Err(Full::Stopping)
        } else if state.streams >= self.0.max_streams {
            Err(Full::Daemon)
        } else {
            browser.take_place()
        };
        Some(taken.map(|()| {
            state.streams += 1;
            self.place(&browser.memory)
        }))
    }

    /// Passes a request to a registered browser, because it may be a receipt, whether it is accepted or not: a client that knows
    /// the session id and user agent of a browser can thereby only report what the browser has read.
    pub(crate) fn returned(&self, key: BrowserKey, agent: AgentKey, returned: &Returned) {
        let state = self.state();
        if let Some(browser) = (state.browser(key)).filter(|browser| browser.agent == agent) {
            // A task that has ended waits for no receipt.
            let _ = browser
                .commands
                .unbounded_send(Command::Returned(Box::new(*returned)));
        }
    }

    /// Asks for a place for the request from `at`, of a browser without a free place. Resolves when one is free, or with an error
    /// if none will be.
    pub(crate) fn make_room(&self, key: BrowserKey, at: Instant) -> oneshot::Receiver<()> {
        let (sender, receiver) = oneshot::channel();
        if let Some(browser) = self.state().browser(key) {
            // If the task has ended, the sender is dropped.
            let _ = browser
                .commands
                .unbounded_send(Command::MakeRoom(at, sender));
        }
        receiver
    }

    /// Records that sign-ins may have changed. Until they are checked again, these browsers are accepted only after a query.
    pub(crate) fn invalidate(&self, recheck: Recheck) {
        let now = Some(Instant::now());
        let mut guard = self.state();
        let state = &mut *guard;
        let (contact_id, key) = match recheck {
            Recheck::Browser(key) => (state.memories.get(&key).map(Memory::contact_id), Some(key)),
            Recheck::Contact(contact_id) => (Some(contact_id), None),
            Recheck::All => {
                state.invalidated_at = now;
                return;
            }
        };
        let recipient = contact_id.and_then(|contact_id| state.recipients.get_mut(&contact_id));
        let browsers = recipient
            .into_iter()
            .flat_map(|recipient| recipient.browsers.iter_mut());
        for browser in browsers.filter(|browser| key.is_none_or(|key| key == browser.key())) {
            browser.invalidated_at = now;
        }
    }

    /// Records that a query at that time found a browser's sign-in valid.
    pub(crate) fn mark_valid(&self, contact_id: ContactId, key: BrowserKey, asked_at: Instant) {
        let mut state = self.state();
        let recipient = state.recipients.get_mut(&contact_id);
        if let Some(browser) = recipient.and_then(|recipient| recipient.browsers.get_mut(key)) {
            browser.valid_at = browser.valid_at.max(asked_at);
        }
    }

    fn place(&self, memory: &Memory) -> Place {
        Place {
            hub: self.clone(),
            memory: memory.clone(),
        }
    }

    /// Takes a place for another stream of a browser. If it was not registered, also returns the mailbox to start its task with.
    ///
    /// From now on the browser receives its contact's events, even before the connection is handed over.
    ///
    /// # Errors
    ///
    /// [`Full`].
    pub(crate) fn enter(&self, sign_in: &SignIn) -> Result<(Place, Option<Mailbox>), Full> {
        let (contact_id, key) = (sign_in.contact_id, sign_in.browser);
        let mut guard = self.state();
        let state = &mut *guard;
        if state.stopping {
            return Err(Full::Stopping);
        }
        if state.streams >= self.0.max_streams {
            return Err(Full::Daemon);
        }
        if sign_in.epoch != state.epoch_number {
            return Err(Full::EpochChanged);
        }
        let recipient = state
            .recipients
            .entry(contact_id)
            .or_insert_with(|| Recipient {
                messages: broadcast::Sender::new(BROADCAST_CAPACITY),
                browsers: Browsers::default(),
            });
        let mut registered = recipient.browsers.get_mut(key);
        if let Some(browser) = &mut registered {
            browser.take_place()?;
        }
        let known = registered.as_ref().map(|browser| &browser.memory);
        let known = known.or_else(|| state.memories.get(&key)).cloned();
        let memory = match known.filter(|memory| memory.contact_id() == contact_id) {
            Some(memory) => {
                if let Some(stored) = &sign_in.position {
                    memory.lock().position.merge(stored);
                }
                memory
            }
            None => Memory::of(sign_in),
        };
        let mailbox = if let Some(browser) = registered {
            browser.agent = sign_in.agent;
            browser.valid_at = browser.valid_at.max(sign_in.asked_at);
            None
        } else {
            // From `futures`: tokio's channel allocates room for 32 commands, which most browsers never get.
            let (sender, receiver) = mpsc::unbounded();
            recipient.browsers.insert(Browser {
                memory: memory.clone(),
                commands: sender,
                places: 1,
                agent: sign_in.agent,
                valid_at: sign_in.asked_at,
                invalidated_at: None,
                left_at: Instant::now(),
            });
            memory.lock().touched = Instant::now();
            Some(Mailbox {
                messages: recipient.messages.subscribe(),
                commands: receiver,
                memory: memory.clone(),
            })
        };
        // New, of another contact than before, or forgotten because its sign-in had ended.
        if !state.remembers(&memory) {
            memory.lock().unstored = true;
            state.unstored.push(memory.clone());
            state.memories.replace(memory.clone());
        }
        state.streams += 1;
        drop(guard);
        self.0.refusals.lock().admit(key);
        Ok((self.place(&memory), mailbox))
    }

    /// Unregisters a browser without places, but keeps its memory. Returns whether it has no places.
    pub(crate) fn forget_browser(&self, memory: &Memory) -> bool {
        let (contact_id, key) = (memory.contact_id(), memory.key());
        let mut guard = self.state();
        let state = &mut *guard;
        let Entry::Occupied(mut recipient) = state.recipients.entry(contact_id) else {
            return true;
        };
        let browsers = &mut recipient.get_mut().browsers;
        if browsers.get(key).is_some_and(|browser| browser.places > 0) {
            return false;
        }
        browsers.remove(key);
        if recipient.get().browsers.is_empty() {
            recipient.remove();
        }
        let now = Instant::now();
        memory.lock().touched = now;
        state.left.push_back((now, memory.clone()));
        true
    }

    /// Whether any browser of this contact is registered.
    pub(crate) fn has(&self, contact_id: ContactId) -> bool {
        self.state().recipients.contains_key(&contact_id)
    }

    /// Whether no browser is registered.
    pub(crate) fn is_empty(&self) -> bool {
        self.state().recipients.is_empty()
    }

    /// Sends `events` to a contact's browsers. Returns whether there are any.
    pub(crate) fn publish(&self, contact_id: ContactId, events: Vec<Arc<Event>>) -> bool {
        self.state()
            .recipients
            .get(&contact_id)
            .is_some_and(|recipient| {
                recipient
                    .messages
                    .send(Message::Events(events.into()))
                    .is_ok()
            })
    }

    /// Sends a test event to each of a contact's browsers, independent of real events. Returns for each a receiver that resolves
    /// when the event is delivered, or with an error if it cannot be.
    pub(crate) fn test(
        &self,
        contact_id: ContactId,
        event: &Arc<Event>,
    ) -> Vec<oneshot::Receiver<()>> {
        let state = self.state();
        let Some(recipient) = state.recipients.get(&contact_id) else {
            return Vec::new();
        };
        let test = |browser: &Browser| {
            let (sender, receiver) = oneshot::channel();
            let command = Command::Test(Arc::clone(event), sender);
            // If the task has ended, the sender is dropped.
            let _ = browser.commands.unbounded_send(command);
            receiver
        };
        recipient.browsers.iter().map(test).collect()
    }

    /// What is known about a contact's browsers, at most `limit` of them: registered ones, and those of `others` that are
    /// remembered.
    pub(crate) fn explain(
        &self,
        contact_id: ContactId,
        others: &[BrowserKey],
        limit: usize,
    ) -> Vec<KnownBrowser> {
        let state = self.state();
        let recipient = state.recipients.get(&contact_id);
        let connected = |key: BrowserKey| recipient.and_then(|r| r.browsers.get(key));
        let browsers = recipient.into_iter().flat_map(|r| r.browsers.iter());
        let keys = browsers.map(Keyed::key);
        let disconnected = others
            .iter()
            .copied()
            .filter(|key| connected(*key).is_none());
        let seen = keys.chain(disconnected).filter_map(|key| {
            let memory = state.memory(contact_id, key)?.lock();
            let done = memory.recent.iter().map(|(done, _)| *done).collect();
            let ask = |browser: &Browser| {
                let (sender, receiver) = oneshot::channel();
                // If the task has ended, the sender is dropped.
                let _ = browser.commands.unbounded_send(Command::Explain(sender));
                receiver
            };
            Some(KnownBrowser {
                key,
                connected: connected(key).map(ask),
                done,
            })
        });
        seen.take(limit).collect()
    }

    /// Records that a browser got no stream. `contact_id` is its contact according to its session.
    pub(crate) fn refused(&self, key: BrowserKey, contact_id: Option<ContactId>, why: Why) {
        let known = || self.state().memories.get(&key).map(Memory::contact_id);
        let contact_id = contact_id.or_else(known);
        self.0.refusals.lock().add(key, contact_id, why);
    }

    /// The refusals of a contact's browsers and of `browsers`, oldest first.
    pub(crate) fn refusals(&self, contact_id: ContactId, browsers: &[BrowserKey]) -> Vec<Refused> {
        self.0.refusals.lock().of(contact_id, browsers)
    }

    /// All registered browsers.
    pub(crate) fn all_browsers(&self) -> Vec<BrowserKey> {
        let state = self.state();
        state.browsers().map(Keyed::key).collect()
    }

    /// Notifies all browsers that events may have been missed.
    pub(crate) fn gap(&self) {
        self.send_to_all(&Message::Gap);
    }

    /// Notifies all browsers that settings have changed.
    pub(crate) fn settings_changed(&self) {
        self.send_to_all(&Message::SettingsChanged);
    }

    fn send_to_all(&self, message: &Message) {
        for recipient in self.state().recipients.values() {
            // No receiver: the last browser is just leaving.
            let _ = recipient.messages.send(message.clone());
        }
    }

    /// All history rows up to this id are settled, and were published if necessary: a browser that has received all messages does
    /// not need to look at them again. `None` until that is known for an epoch.
    pub(crate) fn settled(&self) -> Option<HistoryId> {
        let settled = self.0.settled.load(Ordering::Acquire);
        (settled != UNKNOWN).then_some(HistoryId(settled))
    }

    /// Raises [`Hub::settled`], if the id belongs to the `timeline` that the hub follows.
    pub(crate) fn settle(&self, history_id: HistoryId, timeline: Option<&Timeline>) {
        if self.state().timeline.as_ref() == timeline {
            self.0.settled.fetch_max(history_id.0, Ordering::AcqRel);
        }
    }

    /// The newest history row that a look has found.
    pub(crate) fn newest(&self) -> HistoryId {
        HistoryId(self.0.newest.load(Ordering::Acquire))
    }

    /// Sets the newest history row.
    pub(crate) fn set_newest(&self, newest: HistoryId) {
        self.0.newest.store(newest.0, Ordering::Release);
    }

    /// The epoch of ids and its number; `None` until the first look.
    pub(crate) fn epoch(&self) -> Option<(Epoch, u64)> {
        let state = self.state();
        Some((state.epoch.clone()?, state.epoch_number))
    }

    /// Sets the epoch of ids. If it has changed, all rows up to a time count as done, in milliseconds since the Unix epoch,
    /// and browsers look for newer ones. Returns whether it has changed.
    pub(crate) fn change_epoch(&self, epoch: &Epoch, delivered_until_ms: i64) -> bool {
        let mut state = self.state();
        let before = state.epoch.replace(epoch.clone());
        if before.is_none_or(|before| before == *epoch) {
            return false;
        }
        state.epoch_number += 1;
        self.0.settled.store(UNKNOWN, Ordering::Release);
        let number = state.epoch_number;
        state.change_all(|_, memory| {
            memory.change_epoch(number, delivered_until_ms);
            true
        });
        drop(state);
        self.gap();
        true
    }

    /// The number of open streams.
    pub(crate) fn streams(&self) -> usize {
        self.state().streams
    }

    /// The maximum number of streams.
    pub(crate) fn max_streams(&self) -> usize {
        self.0.max_streams
    }

    /// How many contacts have open streams.
    pub(crate) fn users(&self) -> usize {
        let state = self.state();
        let has_streams = |recipient: &&Recipient| {
            let mut browsers = recipient.browsers.iter();
            browsers.any(|browser| browser.places > 0)
        };
        state.recipients.values().filter(has_streams).count()
    }

    /// The contacts with registered browsers.
    pub(crate) fn contacts(&self) -> Vec<ContactId> {
        self.state().recipients.keys().copied().collect()
    }

    /// The contacts that a browser is registered for.
    pub(crate) fn contacts_of(&self, key: BrowserKey) -> Vec<ContactId> {
        let state = self.state();
        let recipients = state.recipients.iter();
        recipients
            .filter(|(_, recipient)| recipient.browsers.contains(key))
            .map(|(contact_id, _)| *contact_id)
            .collect()
    }

    /// All registered browsers, and when Icinga Web authenticated them, in milliseconds since the Unix epoch.
    pub(crate) fn signed_in(&self) -> Vec<(BrowserKey, i64)> {
        let state = self.state();
        let signed_in = |browser: &Browser| {
            let signed_in_at_ms = browser.memory.lock().signed_in_at_ms;
            (browser.key(), signed_in_at_ms)
        };
        let browsers = state.browsers();
        browsers
            .filter(|browser| state.remembers(&browser.memory))
            .map(signed_in)
            .collect()
    }

    /// The registered browsers of a contact, and the user agents that they signed in with.
    pub(crate) fn browsers(&self, contact_id: ContactId) -> Vec<(BrowserKey, AgentKey)> {
        self.state()
            .recipients
            .get(&contact_id)
            .map(|recipient| {
                let browsers = recipient.browsers.iter();
                browsers
                    .map(|browser| (browser.key(), browser.agent))
                    .collect()
            })
            .unwrap_or_default()
    }

    /// Ends the streams of a browser whose sign-in is no longer valid, and forgets it.
    pub(crate) fn revoke(&self, contact_id: ContactId, key: BrowserKey) {
        self.refused(key, Some(contact_id), Why::Other(Other::Ended));
        let mut state = self.state();
        if state.memory(contact_id, key).is_some() {
            state.memories.remove(&key);
        }
        let recipient = state.recipients.get(&contact_id);
        if let Some(browser) = recipient.and_then(|recipient| recipient.browsers.get(key)) {
            // A task that has ended has no streams left.
            let _ = browser.commands.unbounded_send(Command::Revoke {
                retry: event::RETRY,
            });
        }
    }

    /// Ends all streams at once, because sign-ins cannot be checked; `retry` is called for each browser.
    pub(crate) fn end_all(&self, mut retry: impl FnMut() -> Duration) {
        let state = self.state();
        for browser in state.browsers() {
            // A task that has ended has no streams left.
            let _ = browser
                .commands
                .unbounded_send(Command::Revoke { retry: retry() });
        }
    }

    /// Accepts no more streams and ends all open ones; `retry` is called for each browser.
    pub(crate) fn stop(&self, mut retry: impl FnMut() -> Duration) {
        let mut state = self.state();
        state.stopping = true;
        for browser in state.browsers() {
            // A task that has ended has no streams left.
            let _ = browser
                .commands
                .unbounded_send(Command::End { retry: retry() });
        }
    }

    fn commands(&self, memory: &Memory) -> Option<mpsc::UnboundedSender<Command>> {
        let state = self.state();
        let recipient = state.recipients.get(&memory.contact_id())?;
        Some(recipient.browsers.get(memory.key())?.commands.clone())
    }

    fn leave(&self, memory: &Memory) {
        let mut state = self.state();
        state.streams -= 1;
        let recipient = state.recipients.get_mut(&memory.contact_id());
        if let Some(browser) = recipient.and_then(|r| r.browsers.get_mut(memory.key())) {
            browser.places -= 1;
            browser.left_at = Instant::now();
        }
    }
}

impl State {
    /// Applies `change` to all memories; it returns whether it changed one.
    pub(super) fn change_all(&mut self, mut change: impl FnMut(&Memory, &mut Remembered) -> bool) {
        for memory in &self.memories {
            let mut remembered = memory.lock();
            if change(memory, &mut remembered) && !std::mem::replace(&mut remembered.unstored, true)
            {
                self.unstored.push(memory.clone());
            }
        }
    }

    /// What a contact's browser has acknowledged.
    fn memory(&self, contact_id: ContactId, key: BrowserKey) -> Option<&Memory> {
        let memory = self.memories.get(&key);
        memory.filter(|memory| memory.contact_id() == contact_id)
    }

    /// Whether this is what the hub knows about the browser.
    pub(super) fn remembers(&self, memory: &Memory) -> bool {
        let known = self.memories.get(&memory.key());
        known.is_some_and(|known| known.is(memory))
    }

    /// All registered browsers.
    fn browsers(&self) -> impl Iterator<Item = &Browser> {
        self.recipients.values().flat_map(|r| r.browsers.iter())
    }

    /// A registered browser.
    fn browser(&self, key: BrowserKey) -> Option<&Browser> {
        let memory = self.memories.get(&key)?;
        let recipient = self.recipients.get(&memory.contact_id())?;
        recipient.browsers.get(key)
    }
}

impl Browser {
    fn take_place(&mut self) -> Result<(), Full> {
        if self.places >= MAX_STREAMS {
            return Err(Full::Browser);
        }
        self.places += 1;
        Ok(())
    }
}

/// One of a browser's places. Dropping it frees the place.
#[derive(Debug)]
pub(crate) struct Place {
    hub: Hub,
    /// The browser.
    memory: Memory,
}

impl Place {
    /// Makes `socket` a stream of the place's browser. It begins with `head`, which contains `mark`, and answers the request
    /// `returned`.
    pub(crate) fn hand_over(
        self,
        socket: Socket,
        head: bytes::Bytes,
        mark: Mark,
        returned: Returned,
    ) {
        let commands = self.hub.commands(&self.memory);
        let command = Command::Stream(Box::new(Handed {
            socket,
            head,
            mark,
            returned,
            place: self,
        }));
        // Without a task, the daemon is stopping, and the socket closes. Outside the hub's lock, which the place needs when it is
        // dropped.
        if let Some(commands) = commands {
            let _ = commands.unbounded_send(command);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.hub.leave(&self.memory);
    }
}

#[cfg(test)]
pub(super) mod tests;

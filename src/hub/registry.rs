//! The hub: who is connected, which broadcast channel reaches them, and what they were told already.
//!
//! contact id → that contact's broadcast channel and its browsers; a browser (one signed-in session)
//! has at most [`MAX_STREAMS`] streams, all owned by one task (`http::browser`), because an event goes
//! to exactly one of them. Publishing never blocks, and wakes only the contact's browsers.
//!
//! What a browser was told outlives its task here, as its [`Memory`], and the process in the database
//! ([`crate::hub::Positions`]).
//!
//! The maps sit behind one std mutex: each operation is a few look-ups, and no guard is held across an
//! await.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures::channel::mpsc;
use tokio::sync::{broadcast, oneshot};

use crate::auth::{AgentKey, BrowserKey, SignIn};
use crate::database::Timeline;
use crate::model::event::Event;
use crate::model::position::Position;
use crate::net::Socket;

/// Streams per browser: Icinga Web's service worker lets two tabs through, and its manual promises
/// no more.
pub const MAX_STREAMS: usize = 2;

/// How many messages a contact's broadcast channel holds for browsers that have not looked yet. A
/// message is everything that one query of the resolver found for the contact, so that a storm is a few
/// messages; a slot costs 40 bytes per recipient.
const BROADCAST_CAPACITY: usize = 8;

/// How many delivered rows a browser is remembered by beyond its position: as many as are delivered within the second or two
/// until a position is stored, in all but a storm.
const RECENT: usize = 64;

/// What a contact's browsers are told.
#[derive(Debug, Clone)]
pub enum Message {
    /// The events that one query of the resolver found, in order. One without bytes is not shown: it
    /// only says that its rows are done.
    Events(Arc<[Arc<Event>]>),
    /// Something may have been missed: look for yourselves.
    Gap,
    /// Settings have changed: what is due when may have, too.
    Retuned,
}

/// What a browser's task is told.
#[derive(Debug)]
pub enum Command {
    /// A connection has been handed over: it is a stream from now on.
    Stream(Box<Handed>),
    /// Find out which streams are still alive, and answer when it is known.
    Probe(oneshot::Sender<()>),
    /// The sign-in is not valid any more: close at once.
    Revoke,
    /// Write this to a stream at once, if there is one that takes it, and answer when it counts as delivered.
    /// Otherwise the answer is that nobody answers.
    Test(Arc<Event>, oneshot::Sender<()>),
    /// The daemon stops: say farewell and close, once it is known whether what was written arrived.
    End {
        /// For the client's `retry`.
        retry_ms: u32,
    },
}

/// A connection on its way to its browser's task.
#[derive(Debug)]
pub struct Handed {
    /// The connection.
    pub socket: Socket,
    /// The head of the answer and the first bytes of its body, still to be written.
    pub head: bytes::Bytes,
    /// Its place among the browser's streams.
    pub place: Place,
}

/// What a browser was told, shared by its task, the next task of the same browser, and whoever stores
/// it.
#[derive(Debug, Clone)]
pub struct Memory(Arc<Mutex<Remembered>>);

/// The content of a [`Memory`].
#[derive(Debug)]
pub struct Remembered {
    /// What need not be told any more. It moves when an event is delivered, not when it is written.
    pub position: Position,
    /// The rows of the last events that were delivered, and their incidents: by these a row is known again if its id may
    /// have been given to another one.
    pub recent: VecDeque<(i64, i64)>,
    /// Undelivered events that no history row stands for, so that no replay would find them.
    pub leftovers: Vec<Arc<Event>>,
    /// Whether `position` has changed since it was last stored.
    pub unstored: bool,
    /// When `position` last changed, or the browser was last here.
    pub touched: Instant,
}

impl Memory {
    fn new(position: Position) -> Self {
        Self(Arc::new(Mutex::new(Remembered {
            position,
            recent: VecDeque::new(),
            leftovers: Vec::new(),
            unstored: true,
            touched: Instant::now(),
        })))
    }

    /// Locks it, for a few statements without an await.
    pub fn lock(&self) -> MutexGuard<'_, Remembered> {
        // Every statement under this lock leaves it valid, so a panic elsewhere need not spread.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Remembered {
    /// Takes note that an event was delivered.
    pub fn delivered(&mut self, event: &Event) {
        self.position.extend(event.history_ids.iter().copied());
        for history_id in &event.history_ids {
            self.recent.push_back((*history_id, event.incident_id));
        }
        let too_many = self.recent.len().saturating_sub(RECENT);
        drop(self.recent.drain(..too_many));
        self.unstored = true;
        self.touched = Instant::now();
    }
}

/// What a browser was told, seen for a while without its lock.
#[derive(Debug)]
pub struct Told {
    /// The contact.
    pub contact_id: i64,
    /// The browser.
    pub key: BrowserKey,
    /// As [`Remembered::position`].
    pub position: Position,
    /// As [`Remembered::recent`].
    pub recent: VecDeque<(i64, i64)>,
}

/// What a new browser's task works on.
#[derive(Debug)]
pub struct Mailbox {
    /// The contact's events.
    pub messages: broadcast::Receiver<Message>,
    /// What else happens. Closed once the last [`Place`] is gone.
    pub commands: mpsc::UnboundedReceiver<Command>,
    /// What the browser was told.
    pub memory: Memory,
    /// The contact.
    pub contact_id: i64,
    /// The browser.
    pub key: BrowserKey,
}

/// Why there is no place for a stream.
#[derive(Debug)]
pub enum Full {
    /// The browser has its two. Resolves when it is known whether they are alive.
    Browser(oneshot::Receiver<()>),
    /// The daemon has as many streams as it can hold.
    Daemon,
    /// The daemon is stopping.
    Stopping,
}

/// A cheap handle on the hub.
#[derive(Debug, Clone)]
pub struct Hub(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    max_streams: usize,
    state: Mutex<State>,
    settled: AtomicI64,
}

#[derive(Debug, Default)]
struct State {
    recipients: HashMap<i64, Recipient>,
    /// By contact, too: a session that is handed to another user must not remember for the first.
    memories: HashMap<(i64, BrowserKey), Memory>,
    streams: usize,
    stopping: bool,
    /// Whose ids all this speaks of.
    timeline: Option<Timeline>,
}

#[derive(Debug)]
struct Recipient {
    messages: broadcast::Sender<Message>,
    browsers: HashMap<BrowserKey, Browser>,
}

#[derive(Debug)]
struct Browser {
    commands: mpsc::UnboundedSender<Command>,
    /// Places taken, whether their connection is handed over yet or not.
    places: usize,
    agent: AgentKey,
}

impl Hub {
    /// A hub for at most `max_streams` streams.
    pub fn new(max_streams: usize) -> Self {
        Self(Arc::new(Shared {
            max_streams,
            state: Mutex::default(),
            settled: AtomicI64::new(0),
        }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // As in `Memory::lock`.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a browser was here before, as far as this process remembers.
    pub fn remembers(&self, contact_id: i64, key: BrowserKey) -> bool {
        self.state().memories.contains_key(&(contact_id, key))
    }

    /// Takes a place for one more stream of a browser. If it is the browser's first, also returns the
    /// mailbox that its task is to be started with.
    ///
    /// From here on the browser receives its contact's events, handed over or not.
    ///
    /// # Errors
    ///
    /// [`Full`].
    pub fn enter(&self, sign_in: &SignIn) -> Result<(Place, Option<Mailbox>), Full> {
        let (contact_id, key) = (sign_in.contact_id, sign_in.browser);
        let mut guard = self.state();
        let state = &mut *guard;
        if state.stopping {
            return Err(Full::Stopping);
        }
        if state.streams >= self.0.max_streams {
            return Err(Full::Daemon);
        }
        let recipient = state
            .recipients
            .entry(contact_id)
            .or_insert_with(|| Recipient {
                messages: broadcast::Sender::new(BROADCAST_CAPACITY),
                browsers: HashMap::new(),
            });
        let mailbox = match recipient.browsers.entry(key) {
            Entry::Occupied(entry) => {
                let browser = entry.into_mut();
                if browser.places >= MAX_STREAMS {
                    let (sender, receiver) = oneshot::channel();
                    // If the task is gone, its streams are, and the receiver resolves at once.
                    let _ = browser.commands.unbounded_send(Command::Probe(sender));
                    return Err(Full::Browser(receiver));
                }
                browser.places += 1;
                browser.agent = sign_in.agent;
                None
            }
            Entry::Vacant(entry) => {
                // Of `futures`: tokio's channel keeps room for 32 commands, which most browsers never get.
                let (sender, receiver) = mpsc::unbounded();
                entry.insert(Browser {
                    commands: sender,
                    places: 1,
                    agent: sign_in.agent,
                });
                let stored = sign_in.position.clone().unwrap_or_default();
                let memory = match state.memories.entry((contact_id, key)) {
                    Entry::Occupied(entry) => {
                        entry.get().lock().position.merge(&stored);
                        entry.into_mut()
                    }
                    Entry::Vacant(entry) => entry.insert(Memory::new(stored)),
                };
                memory.lock().touched = Instant::now();
                Some(Mailbox {
                    messages: recipient.messages.subscribe(),
                    commands: receiver,
                    memory: memory.clone(),
                    contact_id,
                    key,
                })
            }
        };
        state.streams += 1;
        let place = Place {
            hub: self.clone(),
            contact_id,
            key,
        };
        Ok((place, mailbox))
    }

    /// Whether anybody would see an event of this contact.
    pub fn has(&self, contact_id: i64) -> bool {
        self.state().recipients.contains_key(&contact_id)
    }

    /// Whether nobody is connected at all.
    pub fn is_empty(&self) -> bool {
        self.state().recipients.is_empty()
    }

    /// Gives a contact's browsers `events`. Returns whether there are any browsers.
    pub fn publish(&self, contact_id: i64, events: Vec<Arc<Event>>) -> bool {
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

    /// Gives each of a contact's browsers a test event, outside of the order of real ones. Returns for each
    /// of them what resolves when the event counts as delivered, or with an error if it cannot.
    pub fn test(&self, contact_id: i64, event: &Arc<Event>) -> Vec<oneshot::Receiver<()>> {
        let state = self.state();
        let Some(recipient) = state.recipients.get(&contact_id) else {
            return Vec::new();
        };
        let test = |browser: &Browser| {
            let (sender, receiver) = oneshot::channel();
            let command = Command::Test(Arc::clone(event), sender);
            // If the task is gone, the sender is, too.
            let _ = browser.commands.unbounded_send(command);
            receiver
        };
        recipient.browsers.values().map(test).collect()
    }

    /// Every browser with open streams.
    pub fn all_browsers(&self) -> Vec<BrowserKey> {
        let state = self.state();
        let browsers = state.recipients.values().flat_map(|r| r.browsers.keys());
        browsers.copied().collect()
    }

    /// Tells every browser that something may have been missed.
    pub fn gap(&self) {
        self.tell_all(&Message::Gap);
    }

    /// Tells every browser that settings have changed.
    pub fn retune(&self) {
        self.tell_all(&Message::Retuned);
    }

    fn tell_all(&self, message: &Message) {
        for recipient in self.state().recipients.values() {
            // No receiver: the last browser is just leaving.
            let _ = recipient.messages.send(message.clone());
        }
    }

    /// Every history row up to this id is settled, and was published if it had to be: whoever has
    /// taken all messages need not look below it again.
    pub fn settled(&self) -> i64 {
        self.0.settled.load(Ordering::Acquire)
    }

    /// Raises [`Hub::settled`], if the id is one of the `timeline` that the hub follows.
    pub fn settle(&self, history_id: i64, timeline: Option<&Timeline>) {
        if self.state().timeline.as_ref() == timeline {
            self.0.settled.fetch_max(history_id, Ordering::AcqRel);
        }
    }

    /// What all browsers that are remembered were told.
    pub fn told(&self) -> Vec<Told> {
        let state = self.state();
        let memories = state.memories.iter();
        memories
            .map(|((contact_id, key), memory)| {
                let memory = memory.lock();
                Told {
                    contact_id: *contact_id,
                    key: *key,
                    position: memory.position.clone(),
                    recent: memory.recent.clone(),
                }
            })
            .collect()
    }

    /// Follows a timeline from now on. `told` is what browsers were told of it, as far as that was looked up; what was
    /// delivered meanwhile is of it as well. Browsers look for the rest.
    pub fn follow(&self, timeline: Timeline, told: Vec<(Told, Position)>) {
        let another = !told.is_empty();
        let mut state = self.state();
        state.timeline = Some(timeline);
        self.0.settled.store(0, Ordering::Release);
        for (before, position) in told {
            let Some(memory) = state.memories.get(&(before.contact_id, before.key)) else {
                continue;
            };
            let mut memory = memory.lock();
            memory.position = position;
            let meanwhile: Vec<_> = (memory.recent.iter())
                .filter(|row| !before.recent.contains(row))
                .map(|(history_id, _)| *history_id)
                .collect();
            memory.position.extend(meanwhile);
            memory.unstored = true;
        }
        drop(state);
        if another {
            self.gap();
        }
    }

    /// Open streams.
    pub fn streams(&self) -> usize {
        self.state().streams
    }

    /// How many streams there may be.
    pub fn max_streams(&self) -> usize {
        self.0.max_streams
    }

    /// How many contacts have open streams.
    pub fn users(&self) -> usize {
        self.state().recipients.len()
    }

    /// Contacts with open streams.
    pub fn contacts(&self) -> Vec<i64> {
        self.state().recipients.keys().copied().collect()
    }

    /// The browsers of a contact that have open streams, and with which user agent they signed in.
    pub fn browsers(&self, contact_id: i64) -> Vec<(BrowserKey, AgentKey)> {
        self.state()
            .recipients
            .get(&contact_id)
            .map(|recipient| {
                let browsers = recipient.browsers.iter();
                browsers
                    .map(|(key, browser)| (*key, browser.agent))
                    .collect()
            })
            .unwrap_or_default()
    }

    /// Ends a browser whose sign-in is not valid any more, and forgets it.
    pub fn revoke(&self, contact_id: i64, key: BrowserKey) {
        let mut state = self.state();
        state.memories.remove(&(contact_id, key));
        let recipient = state.recipients.get(&contact_id);
        if let Some(browser) = recipient.and_then(|recipient| recipient.browsers.get(&key)) {
            // A task that is gone has no streams left to end.
            let _ = browser.commands.unbounded_send(Command::Revoke);
        }
    }

    /// Positions that have changed since this was last asked.
    pub fn unstored_positions(&self) -> Vec<(BrowserKey, Position)> {
        let memories: Vec<_> = self
            .state()
            .memories
            .iter()
            .map(|((_, key), memory)| (*key, memory.clone()))
            .collect();
        memories
            .into_iter()
            .filter_map(|(key, memory)| {
                let mut memory = memory.lock();
                std::mem::take(&mut memory.unstored).then(|| (key, memory.position.clone()))
            })
            .collect()
    }

    /// Takes [`Hub::unstored_positions`] back: they could not be stored.
    pub fn still_unstored(&self, positions: &[(BrowserKey, Position)]) {
        let keys: std::collections::HashSet<_> = positions.iter().map(|(key, _)| *key).collect();
        for ((_, key), memory) in &self.state().memories {
            if keys.contains(key) {
                memory.lock().unstored = true;
            }
        }
    }

    /// Forgets browsers that have not been here for `age`.
    pub fn forget(&self, age: Duration) {
        let mut state = self.state();
        let State {
            recipients,
            memories,
            ..
        } = &mut *state;
        memories.retain(|(contact_id, key), memory| {
            recipients
                .get(contact_id)
                .is_some_and(|recipient| recipient.browsers.contains_key(key))
                || memory.lock().touched.elapsed() < age
        });
    }

    /// Lets nobody in any more and ends all streams; `retry_ms` is asked for each of them.
    pub fn stop(&self, mut retry_ms: impl FnMut() -> u32) {
        let mut state = self.state();
        state.stopping = true;
        let recipients = state.recipients.values();
        for browser in recipients.flat_map(|recipient| recipient.browsers.values()) {
            // A task that is gone has no streams left to end.
            let _ = browser.commands.unbounded_send(Command::End {
                retry_ms: retry_ms(),
            });
        }
    }

    fn commands(&self, contact_id: i64, key: BrowserKey) -> Option<mpsc::UnboundedSender<Command>> {
        let state = self.state();
        let browser = state.recipients.get(&contact_id)?.browsers.get(&key)?;
        Some(browser.commands.clone())
    }

    fn leave(&self, contact_id: i64, key: BrowserKey) {
        let mut guard = self.state();
        let state = &mut *guard;
        state.streams -= 1;
        let Entry::Occupied(mut recipient) = state.recipients.entry(contact_id) else {
            return;
        };
        if let Entry::Occupied(mut browser) = recipient.get_mut().browsers.entry(key) {
            browser.get_mut().places -= 1;
            if browser.get().places == 0 {
                browser.remove();
                if let Some(memory) = state.memories.get(&(contact_id, key)) {
                    memory.lock().touched = Instant::now();
                }
            }
        }
        if recipient.get().browsers.is_empty() {
            recipient.remove();
        }
    }
}

/// One of a browser's places. Dropping it frees the place.
#[derive(Debug)]
pub struct Place {
    hub: Hub,
    contact_id: i64,
    key: BrowserKey,
}

impl Place {
    /// Makes `socket` a stream of the browser that this place belongs to.
    pub fn hand_over(self, socket: Socket, head: bytes::Bytes) {
        let commands = self.hub.commands(self.contact_id, self.key);
        let command = Command::Stream(Box::new(Handed {
            socket,
            head,
            place: self,
        }));
        // Nobody there means that the daemon is stopping; the socket closes. Outside of the hub's lock,
        // which the place needs when it is dropped.
        if let Some(commands) = commands {
            let _ = commands.unbounded_send(command);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.hub.leave(self.contact_id, self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(incident_id: i64) -> Arc<Event> {
        Arc::new(Event {
            history_ids: vec![],
            incident_id,
            bytes: bytes::Bytes::new(),
            heard: None,
        })
    }

    fn sign_in(contact_id: i64, session_id: &str) -> SignIn {
        SignIn {
            contact_id,
            browser: BrowserKey::new(session_id),
            agent: AgentKey::new("agent"),
            position: None,
        }
    }

    #[test]
    fn a_browser_has_two_places_and_gets_them_back() {
        let hub = Hub::new(100);
        let alice = sign_in(7, "a");
        let (first, mailbox) = hub.enter(&alice).unwrap();
        let mut mailbox = mailbox.unwrap();
        let (_second, none) = hub.enter(&alice).unwrap();
        assert!(none.is_none());
        assert!(matches!(hub.enter(&alice), Err(Full::Browser(_))));
        assert!(matches!(mailbox.commands.try_recv(), Ok(Command::Probe(_))));
        let (_other, mailbox) = hub.enter(&sign_in(7, "b")).unwrap();
        assert!(mailbox.is_some());
        assert_eq!(hub.streams(), 3);
        drop(first);
        assert_eq!(hub.streams(), 2);
        assert!(hub.enter(&alice).is_ok());
    }

    #[test]
    fn the_daemon_holds_no_more_streams_than_it_can() {
        let hub = Hub::new(2);
        let _a = hub.enter(&sign_in(7, "a")).unwrap();
        let b = hub.enter(&sign_in(8, "b")).unwrap();
        assert!(matches!(hub.enter(&sign_in(9, "c")), Err(Full::Daemon)));
        drop(b);
        assert!(hub.enter(&sign_in(9, "c")).is_ok());
    }

    #[test]
    fn events_reach_every_browser_of_the_contact_and_no_other() {
        let hub = Hub::new(100);
        let enter = |contact, id| hub.enter(&sign_in(contact, id)).unwrap();
        let (_p1, a) = enter(7, "a");
        let (_p2, b) = enter(7, "b");
        let (_p3, c) = enter(8, "c");
        assert!(hub.publish(7, vec![event(1), event(2)]));
        for mailbox in [a, b] {
            let Message::Events(events) = mailbox.unwrap().messages.try_recv().unwrap() else {
                panic!("no events");
            };
            let incidents: Vec<_> = events.iter().map(|e| e.incident_id).collect();
            assert_eq!(incidents, [1, 2]);
        }
        assert!(c.unwrap().messages.try_recv().is_err());
        assert!(!hub.publish(9, vec![event(1)]));
    }

    #[test]
    fn the_last_place_closes_the_mailbox_and_forgets_the_contact_but_not_the_position() {
        let hub = Hub::new(100);
        let alice = sign_in(7, "a");
        let (place, mailbox) = hub.enter(&alice).unwrap();
        let mut mailbox = mailbox.unwrap();
        mailbox.memory.lock().position.extend([5]);
        assert!(hub.has(7) && !hub.is_empty());
        drop(place);
        assert!(!hub.has(7) && hub.is_empty());
        assert!(
            mailbox
                .commands
                .try_recv()
                .is_err_and(|error| error.is_closed())
        );

        assert!(hub.remembers(7, alice.browser) && !hub.remembers(8, alice.browser));
        let stored = Some(Position::new(0, [6]));
        let again = SignIn {
            position: stored,
            ..alice
        };
        let (_place, mailbox) = hub.enter(&again).unwrap();
        let position = mailbox.unwrap().memory.lock().position.clone();
        assert_eq!(position.above().collect::<Vec<_>>(), [5, 6]);
    }

    #[test]
    fn positions_are_stored_once_unless_that_failed() {
        let hub = Hub::new(100);
        let (_place, mailbox) = hub.enter(&sign_in(7, "a")).unwrap();
        let positions = hub.unstored_positions();
        assert_eq!(positions.len(), 1);
        assert!(hub.unstored_positions().is_empty());
        hub.still_unstored(&positions);
        assert_eq!(hub.unstored_positions().len(), 1);
        mailbox.unwrap().memory.lock().unstored = true;
        assert_eq!(hub.unstored_positions().len(), 1);
    }

    #[test]
    fn another_timeline_takes_back_what_it_does_not_have() {
        let hub = Hub::new(100);
        hub.settle(9, Some(&"1".into()));
        assert_eq!(hub.settled(), 0, "not followed yet");
        hub.follow("1".into(), Vec::new());
        hub.settle(9, Some(&"1".into()));
        assert_eq!(hub.settled(), 9);

        let (_place, mailbox) = hub.enter(&sign_in(7, "a")).unwrap();
        let mut mailbox = mailbox.unwrap();
        let deliver = |history_id, incident_id| {
            let event = Event {
                history_ids: vec![history_id],
                ..Event::clone(&event(incident_id))
            };
            mailbox.memory.lock().delivered(&event);
        };
        deliver(20, 1);
        let told = hub.told();
        assert_eq!(told[0].recent, [(20, 1)]);
        // Between looking and following.
        deliver(15, 2);
        let told = told.into_iter().map(|told| (told, Position::new(10, [])));
        hub.follow("2".into(), told.collect());
        let position = mailbox.memory.lock().position.clone();
        assert_eq!(position, Position::new(10, [15]));
        assert!(matches!(mailbox.messages.try_recv(), Ok(Message::Gap)));
        assert_eq!(hub.settled(), 0);
        hub.settle(30, Some(&"1".into()));
        assert_eq!(hub.settled(), 0);
    }

    #[test]
    fn recent_rows_are_bounded() {
        let memory = Memory::new(Position::default());
        let summary = Event {
            history_ids: (1..=100).collect(),
            ..Event::clone(&event(1))
        };
        memory.lock().delivered(&summary);
        assert_eq!(memory.lock().recent.len(), RECENT);
        assert_eq!(memory.lock().recent.back(), Some(&(100, 1)));
    }

    #[test]
    fn only_absent_browsers_are_forgotten() {
        let hub = Hub::new(100);
        let (_here, _) = hub.enter(&sign_in(7, "a")).unwrap();
        drop(hub.enter(&sign_in(7, "b")).unwrap());
        hub.forget(Duration::from_secs(60));
        assert!(hub.remembers(7, BrowserKey::new("b")));
        hub.forget(Duration::ZERO);
        assert!(!hub.remembers(7, BrowserKey::new("b")));
        assert!(hub.remembers(7, BrowserKey::new("a")));
    }

    #[test]
    fn revoking_ends_the_browser_and_forgets_it() {
        let hub = Hub::new(100);
        let alice = sign_in(7, "a");
        let (_place, mailbox) = hub.enter(&alice).unwrap();
        assert_eq!(hub.browsers(7), [(alice.browser, alice.agent)]);
        hub.revoke(7, alice.browser);
        let command = mailbox.unwrap().commands.try_recv();
        assert!(matches!(command, Ok(Command::Revoke)));
        assert!(!hub.remembers(7, alice.browser));
    }

    #[test]
    fn stopping_ends_browsers_and_refuses_new_ones() {
        let hub = Hub::new(100);
        let (_place, mailbox) = hub.enter(&sign_in(7, "a")).unwrap();
        hub.stop(|| 1234);
        let command = mailbox.unwrap().commands.try_recv();
        assert!(matches!(command, Ok(Command::End { retry_ms: 1234 })));
        assert!(matches!(hub.enter(&sign_in(7, "b")), Err(Full::Stopping)));
    }
}

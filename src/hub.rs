//! The hub: who is connected, and which broadcast channel reaches them.
//!
//! contact id → that contact's broadcast channel and its browsers; a browser (one signed-in session)
//! has at most [`MAX_STREAMS`] streams, all owned by one task (`http::browser`), because an
//! event goes to exactly one of them. Publishing never blocks, and wakes only the contact's browsers.
//!
//! Everything sits behind one std mutex: each operation is a few map look-ups, and no guard is held
//! across an await.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sha2::{Digest, Sha256};
use tokio::sync::{broadcast, mpsc};

use crate::event::Event;
use crate::http::socket::Socket;

/// Streams per browser: Icinga Web's service worker lets two tabs through, and its manual promises
/// no more.
pub const MAX_STREAMS: usize = 2;

/// How many batches a contact's broadcast channel holds for browsers that have not looked yet. A
/// batch is everything that one query of the resolver found for the contact, so that a storm is a few
/// batches; a slot costs 32 bytes per recipient.
const BROADCAST_CAPACITY: usize = 16;

/// The events that one query of the resolver found for a contact, in order.
pub type Batch = Arc<[Arc<Event>]>;

/// Which browser: a digest of its session id, so that the id itself is kept nowhere.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct BrowserKey([u8; 32]);

impl BrowserKey {
    /// The key of a session id.
    pub fn new(session_id: &str) -> Self {
        Self(Sha256::digest(session_id).into())
    }
}

impl std::fmt::Debug for BrowserKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Enough to tell two browsers apart in a log, far too little to guess from.
        let [a, b, c, ..] = self.0;
        write!(f, "{a:02x}{b:02x}{c:02x}")
    }
}

/// What a browser's task is told.
#[derive(Debug)]
pub enum Command {
    /// A connection has been handed over: it is a stream from now on.
    Stream {
        /// The connection.
        socket: Socket,
        /// The head of the answer and the first bytes of its body, still to be written.
        head: bytes::Bytes,
        /// Its place among the browser's streams.
        place: Place,
    },
    /// Say farewell and close: the daemon stops.
    End,
}

/// The two ends of a new browser that its task works on.
#[derive(Debug)]
pub struct Mailbox {
    /// The contact's events.
    pub events: broadcast::Receiver<Batch>,
    /// What else happens. Closed once the last [`Place`] is gone.
    pub commands: mpsc::UnboundedReceiver<Command>,
}

/// Why there is no place for a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// The browser has its two.
    Browser,
    /// The daemon is stopping.
    Stopping,
}

/// A cheap handle on the hub.
#[derive(Debug, Clone, Default)]
pub struct Hub(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    recipients: HashMap<i64, Recipient>,
    streams: usize,
    stopping: bool,
}

#[derive(Debug)]
struct Recipient {
    events: broadcast::Sender<Batch>,
    browsers: HashMap<BrowserKey, Browser>,
}

#[derive(Debug)]
struct Browser {
    commands: mpsc::UnboundedSender<Command>,
    /// Places taken, whether their connection is handed over yet or not.
    places: usize,
}

impl Hub {
    fn state(&self) -> MutexGuard<'_, State> {
        // A panic while the lock was held is a bug of ours that has been reported; the maps are valid
        // after every statement, so the others go on.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a place for one more stream of a browser. If it is the browser's first, also returns the
    /// mailbox that its task is to be started with.
    ///
    /// From here on the browser receives its contact's events, handed over or not.
    ///
    /// # Errors
    ///
    /// [`Full`].
    pub fn enter(
        &self,
        contact_id: i64,
        key: BrowserKey,
    ) -> Result<(Place, Option<Mailbox>), Full> {
        let mut state = self.state();
        if state.stopping {
            return Err(Full::Stopping);
        }
        let recipient = state
            .recipients
            .entry(contact_id)
            .or_insert_with(|| Recipient {
                events: broadcast::Sender::new(BROADCAST_CAPACITY),
                browsers: HashMap::new(),
            });
        let (commands, mailbox) = match recipient.browsers.entry(key) {
            Entry::Occupied(entry) => {
                let browser = entry.into_mut();
                if browser.places >= MAX_STREAMS {
                    return Err(Full::Browser);
                }
                browser.places += 1;
                (browser.commands.clone(), None)
            }
            Entry::Vacant(entry) => {
                let (sender, receiver) = mpsc::unbounded_channel();
                entry.insert(Browser {
                    commands: sender.clone(),
                    places: 1,
                });
                let events = recipient.events.subscribe();
                (
                    sender,
                    Some(Mailbox {
                        events,
                        commands: receiver,
                    }),
                )
            }
        };
        state.streams += 1;
        let place = Place {
            hub: self.clone(),
            contact_id,
            key,
            commands: commands.downgrade(),
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
            .is_some_and(|recipient| recipient.events.send(events.into()).is_ok())
    }

    /// Open streams.
    pub fn streams(&self) -> usize {
        self.state().streams
    }

    /// Lets nobody in any more and ends all streams.
    pub fn stop(&self) {
        let mut state = self.state();
        state.stopping = true;
        for browser in state
            .recipients
            .values()
            .flat_map(|recipient| recipient.browsers.values())
        {
            // A task that is gone has no streams left to end.
            let _ = browser.commands.send(Command::End);
        }
    }

    fn leave(&self, contact_id: i64, key: BrowserKey) {
        let mut state = self.state();
        state.streams -= 1;
        let Entry::Occupied(mut recipient) = state.recipients.entry(contact_id) else {
            return;
        };
        if let Entry::Occupied(mut browser) = recipient.get_mut().browsers.entry(key) {
            browser.get_mut().places -= 1;
            if browser.get().places == 0 {
                browser.remove();
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
    // Weak: the browser's task holds places, and has to see its mailbox close when they are gone.
    commands: mpsc::WeakUnboundedSender<Command>,
}

impl Place {
    /// Makes `socket` a stream of the browser that this place belongs to.
    pub fn hand_over(self, socket: Socket, head: bytes::Bytes) {
        // No sender or no receiver means that the daemon is stopping; the socket closes.
        if let Some(commands) = self.commands.upgrade() {
            let _ = commands.send(Command::Stream {
                socket,
                head,
                place: self,
            });
        }
    }

    /// Whose browser it is, for the log.
    pub fn contact_id(&self) -> i64 {
        self.contact_id
    }

    /// Which browser it is, for the log.
    pub fn key(&self) -> BrowserKey {
        self.key
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
            history_id: None,
            incident_id,
            bytes: bytes::Bytes::new(),
        })
    }

    #[test]
    fn a_browser_has_two_places_and_gets_them_back() {
        let hub = Hub::default();
        let key = BrowserKey::new("a");
        let (first, mailbox) = hub.enter(7, key).unwrap();
        assert!(mailbox.is_some());
        let (_second, none) = hub.enter(7, key).unwrap();
        assert!(none.is_none());
        assert_eq!(hub.enter(7, key).unwrap_err(), Full::Browser);
        let (_other, mailbox) = hub.enter(7, BrowserKey::new("b")).unwrap();
        assert!(mailbox.is_some());
        assert_eq!(hub.streams(), 3);
        drop(first);
        assert_eq!(hub.streams(), 2);
        assert!(hub.enter(7, key).is_ok());
    }

    #[test]
    fn events_reach_every_browser_of_the_contact_and_no_other() {
        let hub = Hub::default();
        let enter = |contact, id| hub.enter(contact, BrowserKey::new(id)).unwrap();
        let (_p1, a) = enter(7, "a");
        let (_p2, b) = enter(7, "b");
        let (_p3, c) = enter(8, "c");
        assert!(hub.publish(7, vec![event(1), event(2)]));
        for mailbox in [a, b] {
            let batch = mailbox.unwrap().events.try_recv().unwrap();
            assert_eq!(
                batch.iter().map(|e| e.incident_id).collect::<Vec<_>>(),
                [1, 2]
            );
        }
        assert!(c.unwrap().events.try_recv().is_err());
        assert!(!hub.publish(9, vec![event(1)]));
    }

    #[test]
    fn the_last_place_closes_the_mailbox_and_forgets_the_contact() {
        let hub = Hub::default();
        let (place, mailbox) = hub.enter(7, BrowserKey::new("a")).unwrap();
        assert!(hub.has(7) && !hub.is_empty());
        drop(place);
        assert!(!hub.has(7) && hub.is_empty());
        let mut mailbox = mailbox.unwrap();
        assert_eq!(
            mailbox.commands.try_recv().unwrap_err(),
            mpsc::error::TryRecvError::Disconnected
        );
    }

    #[test]
    fn stopping_ends_browsers_and_refuses_new_ones() {
        let hub = Hub::default();
        let (_place, mailbox) = hub.enter(7, BrowserKey::new("a")).unwrap();
        hub.stop();
        assert!(matches!(
            mailbox.unwrap().commands.try_recv(),
            Ok(Command::End)
        ));
        assert_eq!(
            hub.enter(7, BrowserKey::new("b")).unwrap_err(),
            Full::Stopping
        );
    }

    #[test]
    fn a_key_shows_nothing_of_the_session_id() {
        assert_eq!(format!("{:?}", BrowserKey::new("abc")), "ba7816");
    }
}

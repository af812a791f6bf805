//! Simulated browsers: the events they received, and their tabs, which reopen their streams as EventSource does.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rand::RngExt as _;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::sync::watch;

use crate::common::sse::request;

/// After a failure the proxy answers for the daemon, with a 200 and `retry:`.
const PROXY_RETRY: Duration = Duration::from_millis(500);

/// How long it takes to reload a page.
const RELOAD: Duration = Duration::from_millis(2200);

/// The minimum that Firefox waits, whatever `retry` is.
const FIREFOX_RETRY: Duration = Duration::from_millis(505);

/// How many events an abandoned stream swallows until its proxy notices that nobody reads it: Apache.
const SWALLOWED: usize = 4;

/// How a browser returns, as real ones do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Make {
    /// With Icinga Web's service worker: it sends no id, and returns this much later than asked.
    Chromium { round_trip: Duration },
    /// It sends `Last-Event-ID`.
    Firefox,
}

/// A mishap of a browser's tabs. It happens to each as soon as the tab has acknowledged what it has read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mishap {
    /// The page is reloaded.
    Reload,
    /// The client vanishes for this time; its stream stays open, and nobody reads it.
    Vanish(Duration),
    /// Its service worker is killed; its stream stays open, and swallows a few events.
    Orphan,
    /// It returns this much later than asked the next time that its stream ends.
    Late(Duration),
}

/// What a browser has received in all of its tabs.
#[derive(Default)]
pub(super) struct Received {
    /// (text, incident, history id, when)
    pub(super) events: Vec<(String, i64, i64, Instant)>,
    pub(super) fences: usize,
    /// Events that arrived at these times were acknowledged late, and may be sent twice.
    pub(super) late: Vec<Range<Instant>>,
}

/// A signed-in browser of a contact.
pub(super) struct Browser {
    pub(super) contact: i64,
    pub(super) session_id: String,
    pub(super) agent: String,
    pub(super) make: Make,
    pub(super) received: Arc<Mutex<Received>>,
    /// Counted, so that each happens once per tab.
    mishap: watch::Sender<(u64, Mishap)>,
    /// For each tab: the last mishap that happened to it.
    befallen: Vec<Arc<AtomicU64>>,
}

impl Browser {
    /// A browser with this many tabs, none of them open yet.
    pub(super) fn new(
        contact: i64,
        session_id: String,
        agent: String,
        make: Make,
        tabs: usize,
    ) -> Self {
        Self {
            contact,
            session_id,
            agent,
            make,
            received: Arc::default(),
            mishap: watch::channel((0, Mishap::Reload)).0,
            befallen: (0..tabs).map(|_| Arc::default()).collect(),
        }
    }

    /// The tabs, which reach the daemon at this address.
    pub(super) fn tabs(&self, address: &str) -> impl Iterator<Item = Tab> {
        self.befallen.iter().map(move |befallen| Tab {
            address: address.to_owned(),
            request: request(&self.session_id, &self.agent),
            make: self.make,
            client: 0,
            received: Arc::clone(&self.received),
            mishap: self.mishap.subscribe(),
            befallen: Arc::clone(befallen),
            retry: Duration::from_millis(3000),
            last_event_id: None,
            late: None,
            unread: Vec::new(),
        })
    }

    /// Makes a mishap happen to every tab.
    pub(super) fn suffer(&self, mishap: Mishap) {
        self.mishap.send_modify(|(count, which)| {
            *count += 1;
            *which = mishap;
        });
    }

    /// Whether it still has to happen to a tab.
    pub(super) fn is_spared(&self) -> bool {
        let (wanted, _) = *self.mishap.borrow();
        let befallen = |tab: &Arc<AtomicU64>| tab.load(Ordering::Acquire) >= wanted;
        !self.befallen.iter().all(befallen)
    }
}

/// One tab: an EventSource that reopens its stream again and again.
pub(super) struct Tab {
    address: String,
    request: String,
    make: Make,
    /// Its network, as a number.
    client: u8,
    received: Arc<Mutex<Received>>,
    mishap: watch::Receiver<(u64, Mishap)>,
    befallen: Arc<AtomicU64>,
    retry: Duration,
    last_event_id: Option<String>,
    /// How much later it returns the next time.
    late: Option<Duration>,
    /// Streams that nobody reads any more.
    unread: Vec<BufReader<TcpStream>>,
}

/// The fields of an incomplete event.
#[derive(Default)]
struct Partial {
    event: String,
    data: Option<serde_json::Value>,
    id: Option<String>,
}

impl Tab {
    /// Reopens the stream again and again until an answer ends it for good; returns that answer's status.
    pub(super) async fn live(mut self) -> String {
        loop {
            let mut reader = match self.open().await {
                Some(Ok(reader)) => reader,
                Some(Err(status)) => return status,
                None => {
                    tokio::time::sleep(PROXY_RETRY).await;
                    continue;
                }
            };
            let opened = Instant::now();
            let pause = match self.read(&mut reader).await {
                None => self.asked_to_wait(opened),
                Some(mishap) => self.suffer(mishap, reader),
            };
            tokio::time::sleep(pause).await;
        }
    }

    /// How long it waits after the end of a stream.
    fn asked_to_wait(&mut self, opened: Instant) -> Duration {
        let mut pause = match self.make {
            Make::Chromium { round_trip } => {
                let own = Duration::from_millis(rand::rng().random_range(4..25));
                self.retry + own + round_trip
            }
            Make::Firefox => self.retry.max(FIREFOX_RETRY),
        };
        if let Some(late) = self.late.take() {
            pause += late;
            let received = &mut self.received.lock().expect("not poisoned");
            received.late.push(opened..Instant::now() + pause);
        }
        pause
    }

    /// Returns how long it is disconnected.
    fn suffer(&mut self, mishap: Mishap, reader: BufReader<TcpStream>) -> Duration {
        match mishap {
            Mishap::Reload => {
                self.last_event_id = None;
                RELOAD
            }
            Mishap::Vanish(away) => {
                self.unread.push(reader);
                self.client = self.client.wrapping_add(1);
                away
            }
            Mishap::Orphan => {
                tokio::spawn(swallow(reader));
                Duration::from_millis(3000)
            }
            Mishap::Late(_) => unreachable!("its stream goes on"),
        }
    }

    /// Opens a stream. Otherwise the status of an answer that ends an EventSource; `None` if the daemon does not run, or was
    /// killed before it answered: a proxy turns that into a 502, and the 502 into a 200.
    async fn open(&self) -> Option<Result<BufReader<TcpStream>, String>> {
        let mut reader = BufReader::new(TcpStream::connect(&self.address).await.ok()?);
        let mut headers = format!("\r\nX-Forwarded-For: 192.0.2.{}\r\n", self.client);
        if let (Make::Firefox, Some(id)) = (self.make, &self.last_event_id) {
            headers = format!("{headers}Last-Event-ID: {id}\r\n");
        }
        let request = self.request.replace("\r\n\r\n", &format!("{headers}\r\n"));
        reader.get_mut().write_all(request.as_bytes()).await.ok()?;
        let mut status = String::new();
        reader.read_line(&mut status).await.ok()?;
        if status.is_empty() {
            return None;
        }
        let is_stream = status.starts_with("HTTP/1.1 200 ");
        Some(if is_stream { Ok(reader) } else { Err(status) })
    }

    /// Reads a stream to its end, or until a mishap happens to the tab while everything it has read is acknowledged.
    async fn read(&mut self, reader: &mut BufReader<TcpStream>) -> Option<Mishap> {
        let mut partial = Partial::default();
        let mut line = String::new();
        let mut events = 0;
        loop {
            let (count, mishap) = *self.mishap.borrow_and_update();
            if events == 0 && count > self.befallen.load(Ordering::Acquire) {
                self.befallen.store(count, Ordering::Release);
                match mishap {
                    Mishap::Late(late) => self.late = Some(late),
                    // Chromium's worker is not killed.
                    Mishap::Orphan if self.make != Make::Firefox => {}
                    other => return Some(other),
                }
            }
            tokio::select! {
                read = reader.read_line(&mut line) => {
                    if !matches!(read, Ok(length) if length > 0) {
                        return None;
                    }
                    events += usize::from(self.take(line.trim_end(), &mut partial));
                    line.clear();
                }
                changed = self.mishap.changed() => {
                    if changed.is_err() {
                        return std::future::pending().await;
                    }
                }
            }
        }
    }

    /// Parses a line: of the head, which has none of these names, or of the stream. Returns whether it ends an event.
    fn take(&mut self, line: &str, partial: &mut Partial) -> bool {
        if let Some(value) = line.strip_prefix("retry: ") {
            self.retry = Duration::from_millis(value.parse().expect("milliseconds"));
        } else if let Some(value) = line.strip_prefix("event: ") {
            value.clone_into(&mut partial.event);
        } else if let Some(value) = line.strip_prefix("data: ") {
            partial.data = Some(serde_json::from_str(value).expect("valid JSON"));
        } else if let Some(value) = line.strip_prefix("id: ") {
            partial.id = Some(value.to_owned());
        } else if line.is_empty() {
            let Partial { event, data, id } = std::mem::take(partial);
            let Some(data) = data else {
                return false;
            };
            self.last_event_id.clone_from(&id);
            if event == "icinga2.notification" {
                self.receive(&data, &id.expect("an id"));
                return true;
            }
        }
        false
    }

    fn receive(&self, data: &serde_json::Value, id: &str) {
        let payload = &data["payload"];
        let text = payload["message"].as_str().unwrap_or("no text").to_owned();
        let incident = payload["incident_id"].as_i64().expect("an incident");
        let mut received = self.received.lock().expect("not poisoned");
        if text == "fence" {
            received.fences += 1;
        } else {
            let id = id.parse().expect("a row");
            received.events.push((text, incident, id, Instant::now()));
        }
    }
}

/// Reads what nobody wants, until its proxy notices.
async fn swallow(mut reader: BufReader<TcpStream>) {
    let (mut swallowed, mut line) = (0, String::new());
    while swallowed < SWALLOWED {
        line.clear();
        match reader.read_line(&mut line).await {
            Ok(length) if length > 0 => swallowed += usize::from(line.starts_with("data: {\"time")),
            _ => return,
        }
    }
}

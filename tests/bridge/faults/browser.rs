//! Browsers: what they have received, and their tabs, which open their stream again and again as EventSource does.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::sync::watch;

use crate::common::sse::request;

/// A tab is closed only if nothing came for so long: an event of the last third of a second does not count as delivered
/// yet, and is rightly told again. The rest is for a busy machine.
const QUIET: Duration = Duration::from_millis(700);

/// After a failure a proxy answers for the daemon, with a 200 and `retry:`.
const PROXY_RETRY: Duration = Duration::from_millis(500);

/// What a browser has received, by all of its tabs.
#[derive(Default)]
pub(super) struct Received {
    /// (text, incident, history id, when)
    pub(super) events: Vec<(String, i64, i64, Instant)>,
    pub(super) fences: usize,
}

/// A signed-in browser of a contact.
pub(super) struct Browser {
    pub(super) contact: i64,
    pub(super) session_id: String,
    pub(super) agent: String,
    pub(super) received: Arc<Mutex<Received>>,
    /// Counted up to make the tabs reload.
    reload: watch::Sender<u64>,
    /// For each tab: the last of these that it has obeyed.
    reloaded: Vec<Arc<AtomicU64>>,
}

impl Browser {
    /// A browser with so many tabs, none of them open yet.
    pub(super) fn new(contact: i64, session_id: String, agent: String, tabs: usize) -> Self {
        Self {
            contact,
            session_id,
            agent,
            received: Arc::default(),
            reload: watch::channel(0).0,
            reloaded: (0..tabs).map(|_| Arc::default()).collect(),
        }
    }

    /// The tabs, which reach the daemon at this address.
    pub(super) fn tabs(&self, address: &str) -> impl Iterator<Item = Tab> {
        self.reloaded.iter().map(move |reloaded| Tab {
            address: address.to_owned(),
            request: request(&self.session_id, &self.agent),
            received: Arc::clone(&self.received),
            reload: self.reload.subscribe(),
            reloaded: Arc::clone(reloaded),
            retry: Duration::from_millis(3000),
        })
    }

    /// Makes every tab reload as soon as nothing is on its way to it.
    pub(super) fn reload(&self) {
        self.reload.send_modify(|count| *count += 1);
    }

    /// Whether a tab has still to reload.
    pub(super) fn is_reloading(&self) -> bool {
        let wanted = *self.reload.borrow();
        let obeyed = |tab: &Arc<AtomicU64>| tab.load(Ordering::Acquire) >= wanted;
        !self.reloaded.iter().all(obeyed)
    }
}

/// One tab: an EventSource that opens its stream again and again.
pub(super) struct Tab {
    address: String,
    request: String,
    received: Arc<Mutex<Received>>,
    reload: watch::Receiver<u64>,
    reloaded: Arc<AtomicU64>,
    retry: Duration,
}

/// The fields of an event that is not over yet.
#[derive(Default)]
struct Partial {
    data: Option<serde_json::Value>,
    id: Option<i64>,
}

impl Tab {
    /// Opens the stream again and again, until an answer ends it for good; returns that answer's status.
    pub(super) async fn live(mut self) -> String {
        loop {
            let reader = match self.open().await {
                Some(Ok(reader)) => reader,
                Some(Err(status)) => return status,
                None => {
                    tokio::time::sleep(PROXY_RETRY).await;
                    continue;
                }
            };
            if self.read(reader).await {
                self.reloaded
                    .store(*self.reload.borrow(), Ordering::Release);
            }
            // EventSource waits as it was told; a reload takes a good two seconds, too.
            tokio::time::sleep(self.retry.min(Duration::from_millis(2200))).await;
        }
    }

    /// Opens a stream; else the status of an answer that ends an EventSource. Nothing if the daemon is not there, or was
    /// killed before it answered: a proxy makes a 502 of that, and a 200 of the 502.
    async fn open(&self) -> Option<Result<BufReader<TcpStream>, String>> {
        let mut reader = BufReader::new(TcpStream::connect(&self.address).await.ok()?);
        let request = self.request.as_bytes();
        reader.get_mut().write_all(request).await.ok()?;
        let mut status = String::new();
        reader.read_line(&mut status).await.ok()?;
        if status.is_empty() {
            return None;
        }
        let is_stream = status.starts_with("HTTP/1.1 200 ");
        Some(if is_stream { Ok(reader) } else { Err(status) })
    }

    /// Reads a stream to its end, or until the tab is to reload; returns whether it is.
    async fn read(&mut self, mut reader: BufReader<TcpStream>) -> bool {
        let reloads = *self.reload.borrow_and_update();
        self.reloaded.store(reloads, Ordering::Release);
        let mut partial = Partial::default();
        let mut line = String::new();
        loop {
            line.clear();
            tokio::select! {
                read = reader.read_line(&mut line) => {
                    if !matches!(read, Ok(length) if length > 0) {
                        return false;
                    }
                }
                () = wants_reload(&mut self.reload, reloads, &self.received) => return true,
            }
            self.take(line.trim_end(), &mut partial);
        }
    }

    /// Takes a line: of the head, which has none of these names, or of the stream.
    fn take(&mut self, line: &str, partial: &mut Partial) {
        if let Some(value) = line.strip_prefix("retry: ") {
            self.retry = Duration::from_millis(value.parse().expect("milliseconds"));
        } else if let Some(value) = line.strip_prefix("data: ") {
            partial.data = Some(serde_json::from_str(value).expect("valid JSON"));
        } else if let Some(value) = line.strip_prefix("id: ") {
            partial.id = value.parse().ok();
        } else if line.is_empty()
            && let Some(data) = partial.data.take()
        {
            let payload = &data["payload"];
            let text = payload["message"].as_str().unwrap_or("no text").to_owned();
            let incident = payload["incident_id"].as_i64().expect("an incident");
            let mut received = self.received.lock().expect("not poisoned");
            if text == "fence" {
                received.fences += 1;
            } else {
                let id = partial.id.take().expect("an id");
                received.events.push((text, incident, id, Instant::now()));
            }
        }
    }
}

/// Resolves when the tab is to reload and nothing came for a while.
async fn wants_reload(reload: &mut watch::Receiver<u64>, seen: u64, received: &Mutex<Received>) {
    loop {
        let quiet = {
            let received = received.lock().expect("not poisoned");
            received
                .events
                .last()
                .is_none_or(|(.., at)| at.elapsed() >= QUIET)
        };
        if *reload.borrow() > seen {
            if quiet {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        } else if reload.changed().await.is_err() {
            return std::future::pending().await;
        }
    }
}

//! Thousands of users, each with one open stream, as cheap as clients can be: the two cores are wanted by the daemon. They
//! come back when their stream is ended, every second of them with `Last-Event-ID`, as Firefox does.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, oneshot};

use crate::common::postgres::{Database, Session};
use crate::common::sse::{AGENT, request};
use crate::common::wait::PATIENCE;

/// Streams that are being opened at a time.
const AT_A_TIME: usize = 100;

/// Makes contacts 1 to `count`, each with a signed-in browser; all browsers are of the same make, as in a company.
pub(crate) fn populate(database: &Database, count: usize) {
    database
        .psql()
        .command(&format!(
            "INSERT INTO contact (id, full_name, username, default_channel_id, changed_at)
               SELECT n, 'User ' || n, 'user' || n, 1, 0 FROM generate_series(1, {count}) AS n;
             INSERT INTO browser_session (php_session_id, username, user_agent, authenticated_at)
               SELECT lpad(n::text, 26, '0'), 'user' || n, '{AGENT}',
                      (extract(epoch FROM now()) * 1000)::bigint - n * 1000
               FROM generate_series(1, {count}) AS n;
             ANALYZE contact; ANALYZE browser_session;"
        ))
        .success();
}

/// The session id that [`populate`] gave a contact.
pub(crate) fn session_id(contact: usize) -> String {
    format!("{contact:026}")
}

/// Signs in: connects, asks, and reads up to the end of the first block. The answer must be 200.
pub(crate) async fn open(address: &str, contact: usize) -> TcpStream {
    come_back(address, contact, None).await
}

/// The same, of a browser that has read up to `last_event_id`.
async fn come_back(address: &str, contact: usize, last_event_id: Option<&str>) -> TcpStream {
    let mut socket = TcpStream::connect(address)
        .await
        .expect("the daemon accepts");
    let mut request = request(&session_id(contact), AGENT);
    if let Some(id) = last_event_id.filter(|_| contact.is_multiple_of(2)) {
        request = request.replace("\r\n\r\n", &format!("\r\nLast-Event-ID: {id}\r\n\r\n"));
    }
    socket
        .write_all(request.as_bytes())
        .await
        .expect("the daemon reads");
    let mut answer = Vec::with_capacity(512);
    loop {
        let length = socket.read_buf(&mut answer).await.expect("an answer");
        let text = String::from_utf8_lossy(&answer);
        assert!(length > 0, "the answer ended: {text}");
        let body = text.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        if body.contains("\n\n") {
            assert!(text.starts_with("HTTP/1.1 200 "), "{text}");
            return socket;
        }
    }
}

/// An event that reached a client, or a client that was back after its stream was ended.
#[derive(Clone, Copy)]
pub(crate) struct Arrival {
    pub(crate) contact: usize,
    pub(crate) at: Instant,
}

/// The open streams of contacts 1 to `count`, read by one thread.
pub(crate) struct Crowd {
    arrivals: Arc<Arrivals>,
    back: Arc<Arrivals>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Arrivals {
    open: AtomicUsize,
    events: AtomicUsize,
    list: Mutex<Vec<Arrival>>,
}

impl Crowd {
    /// Opens the streams; returns when each has been let in and has had its first block.
    pub(crate) fn open(address: &str, count: usize) -> Self {
        let arrivals = Arc::new(Arrivals::default());
        let back = Arc::new(Arrivals::default());
        let (stop, stopped) = oneshot::channel();
        let (shared, address) = (Arc::clone(&arrivals), address.to_owned());
        let returned = Arc::clone(&back);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            runtime.block_on(async {
                let opening = Arc::new(Semaphore::new(AT_A_TIME));
                for contact in 1..=count {
                    let (shared, address) = (Arc::clone(&shared), address.clone());
                    let (opening, returned) = (Arc::clone(&opening), Arc::clone(&returned));
                    tokio::spawn(async move {
                        let permit = opening.acquire().await.expect("never closed");
                        let mut socket = open(&address, contact).await;
                        drop(permit);
                        shared.open.fetch_add(1, Ordering::Relaxed);
                        while let Some((retry, id)) = read(socket, contact, &shared).await {
                            tokio::time::sleep(retry).await;
                            socket = come_back(&address, contact, id.as_deref()).await;
                            returned.note(contact);
                        }
                    });
                }
                // An error is the crowd being dropped, which means the same.
                let _ = stopped.await;
            });
        });
        let crowd = Self {
            arrivals,
            back,
            stop: Some(stop),
            thread: Some(thread),
        };
        // Progress, and not time, is what is to be expected of each of many sign-ins.
        let (mut seen, mut since) = (0, Instant::now());
        while seen < count {
            assert!(since.elapsed() < PATIENCE, "{seen} of {count} streams open");
            std::thread::sleep(Duration::from_millis(10));
            let now = crowd.arrivals.open.load(Ordering::Relaxed);
            if now > seen {
                (seen, since) = (now, Instant::now());
            }
        }
        crowd
    }

    /// Waits until `count` events have come in since the last call.
    pub(crate) fn wait_for(&self, count: usize) -> Vec<Arrival> {
        self.arrivals.wait_for(count, "events came")
    }

    /// Waits until `count` clients have come back since the last call.
    pub(crate) fn wait_for_returns(&self, count: usize) -> Vec<Arrival> {
        self.back.wait_for(count, "clients were back")
    }
}

impl Arrivals {
    fn note(&self, contact: usize) {
        let at = Instant::now();
        let mut list = self.list.lock().expect("not poisoned");
        list.push(Arrival { contact, at });
        self.events.fetch_add(1, Ordering::Release);
    }

    fn wait_for(&self, count: usize, what: &str) -> Vec<Arrival> {
        let start = Instant::now();
        // Looking now and then instead of being woken: ten thousand wake-ups would be felt.
        while self.events.load(Ordering::Acquire) < count {
            let seen = self.events.load(Ordering::Relaxed);
            assert!(start.elapsed() < PATIENCE, "{seen} of {count} {what}");
            std::thread::sleep(Duration::from_millis(20));
        }
        let mut list = self.list.lock().expect("not poisoned");
        self.events.store(0, Ordering::Release);
        std::mem::take(&mut *list)
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Notes each event until the end of the stream. Returns after which time to come back, and what was read last; `None` if
/// the daemon is stopping.
async fn read(
    socket: TcpStream,
    contact: usize,
    arrivals: &Arrivals,
) -> Option<(Duration, Option<String>)> {
    let (mut retry, mut last) = (None, None);
    let mut rest: Vec<u8> = Vec::new();
    loop {
        if socket.readable().await.is_err() {
            return None;
        }
        let mut buffer = [0; 4096];
        let length = match socket.try_read(&mut buffer) {
            Ok(0) => {
                let milliseconds: u64 = retry?;
                return (milliseconds <= 400).then(|| (Duration::from_millis(milliseconds), last));
            }
            Ok(length) => length,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => continue,
            Err(_) => return None,
        };
        rest.extend_from_slice(&buffer[..length]);
        while let Some(end) = rest.windows(2).position(|two| two == b"\n\n") {
            if rest.starts_with(b"event: icinga2.notification") {
                arrivals.note(contact);
            }
            for line in String::from_utf8_lossy(&rest[..end]).lines() {
                if let Some(id) = line.strip_prefix("id: ") {
                    last = Some(id.to_owned());
                } else if let Some(milliseconds) = line.strip_prefix("retry: ") {
                    retry = milliseconds.parse().ok();
                }
            }
            rest.drain(..end + 2);
        }
    }
}

/// Writes what Icinga writes for a new incident that every contact is notified about, within the caller's transaction.
pub(crate) async fn write_all(icinga: &Session) {
    icinga
        .run(
            "INSERT INTO object (id, source_id, name) VALUES (sha256('crowd'), 1, 'db1!disk') ON CONFLICT DO NOTHING;
             INSERT INTO incident (object_id, started_at, severity) VALUES (sha256('crowd'), 0, 'crit');
             INSERT INTO incident_contact (incident_id, contact_id, role)
               SELECT currval('incident_id_seq'), id, 'recipient' FROM contact ORDER BY id;
             INSERT INTO incident_history (incident_id, contact_id, channel_id, time, message, type, notification_state)
               SELECT currval('incident_id_seq'), id, 1, (extract(epoch FROM now()) * 1000)::bigint,
                      'DISK CRITICAL - free space: / 212 MB (1% inode=98%)', 'notified', 'pending'
               FROM contact ORDER BY id;",
        )
        .await;
}

/// [`write_all`] in a transaction of its own.
pub(crate) async fn notify_all(icinga: &Session) {
    icinga.run("BEGIN").await;
    write_all(icinga).await;
    icinga.run("COMMIT").await;
}

//! Thousands of users, each with one open stream, as cheap as clients can be, because the daemon needs the two cores. They
//! reconnect when their stream ends, every second of them with `Last-Event-ID`, as Firefox does. The same clients subscribe to
//! the hubs that the daemon is compared with.

use std::hash::{DefaultHasher, Hasher as _};
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, oneshot};

use crate::common::postgres::{Database, Session};
use crate::common::sse::{AGENT, request};
use crate::common::wait::TIMEOUT;

/// What identifies a block as an event. Not all servers write a space before it.
const EVENT: &[u8] = b"icinga2.notification";

/// After which time EventSource reconnects if the server does not say.
const RETRY: Duration = Duration::from_secs(3);

/// Streams that are being opened at a time.
const AT_A_TIME: usize = 100;

/// Creates contacts 1 to `count`, each with a signed-in browser; all browsers have the same user agent, as in a company.
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

/// The request of the browser of a contact of [`populate`].
pub(crate) fn sign_in(contact: usize) -> String {
    request(&session_id(contact), AGENT)
}

/// Signs in: connects, sends the request, and reads up to the end of the first block. The answer must be 200.
pub(crate) async fn open(address: &str, contact: usize) -> TcpStream {
    let stream = ask(address, &sign_in(contact)).await;
    stream.expect("the daemon answers").0
}

/// A request of a client that has read up to `last_event_id`, if it sends that.
fn coming_back(request: String, client: usize, last_event_id: Option<&str>) -> String {
    match last_event_id.filter(|_| client.is_multiple_of(2)) {
        Some(id) => request.replace("\r\n\r\n", &format!("\r\nLast-Event-ID: {id}\r\n\r\n")),
        None => request,
    }
}

/// Connects, sends the request, and reads up to the end of the first block. Also returns what was read of the body.
async fn ask(address: &str, request: &str) -> io::Result<(TcpStream, Vec<u8>)> {
    let mut socket = TcpStream::connect(address).await?;
    socket.write_all(request.as_bytes()).await?;
    let mut answer = Vec::with_capacity(512);
    loop {
        let length = socket.read_buf(&mut answer).await?;
        let text = String::from_utf8_lossy(&answer);
        assert!(length > 0, "the answer ended: {text}");
        let body = text.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        if body.contains("\n\n") {
            assert!(text.starts_with("HTTP/1.1 200 "), "{text}");
            return Ok((socket, body.as_bytes().to_vec()));
        }
    }
}

/// The same, as often as needed, as EventSource does when a connection fails: a server at its limit of streams may refuse a
/// client that returns before its old stream is closed.
async fn ask_until_answered(address: &str, request: &str) -> (TcpStream, Vec<u8>) {
    loop {
        match ask(address, request).await {
            Ok(stream) => return stream,
            Err(_) => tokio::time::sleep(RETRY).await,
        }
    }
}

/// An event that reached a client, or a client that returned after its stream ended.
#[derive(Clone, Copy)]
pub(crate) struct Arrival {
    pub(crate) contact: usize,
    /// A digest of the event's bytes, to detect a repetition; 0 for a return.
    pub(crate) digest: u64,
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
    /// Opens the streams of contacts 1 to `count`; returns when each has been accepted and has received its first block.
    pub(crate) fn open(address: &str, count: usize) -> Self {
        Self::asking(address, count, sign_in)
    }

    /// The same of clients 1 to `count` of any server, with these requests.
    pub(crate) fn asking(address: &str, count: usize, request: fn(usize) -> String) -> Self {
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
                        let stream = ask(&address, &request(contact)).await;
                        let stream = stream.expect("the server lets in");
                        drop(permit);
                        shared.open.fetch_add(1, Ordering::Relaxed);
                        let on_event = |digest| shared.note(contact, digest);
                        let on_return = || returned.note(contact, 0);
                        hold(&address, request, contact, stream, on_event, on_return).await;
                    });
                }
                // An error means that the crowd is being dropped.
                let _ = stopped.await;
            });
        });
        let crowd = Self {
            arrivals,
            back,
            stop: Some(stop),
            thread: Some(thread),
        };
        // Many sign-ins are expected to make progress, not to be done in a certain time.
        let (mut seen, mut since) = (0, Instant::now());
        while seen < count {
            assert!(since.elapsed() < TIMEOUT, "{seen} of {count} streams open");
            std::thread::sleep(Duration::from_millis(10));
            let now = crowd.arrivals.open.load(Ordering::Relaxed);
            if now > seen {
                (seen, since) = (now, Instant::now());
            }
        }
        crowd
    }

    /// Waits until `count` events have arrived since the last call.
    pub(crate) fn wait_for(&self, count: usize) -> Vec<Arrival> {
        self.arrivals.wait_for(count, "events came")
    }

    /// Waits until `count` clients have returned since the last call.
    pub(crate) fn wait_for_returns(&self, count: usize) -> Vec<Arrival> {
        self.back.wait_for(count, "clients were back")
    }
}

impl Arrivals {
    fn note(&self, contact: usize, digest: u64) {
        let at = Instant::now();
        let mut list = self.list.lock().expect("not poisoned");
        list.push(Arrival {
            contact,
            digest,
            at,
        });
        self.events.fetch_add(1, Ordering::Release);
    }

    fn wait_for(&self, count: usize, what: &str) -> Vec<Arrival> {
        let start = Instant::now();
        // Polls instead of being woken: ten thousand wake-ups would cost too much.
        while self.events.load(Ordering::Acquire) < count {
            let seen = self.events.load(Ordering::Relaxed);
            assert!(start.elapsed() < TIMEOUT, "{seen} of {count} {what}");
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

fn contains(block: &[u8], line: &[u8]) -> bool {
    block.windows(line.len()).any(|bytes| bytes == line)
}

fn digest(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    hasher.finish()
}

/// Opens the stream of a browser's tab and reconnects when it ends. `on_open` is called once the first is open, and `on_event`
/// for each event with a digest of its bytes.
pub(crate) async fn tab(
    address: &str,
    contact: usize,
    on_open: impl FnOnce(),
    on_event: impl FnMut(u64),
) {
    let stream = ask(address, &sign_in(contact)).await;
    let stream = stream.expect("the daemon answers");
    on_open();
    hold(address, sign_in, contact, stream, on_event, || {}).await;
}

/// Reads a client's stream, and reconnects whenever it ends, as EventSource does.
async fn hold(
    address: &str,
    request: fn(usize) -> String,
    client: usize,
    mut stream: (TcpStream, Vec<u8>),
    mut on_event: impl FnMut(u64),
    on_return: impl Fn(),
) {
    loop {
        let (retry, id) = read(stream, &mut on_event).await;
        tokio::time::sleep(retry).await;
        let request = coming_back(request(client), client, id.as_deref());
        stream = ask_until_answered(address, &request).await;
        on_return();
    }
}

/// Reads events until the end of the stream. Returns after which time to reconnect, and what was read last.
async fn read(
    (socket, mut rest): (TcpStream, Vec<u8>),
    on_event: &mut impl FnMut(u64),
) -> (Duration, Option<String>) {
    let (mut retry, mut last) = (RETRY, None);
    loop {
        while let Some(end) = rest.windows(2).position(|two| two == b"\n\n") {
            // A server may write in chunks; then the length of a chunk precedes it.
            if contains(&rest[..end], EVENT) {
                on_event(digest(&rest[..end]));
            }
            for line in String::from_utf8_lossy(&rest[..end]).lines() {
                if let Some(id) = line.strip_prefix("id: ") {
                    last = Some(id.to_owned());
                } else if let Some(Ok(milliseconds)) = line.strip_prefix("retry: ").map(str::parse)
                {
                    retry = Duration::from_millis(milliseconds);
                }
            }
            rest.drain(..end + 2);
        }
        if socket.readable().await.is_err() {
            return (retry, last);
        }
        let mut buffer = [0; 4096];
        match socket.try_read(&mut buffer) {
            Ok(length) if length > 0 => rest.extend_from_slice(&buffer[..length]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            _ => return (retry, last),
        }
    }
}

/// The message of each event.
pub(crate) const MESSAGE: &str = "DISK CRITICAL - free space: / 212 MB (1% inode=98%)";

/// Writes what Icinga writes for a new incident that notifies every contact, within the caller's transaction.
pub(crate) async fn write_all(icinga: &Session) {
    icinga
        .run(&format!(
            "INSERT INTO object (id, source_id, name) VALUES (sha256('crowd'), 1, 'db1!disk') ON CONFLICT DO NOTHING;
             INSERT INTO incident (object_id, started_at, severity) VALUES (sha256('crowd'), 0, 'crit');
             INSERT INTO incident_contact (incident_id, contact_id, role)
               SELECT currval('incident_id_seq'), id, 'recipient' FROM contact ORDER BY id;
             INSERT INTO incident_history (incident_id, contact_id, channel_id, time, message, type, notification_state)
               SELECT currval('incident_id_seq'), id, 1, (extract(epoch FROM now()) * 1000)::bigint,
                      '{MESSAGE}', 'notified', 'pending'
               FROM contact ORDER BY id;",
        ))
        .await;
}

/// The same for many incidents, each with this many contacts: those of the second follow those of the first, and so on, and
/// contact 1 follows contact `contacts`.
pub(crate) async fn write_incidents(
    icinga: &Session,
    incidents: usize,
    recipients: usize,
    contacts: usize,
) {
    let each = format!(
        "SELECT currval('incident_id_seq') - {incidents} + i AS incident,
                ((i - 1) * {recipients} + k) % {contacts} + 1 AS contact
           FROM generate_series(1, {incidents}) AS i, generate_series(0, {recipients} - 1) AS k
           ORDER BY i, k"
    );
    icinga
        .run(&format!(
            "INSERT INTO object (id, source_id, name)
               SELECT sha256(('crowd ' || i)::bytea), 1, 'db' || i || '!disk' FROM generate_series(1, {incidents}) AS i
               ON CONFLICT DO NOTHING;
             INSERT INTO incident (object_id, started_at, severity)
               SELECT sha256(('crowd ' || i)::bytea), 0, 'crit' FROM generate_series(1, {incidents}) AS i;
             INSERT INTO incident_contact (incident_id, contact_id, role)
               SELECT incident, contact, 'recipient' FROM ({each}) AS each;
             INSERT INTO incident_history (incident_id, contact_id, channel_id, time, message, type, notification_state)
               SELECT incident, contact, 1, (extract(epoch FROM now()) * 1000)::bigint, '{MESSAGE}', 'notified', 'pending'
               FROM ({each}) AS each;"
        ))
        .await;
}

/// [`write_all`] in a separate transaction.
pub(crate) async fn notify_all(icinga: &Session) {
    icinga.run("BEGIN").await;
    write_all(icinga).await;
    icinga.run("COMMIT").await;
}

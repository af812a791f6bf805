//! What is compared: a server that clients hold streams at, and that something is published to.

use std::path::Path;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::common::wait::{TIMEOUT, eventually_blocking};
use crate::shared::figures;

/// When something was published.
pub(crate) struct Published {
    /// When the publisher sent what publishes: COMMIT, or its (first) request.
    pub(crate) sent: Instant,
    /// When the publisher had its (last) answer.
    pub(crate) answered: Instant,
}

/// A running hub.
pub(crate) trait Hub {
    /// Where clients connect.
    fn address(&self) -> &str;

    /// What a client asks for.
    fn request(&self) -> fn(usize) -> String;

    /// The hub's processes; not those of a database or of an application behind it.
    fn processes(&self) -> Vec<u32>;

    /// Processor time so far of what the hub needs behind it.
    fn behind(&self) -> Duration {
        Duration::ZERO
    }

    /// Whether it ends each stream after an event, for the client to come back and so acknowledge it.
    fn acknowledges(&self) -> bool {
        false
    }

    /// What comes before an event is published and is not measured.
    async fn prepare(&self) {}

    /// One event to each of the clients 1 to `count`.
    async fn publish(&self, count: usize) -> Published;
}

/// The text of each event, as the daemon sends it.
pub(crate) const DATA: &str = r#"{"time":"2026-11-23T10:15:30.123+00:00","payload":{"incident_id":42,"severity":"crit","title":"db1!disk","message":"DISK CRITICAL - free space: / 212 MB (1% inode=98%)"}}"#;

/// The process that writes its id to a file, and those that it starts, once there are as many. A server may accept before.
pub(crate) fn processes(file: &Path, started: usize) -> Vec<u32> {
    eventually_blocking(TIMEOUT, || {
        let pid = figures::pid_in(file).ok_or("no process id yet")?;
        let children = figures::children(pid);
        let complete = children.len() == started;
        complete
            .then(|| [vec![pid], children].concat())
            .ok_or("not all processes yet")
    })
}

/// Sends requests all at once, one behind the other, on a connection of their own; the last asks to close it. Returns the
/// answers.
pub(crate) async fn post(address: &str, requests: &str) -> (Published, String) {
    let socket = TcpStream::connect(address).await;
    let (mut reader, mut writer) = socket.expect("the hub accepts").into_split();
    let mut answers = String::new();
    let sent = Instant::now();
    let (written, read) = tokio::join!(
        writer.write_all(requests.as_bytes()),
        reader.read_to_string(&mut answers)
    );
    let answered = Instant::now();
    written.and(read.map(drop)).expect("the hub answers");
    (Published { sent, answered }, answers)
}

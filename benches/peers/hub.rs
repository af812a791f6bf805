//! What is compared: a server with streams of clients, to which events are published.

use std::path::Path;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::common::wait::{TIMEOUT, eventually_blocking};
use crate::shared::figures;

/// When something was published.
pub(crate) struct Published {
    /// When the publisher sent the COMMIT, or its (first) request.
    pub(crate) sent: Instant,
    /// When the publisher received its (last) answer.
    pub(crate) answered: Instant,
}

/// A running hub.
pub(crate) trait Hub {
    /// The address for clients.
    fn address(&self) -> &str;

    /// The request of a client.
    fn request(&self) -> fn(usize) -> String;

    /// The hub's processes, without those of a database or an application behind it.
    fn processes(&self) -> Vec<u32>;

    /// CPU time so far of what the hub needs behind it.
    fn behind(&self) -> Duration {
        Duration::ZERO
    }

    /// Whether it ends each stream after an event, so that the client reconnects and acknowledges it.
    fn acknowledges(&self) -> bool {
        false
    }

    /// Preparation of a publication that is not measured.
    async fn prepare(&self) {}

    /// One event to each of the clients 1 to `count`.
    async fn publish(&self, count: usize) -> Published;
}

/// The text of each event, as the daemon sends it.
pub(crate) const DATA: &str = r#"{"time":"2026-11-23T10:15:30.123+00:00","payload":{"incident_id":42,"severity":"crit","title":"db1!disk","message":"DISK CRITICAL - free space: / 212 MB (1% inode=98%)"}}"#;

/// The process that writes its id to a file, and those that it starts, once there are that many. A server may accept before.
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

/// Sends all requests at once, one after the other, on one connection; the last one asks to close it. Returns the answers.
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

//! better-sse, a Node.js library for Server-Sent Events, in a minimal server: `better-sse.cjs`.

use std::path::Path;
use std::process::Command;

use super::hub::{DATA, Hub, Published, post, processes};
use crate::common::guarded::{Guarded, directory};
use crate::common::postgres::free_port;

/// The directory of the library below npm's.
const PLACE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/peers");

const LIBRARY: &str = "better-sse@0.16.1";

const SERVER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/peers/better-sse.cjs");

/// Installs the library below `target/`, if it is missing. Returns the error, if any.
pub(crate) fn install() -> Result<(), String> {
    if Path::new(PLACE).join("node_modules/better-sse").exists() {
        return Ok(());
    }
    let npm = Command::new("npm")
        .args([
            "install",
            "--no-save",
            "--no-audit",
            "--no-fund",
            "--prefix",
            PLACE,
        ])
        .arg(LIBRARY)
        .output()
        .map_err(|error| format!("npm: {error}; install Node.js 20 or newer"))?;
    if npm.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&npm.stderr);
    Err(format!("npm install {LIBRARY}: {}", said.trim()))
}

pub(crate) struct BetterSse {
    _server: Guarded,
    address: String,
    processes: Vec<u32>,
}

impl BetterSse {
    pub(crate) fn start() -> Self {
        let directory = directory();
        let root = directory.display();
        let port = free_port();
        let address = format!("127.0.0.1:{port}");
        let start = format!(
            "echo $$ > {root}/pid; NODE_PATH={PLACE}/node_modules exec node {SERVER} {port} > {root}/log 2>&1"
        );
        let server = Guarded::run(&directory, &["sh", "-c", &start], &address);
        Self {
            processes: processes(&directory.join("pid"), 0),
            _server: server,
            address,
        }
    }
}

impl Hub for BetterSse {
    fn address(&self) -> &str {
        &self.address
    }

    fn request(&self) -> fn(usize) -> String {
        |_| {
            "GET / HTTP/1.1\r\nHost: monitoring.example.com\r\nAccept: text/event-stream\r\n\r\n"
                .to_owned()
        }
    }

    fn processes(&self) -> Vec<u32> {
        self.processes.clone()
    }

    async fn publish(&self, _count: usize) -> Published {
        let request = format!(
            "POST / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{DATA}",
            DATA.len(),
        );
        let (published, answer) = post(&self.address, &request).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        published
    }
}

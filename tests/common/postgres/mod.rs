//! A private PostgreSQL per test binary, with a database per test, real psql, and sessions that keep what they hear.
//!
//! The server lives in a temporary directory and is gone with the test process, even if that is killed: a guardian shell
//! waits for the end of a pipe that only the test process holds open.

mod cluster;
mod database;
mod endpoint;
mod guardian;
mod programs;
mod psql;
mod session;

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::process::Command;
use std::sync::Mutex;

pub(crate) use cluster::Cluster;
pub(crate) use database::Database;
pub(crate) use session::Session;

/// The superuser of every [`Cluster`].
pub(crate) const SUPERUSER: &str = "postgres";

/// The superuser's password: TCP asks for it, the socket does not.
pub(crate) const PASSWORD: &str = "only-for-tests";

/// A port on 127.0.0.1 that is free, another one each time: who was given one may not listen there yet.
pub(crate) fn free_port() -> u16 {
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    loop {
        let port = TcpListener::bind(("127.0.0.1", 0))
            .and_then(|listener| listener.local_addr())
            .expect("a free port on 127.0.0.1")
            .port();
        if GIVEN.lock().expect("not poisoned").insert(port) {
            return port;
        }
    }
}

/// Whoever runs the tests may have a database of their own in the environment.
fn without_pg_environment(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("PG") {
            command.env_remove(name);
        }
    }
}

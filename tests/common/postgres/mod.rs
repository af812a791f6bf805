//! A private PostgreSQL per test binary, with a database per test, real psql, and sessions that keep their notifications.
//!
//! The server has a temporary directory and ends with the test process, even if that is killed: a guardian shell waits for the
//! end of a pipe that only the test process keeps open.

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

/// The superuser's password: required over TCP, not over the socket.
pub(crate) const PASSWORD: &str = "only-for-tests";

/// A free port on 127.0.0.1, another one each time: the program for an earlier one may not listen yet.
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

/// The environment may have the settings of another database.
fn without_pg_environment(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("PG") {
            command.env_remove(name);
        }
    }
}

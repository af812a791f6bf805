//! Shared by the tests: a private PostgreSQL, writers that behave like Icinga, the real daemon, and clients.
#![allow(
    dead_code,
    reason = "each test binary compiles all of this and uses a part"
)]

pub(crate) mod admin;
pub(crate) mod apache;
pub(crate) mod chromium;
pub(crate) mod command;
pub(crate) mod daemon;
pub(crate) mod eventsource;
pub(crate) mod firefox;
pub(crate) mod guarded;
pub(crate) mod guardian;
pub(crate) mod icinga;
pub(crate) mod icinga2;
pub(crate) mod network;
pub(crate) mod nginx;
pub(crate) mod packages;
pub(crate) mod perfdata;
pub(crate) mod pgbouncer;
pub(crate) mod postgres;
pub(crate) mod prometheus;
pub(crate) mod sse;
pub(crate) mod systemd;
pub(crate) mod tls;
pub(crate) mod wait;
pub(crate) mod web;
pub(crate) mod webdriver;
pub(crate) mod world;

/// Raises the limit on open files to the hard limit, for this process and those it starts.
pub(crate) fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let maximum = getrlimit(Resource::Nofile).maximum;
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    setrlimit(Resource::Nofile, raised).expect("up to the hard limit anybody may");
}

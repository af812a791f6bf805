//! What the tests share: a private PostgreSQL, writers that behave as Icinga does, the real daemon, and subscribers.
#![allow(
    dead_code,
    reason = "each test binary compiles all of this and uses a part"
)]

pub(crate) mod apache;
pub(crate) mod daemon;
pub(crate) mod icinga;
pub(crate) mod packages;
pub(crate) mod pgbouncer;
pub(crate) mod postgres;
pub(crate) mod sse;
pub(crate) mod systemd;
pub(crate) mod world;

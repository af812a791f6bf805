//! The real binary between a real PostgreSQL and its subscribers.

#[path = "../common/mod.rs"]
mod common;
mod delivery;
mod faults;
mod health;
mod hostile;
mod http;
mod metrics;
mod monitoring;
mod replay;
mod service;
mod sign_ins;
mod trouble;

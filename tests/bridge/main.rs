//! The real binary between a real PostgreSQL and its subscribers.

mod admin;
#[path = "../common/mod.rs"]
mod common;
mod connection;
mod delivery;
mod faults;
mod hostile;
mod http;
mod replay;
mod service;
mod sign_ins;
mod trouble;

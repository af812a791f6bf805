//! The commands that end by themselves, and what the manual says of them.

mod check;
mod check_health;
mod check_stream;
mod cli;
#[path = "../common/mod.rs"]
mod common;
mod connection;
mod explain;
mod forwarded;
mod manual;
mod send_test;
mod settings;
mod tls;

//! The subcommands other than `run`, and what the manual says about them.

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

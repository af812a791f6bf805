//! A bridge from PostgreSQL LISTEN/NOTIFY to Server-Sent Events: desktop notifications for Icinga
//! Notifications, at once.
//!
//! The modules stand below in the order of the data: a stage imports only what comes after it
//! (`tests/properties/house.rs` holds it to that).
//!
//! 1. [`cli`] is the command line; [`lifecycle`] starts the stages, waits, and stops them.
//! 2. [`commands`] are those that end by themselves. The daemon begins with `listen`: triggers
//!    (`sql/install.sql`) ring a bell over NOTIFY when a transaction commits, one session hears it, and a pulse proves
//!    that it does. `http` answers browsers and hands their connections over.
//! 3. [`resolve`] looks at the tables when the bell rings, again until every transaction that ran then has ended, and every
//!    few seconds without a bell; it makes events of the rows that are new. `deliver` gives each event to one stream of
//!    a browser, and replays what the browser missed; [`auth`] says whose browser it is, and ends streams whose sign-in has
//!    ended or cannot be checked; `ask` carries questions from commands to every bridge of a database.
//! 4. `hub` knows who is connected: a broadcast channel per recipient, and which rows each browser has received.
//! 5. [`database`] has the connections and every statement; `net` the sockets.
//! 6. [`observe`]: log, metrics, and what is wrong by them.
//! 7. [`config`] reads Icinga Web's files; [`model`] holds the plain values that stages pass on; `systemd`
//!    speaks with the service manager.

pub mod cli;
pub mod lifecycle;

pub mod commands;
pub(crate) mod http;
pub(crate) mod listen;

pub(crate) mod ask;
pub mod auth;
pub(crate) mod deliver;
pub mod resolve;

pub(crate) mod hub;

pub mod database;
pub(crate) mod net;

pub mod observe;

pub mod config;
pub mod model;
pub(crate) mod systemd;

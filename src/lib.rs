//! A bridge from PostgreSQL LISTEN/NOTIFY to Server-Sent Events: desktop notifications for Icinga Notifications as soon as they
//! are written.
//!
//! The modules are listed in the order of the data flow: a stage imports only modules below it (`tests/properties/house.rs`
//! checks that).
//!
//! 1. [`cli`] is the command line. [`lifecycle`] starts the daemon's stages, waits, and stops them.
//! 2. [`commands`] are the other subcommands. `listen` is the daemon's input: triggers (`sql/install.sql`) ring a bell with
//!    NOTIFY when a transaction commits, one session receives it, and a pulse proves that it still receives. `http` answers
//!    browsers and hands their connections over to `deliver`.
//! 3. [`resolve`] looks at the tables when the bell rings, again until all transactions that were running then have ended, and
//!    every few seconds without a bell; it makes events of new rows. `deliver` writes each event to one stream of a browser, and
//!    replays what the browser missed. [`auth`] authenticates browsers, and ends streams whose sign-in has ended or cannot be
//!    checked. `ask` sends questions of commands to every bridge of a database.
//! 4. `hub` knows who is connected: a broadcast channel per recipient, and the position of each browser.
//! 5. [`database`] has the connections and all statements; `net` has the sockets.
//! 6. [`observe`] has the log, the metrics and the health report.
//! 7. [`config`] reads Icinga Web's files. [`model`] has the plain values that the stages exchange. `systemd` notifies the
//!    service manager.

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

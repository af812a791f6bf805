//! A bridge from PostgreSQL LISTEN/NOTIFY to Server-Sent Events: desktop notifications for Icinga
//! Notifications, at once.
//!
//! Data moves in one direction, and a stage knows nothing about those after the next one:
//!
//! 1. Triggers (`sql/install.sql`) send ids over NOTIFY when an incident's severity changes or a
//!    contact is notified; [`notification`] is what they send.
//! 2. [`listener`] hears them, on a session of its own, and queues them.
//! 3. [`resolver`] takes what has arrived, lets [`fold`] make one announcement of what belongs
//!    together, reads the rows through [`queries`] and renders each [`event`].
//! 4. [`hub`] has a broadcast channel per recipient with open streams.
//! 5. [`http`] lets browsers in ([`auth`]) and gives each event to one stream of each browser.
//!
//! What a browser misses is found again by [`replay`], from its [`position`], which [`positions`] stores, and compares with
//! the database after a failover.
//! [`pulse`] proves that the listener hears; [`sign_ins`] ends streams that are not allowed any more.
//!
//! [`ask`] is how commands such as [`send_test`] reach the bridges of a database.
//!
//! [`lifecycle`] builds all this and takes it down; [`config`] says with which settings; [`check`]
//! looks whether it can work; [`cli`] is the command line; [`service`] speaks
//! with systemd, and [`logging`] with its journal; [`installation`] knows what the SQL script leaves in the database.

pub mod ask;
pub mod auth;
pub mod burst;
pub mod check;
pub mod cli;
pub mod config;
pub mod database;
pub mod event;
pub mod fold;
pub mod http;
pub mod hub;
pub mod installation;
pub mod lifecycle;
pub mod listener;
pub mod logging;
pub mod metrics;
pub mod notification;
pub mod position;
pub mod positions;
pub mod pulse;
pub mod queries;
pub mod replay;
pub mod resolver;
pub mod send_test;
pub mod service;
pub mod sign_ins;

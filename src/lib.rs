//! A bridge from PostgreSQL LISTEN/NOTIFY to Server-Sent Events: desktop notifications for Icinga
//! Notifications, at once.
pub mod ask;
pub mod auth;
pub mod cli;
pub mod commands;
pub mod config;
pub mod database;
pub mod deliver;
pub mod http;
pub mod hub;
pub mod lifecycle;
pub mod listen;
pub mod model;
pub mod net;
pub mod observe;
pub mod resolve;
pub mod systemd;

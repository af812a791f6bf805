//! PostgreSQL LISTEN/NOTIFY to Server-Sent Events, for Icinga Notifications.

pub mod config;

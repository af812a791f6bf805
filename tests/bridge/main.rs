//! The real daemon between a real PostgreSQL and its clients.

mod alerts;
mod by_hand;
#[path = "../common/mod.rs"]
mod common;
mod dashboard;
mod delivery;
mod epochs;
mod faults;
mod forged;
mod health;
mod hostile;
mod http;
mod kinds;
mod listening;
mod looks;
mod metrics;
mod monitoring;
mod plans;
mod positions;
mod receipts;
mod replay;
mod schema;
mod service;
mod sign_ins;
mod status_page;
mod triggers;
mod trouble;

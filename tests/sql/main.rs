//! What `sql/` does in a real PostgreSQL: installing, the triggers' notifications, rights, and what a writer notices.

#[path = "../common/mod.rs"]
mod common;
mod incidents;
mod indexes;
mod install;
mod rights;
mod sign_ins;
mod support;
mod uninstall;
mod upgrade;
mod writer;

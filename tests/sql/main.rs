//! What `sql/` does in a real PostgreSQL: installing, the triggers' notifications, rights, and what a writer notices.

#[path = "../common/mod.rs"]
mod common;
mod install;
mod writer;

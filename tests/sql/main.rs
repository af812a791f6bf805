//! What `sql/` does in a real PostgreSQL: installing, the triggers' notifications, rights, and what a writer notices.

mod bell;
#[path = "../common/mod.rs"]
mod common;
mod indexes;
mod install;
mod rights;
mod schema_changes;
mod severities;
mod sign_ins;
mod support;
mod uninstall;
mod upgrade;
mod writer;

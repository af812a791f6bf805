//! What `sql/` does in a real PostgreSQL: installation, the triggers' notifications, rights, and the effect on writers.

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

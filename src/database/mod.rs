//! PostgreSQL: connecting, what `sql/install.sql` left there, and every statement.

mod connect;
pub mod installation;
mod session;

pub use connect::*;
pub use session::*;

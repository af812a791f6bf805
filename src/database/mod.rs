//! PostgreSQL: connecting, what `sql/install.sql` left there, and every statement that the daemon sends.

mod backoff;
mod connect;
mod error;
pub mod installation;
mod keeper;
mod prepare;
mod queries;
mod session;
mod tls;
mod types;

pub use backoff::Backoff;
pub use connect::{Connector, PgConnection, SETUP_PATIENCE};
pub use error::{Error, NO_POOLER, NOT_A_STANDBY, describe};
pub use keeper::{Keeper, Queries};
pub use queries::{Bounds, Missed, NotifiedRow, Recipient};
pub use session::Session;

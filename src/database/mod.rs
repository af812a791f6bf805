//! PostgreSQL: connections, the installation of `sql/install.sql`, and all statements of the daemon.

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

pub(crate) use backoff::Backoff;
pub(crate) use connect::SETUP_TIMEOUT;
pub use connect::{Connector, PgConnection};
pub use error::{ConnectError, QueryError};
pub(crate) use error::{NO_POOLER, NOT_A_STANDBY, describe};
pub(crate) use keeper::{Keeper, Queries};
pub(crate) use queries::{
    Bounds, ContactRow, HistoryRow, Kind, Missed, Notified, NotifiedRow, Recipient, RowIdentity,
    SignedIn, StoredPosition, ToStore,
};
pub(crate) use session::OpenError;
pub use session::Session;

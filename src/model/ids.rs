//! Ids of Icinga's tables. Each has its own type, so that ids cannot be mixed up: access control depends on them.

use std::fmt;

use serde::{Deserialize, Serialize};
use tokio_postgres::types::{FromSql, ToSql};

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident,)*) => {$(
        $(#[$doc])*
        #[derive(
            Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSql, FromSql,
        )]
        #[postgres(transparent)]
        pub struct $name(pub i64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    )*};
}

ids! {
    /// `contact.id`.
    ContactId,
    /// `incident.id`.
    IncidentId,
    /// `incident_history.id`. 0 is below every row's id.
    HistoryId,
}

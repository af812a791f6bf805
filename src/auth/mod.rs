//! Who a browser is, and whether that still holds.

mod credentials;
mod rechecks;
mod revocation;

pub(crate) use credentials::SignInError;
pub use credentials::{Credentials, last_event_id};
pub(crate) use rechecks::{Recheck, Rechecks};
pub(crate) use revocation::SignIns;

//! Who a browser is, and whether that still holds.

mod credentials;
mod rechecks;
mod revocation;

pub use credentials::{Credentials, last_event_id};
pub use rechecks::{Recheck, Rechecks};
pub use revocation::SignIns;

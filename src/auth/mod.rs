//! Who a browser is, and whether that still holds.

mod credentials;
mod rechecks;
mod revocation;

pub use credentials::Credentials;
pub(crate) use credentials::SignInError;
pub(crate) use rechecks::Rechecks;
pub(crate) use revocation::SignIns;

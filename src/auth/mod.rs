//! Which contact a browser is signed in as, and whether its sign-in is still valid.

mod credentials;
mod rechecks;
mod revocation;

pub use credentials::Credentials;
pub(crate) use credentials::SignInError;
pub(crate) use rechecks::Rechecks;
pub(crate) use revocation::SignIns;

//! Who a browser is, and whether that still holds.

mod credentials;
mod revocation;

pub use credentials::{AgentKey, BrowserKey, Credentials, Refusal, SignIn, last_event_id};
pub use revocation::{Recheck, Rechecks, SignIns};

//! The result of authenticating a request: a signed-in browser, or a refusal.

use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::browser::{AgentKey, BrowserKey};
use super::ids::ContactId;
use super::position::Position;

/// A browser that may receive a contact's events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SignIn {
    pub(crate) contact_id: ContactId,
    pub(crate) browser: BrowserKey,
    /// Its user agent.
    pub(crate) agent: AgentKey,
    /// The rows that it has acknowledged, if that was ever stored.
    pub(crate) position: Option<Position>,
    /// The number of the hub's epoch that the ids belong to.
    pub(crate) epoch: u64,
    /// When Icinga Web authenticated it, in milliseconds since the Unix epoch.
    pub(crate) signed_in_at_ms: i64,
    /// When the database was queried.
    pub(crate) asked_at: Instant,
}

/// Why a request is refused. The client gets the same answer for all of them.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Serialize,
    Deserialize,
    thiserror::Error,
    strum::IntoStaticStr,
    strum::VariantArray,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Refusal {
    /// No session cookie.
    #[error("no session cookie")]
    NoCookie,
    /// The cookie cannot be a session id, or the user agent cannot be one that signed in.
    #[error("malformed session id or user agent")]
    Malformed,
    /// There is no session with that id: it never existed, or it signed out.
    #[error("unknown session (never signed in, or signed out)")]
    UnknownSession,
    /// Another user agent signed in with this session.
    #[error("the session was signed in by another browser")]
    UserAgent,
    /// The same user signed in again with the same user agent.
    #[error("the same browser signed in again since")]
    Superseded,
    /// The user is not a contact of Icinga Notifications.
    #[error("the user has no contact in Icinga Notifications")]
    NoContact,
}

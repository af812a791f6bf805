//! What a request turns out to be: a browser that is signed in, or one that is refused.

use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::browser::{AgentKey, BrowserKey};
use super::ids::ContactId;
use super::position::Position;

/// A browser that may have a contact's events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SignIn {
    pub(crate) contact_id: ContactId,
    pub(crate) browser: BrowserKey,
    /// Its user agent.
    pub(crate) agent: AgentKey,
    /// What it need not be told of, if that was ever stored.
    pub(crate) position: Option<Position>,
    /// Which of the hub's epochs its ids are of.
    pub(crate) epoch: u64,
    /// When Icinga Web authenticated it, in milliseconds since the epoch of Unix.
    pub(crate) signed_in_at_ms: i64,
    /// When the database was asked.
    pub(crate) asked_at: Instant,
}

/// Why a request is not let in. All of them look alike to the client.
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
    /// The cookie cannot be a session id, or the user agent cannot have signed in.
    #[error("malformed session id or user agent")]
    Malformed,
    /// No session of that id: never was, or signed out.
    #[error("unknown session (never signed in, or signed out)")]
    UnknownSession,
    /// Another browser signed in with this session.
    #[error("the session was signed in by another browser")]
    UserAgent,
    /// The same browser signed in again since.
    #[error("the same browser signed in again since")]
    Superseded,
    /// The user is no contact of Icinga Notifications.
    #[error("the user has no contact in Icinga Notifications")]
    NoContact,
}

//! Keys of browsers and user agents. They are digests, so that no session id and no user agent is kept anywhere.

use std::fmt;

use sha2::{Digest, Sha256};

/// A browser: a digest of its session id, so that the id itself is kept nowhere.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BrowserKey([u8; 32]);

impl BrowserKey {
    /// The key of a session id.
    pub fn new(session_id: &str) -> Self {
        Self(Sha256::digest(session_id).into())
    }

    /// A key computed by the database. A digest of the wrong length, which SHA-256 does not produce, matches no browser.
    pub(crate) fn from_digest(digest: &[u8]) -> Self {
        Self(digest.try_into().unwrap_or_default())
    }

    /// A number that identifies the browser on every bridge.
    pub(crate) fn number(&self) -> i64 {
        let (first, _) = self.0.split_first_chunk().unwrap_or((&[0; 8], &[]));
        i64::from_be_bytes(*first)
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for BrowserKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Enough to distinguish two browsers in a log, far too little to guess the session id.
        let [a, b, c, ..] = self.0;
        write!(f, "{a:02x}{b:02x}{c:02x}")
    }
}

/// The user agent that a browser signed in with: enough of a digest to notice another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct AgentKey([u8; 8]);

impl AgentKey {
    /// The key of a user agent.
    pub(crate) fn new(user_agent: &str) -> Self {
        Self::from_digest(&Sha256::digest(user_agent))
    }

    /// The key from a SHA-256 digest computed by the database.
    pub(crate) fn from_digest(digest: &[u8]) -> Self {
        Self(digest.first_chunk().copied().unwrap_or_default())
    }
}

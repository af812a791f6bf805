//! Which browser: digests, so that neither a session id nor a user agent is kept anywhere.

use std::fmt;

use sha2::{Digest, Sha256};

/// Which browser: a digest of its session id, so that the id itself is kept nowhere.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BrowserKey([u8; 32]);

impl BrowserKey {
    /// The key of a session id.
    pub fn new(session_id: &str) -> Self {
        Self(Sha256::digest(session_id).into())
    }

    /// A key that the database made. One of another length, which SHA-256 does not make, is nobody's.
    pub(crate) fn from_digest(digest: &[u8]) -> Self {
        Self(digest.try_into().unwrap_or_default())
    }

    /// A number that stands for the browser on every bridge.
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
        // Enough to tell two browsers apart in a log, far too little to guess from.
        let [a, b, c, ..] = self.0;
        write!(f, "{a:02x}{b:02x}{c:02x}")
    }
}

/// With which user agent a browser signed in: enough of a digest to see that it is another one now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct AgentKey([u8; 8]);

impl AgentKey {
    /// The key of a user agent.
    pub(crate) fn new(user_agent: &str) -> Self {
        Self::from_digest(&Sha256::digest(user_agent))
    }

    /// The key of a SHA-256 digest that the database made.
    pub(crate) fn from_digest(digest: &[u8]) -> Self {
        Self(digest.first_chunk().copied().unwrap_or_default())
    }
}

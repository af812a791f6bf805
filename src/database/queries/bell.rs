//! The bell, from the daemon's side: a daemon holds it while it is about to look, so that no transaction needs to ring.

use crate::database::{QueryError, Session};
use crate::model::notification::BELL_CHANNEL;

/// The advisory lock of `icinga_desktop.ring()` in `sql/install.sql`: a transaction that does not get it does not ring.
const LOCK: i64 = -9_171_514_625_053_088_493;

/// The SQL of [`Session::hold_bell`]. Daemons share the lock.
pub(in crate::database) fn hold_bell_sql() -> String {
    format!("SELECT pg_try_advisory_lock_shared({LOCK})")
}

/// The SQL of [`Session::release_bell`].
pub(in crate::database) fn release_bell_sql() -> String {
    "SELECT pg_advisory_unlock_all()".to_owned()
}

/// The SQL of [`Session::ring_bell`].
pub(in crate::database) fn ring_bell_sql() -> String {
    format!("SELECT pg_notify('{BELL_CHANNEL}', '')")
}

impl Session {
    /// Keeps transactions from ringing until the bell is released or this session ends. Returns whether that succeeded: it fails
    /// while a transaction rings.
    pub(crate) async fn hold_bell(&self) -> Result<bool, QueryError> {
        let row = self.query_one(&self.statements.hold_bell, &[]).await?;
        Ok(row.try_get(0)?)
    }

    /// Lets transactions ring again. Later statements see each transaction that did not ring meanwhile, as committed or running.
    pub(crate) async fn release_bell(&self) -> Result<(), QueryError> {
        let released = self.query_one(&self.statements.release_bell, &[]).await;
        if released.is_err() {
            // Otherwise no transaction would ever ring again. The lock ends with the session.
            self.outdated.cancel();
        }
        released.map(drop)
    }

    /// Rings for other daemons.
    pub(crate) async fn ring_bell(&self) -> Result<(), QueryError> {
        self.query_one(&self.statements.ring_bell, &[]).await?;
        Ok(())
    }
}

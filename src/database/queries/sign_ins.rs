//! Sessions of Icinga Web, and their contacts.

use std::collections::HashSet;

use crate::database::installation::Installation;
use crate::database::types::Redacted;
use crate::database::{QueryError, Session, StoredPosition};
use crate::model::browser::{AgentKey, BrowserKey};
use crate::model::ids::{ContactId, HistoryId};
use crate::model::position::Position;
use crate::model::timeline::Epoch;

/// Whether `browser_session s` is the newest of its user and user agent.
const NEWEST: &str = "((SELECT 1 FROM browser_session n
    WHERE n.username = s.username AND n.user_agent = s.user_agent
      AND (n.authenticated_at + 0, n.php_session_id) > (s.authenticated_at, s.php_session_id) LIMIT 1) IS NULL)";

/// The digest that stands for the session id of `browser_session s`; [`BrowserKey`] is the same.
pub(super) const KEY: &str = "sha256(convert_to(s.php_session_id, 'UTF8'))";

/// The database's clock, in Icinga's unit.
pub(super) const NOW: &str = "(extract(epoch FROM clock_timestamp()) * 1000)::int8";

/// A session in the database, compared with a request's user agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionRow {
    /// The user agent is the one that signed in.
    pub agent_matches: bool,
    /// No newer session of the same user and user agent exists.
    pub newest: bool,
    /// The user's contact, unless there is none or it was deleted.
    pub(crate) contact_id: Option<ContactId>,
    /// What the browser has acknowledged, if that was ever stored.
    pub(crate) position: Option<StoredPosition>,
    /// When Icinga Web authenticated it, in milliseconds since the Unix epoch.
    pub(crate) signed_in_at_ms: i64,
}

/// The SQL of [`Session::browser_session`].
pub(in crate::database) fn browser_session_sql(installation: &Installation) -> String {
    // The key is passed, because a join that computed it would have to read all positions.
    let (position, join) = if installation.stores_positions {
        (
            "p.floor, p.above, p.epoch, (extract(epoch FROM p.changed_at) * 1000)::int8,
             coalesce(p.signed_in_at, s.authenticated_at)",
            "LEFT JOIN LATERAL (SELECT * FROM icinga_desktop.browser_position WHERE browser = $3 OFFSET 0) p ON true",
        )
    } else {
        (
            "NULL::int8, NULL::int8[], NULL::text, NULL::int8, s.authenticated_at",
            "CROSS JOIN (SELECT $3::bytea) unused",
        )
    };
    format!(
        "SELECT s.user_agent = $2, {NEWEST}, c.id, {position}
         FROM browser_session s
         LEFT JOIN LATERAL (SELECT id FROM contact WHERE username = s.username AND deleted = 'n' LIMIT 1) c ON true
         {join}
         WHERE s.php_session_id = $1"
    )
}

/// The SQL of [`Session::valid_browsers`].
pub(in crate::database) fn valid_browsers_sql() -> String {
    format!(
        "SELECT c.id, {KEY}, sha256(convert_to(s.user_agent, 'UTF8'))
         FROM (SELECT id, username FROM contact WHERE id = ANY($1) AND deleted = 'n' OFFSET 0) c
         CROSS JOIN LATERAL (SELECT * FROM browser_session WHERE username = c.username OFFSET 0) s
         WHERE {NEWEST}"
    )
}

/// The age at which a session counts as forgotten, in milliseconds: the same as in the PHP daemon.
const FORGOTTEN_MS: &str = "24 * 3600 * 1000::int8";

/// The SQL of [`Session::refresh`].
pub(in crate::database) fn refresh_sql() -> String {
    // Capped, so that the session counts as forgotten exactly `session_days` days after its sign-in.
    format!(
        "UPDATE browser_session s SET authenticated_at =
           greatest(s.authenticated_at, least({NOW}, live.signed_in_at + ($3::int8 - 1) * {FORGOTTEN_MS}))
         FROM unnest($1::bytea[], $2::int8[]) AS live (key, signed_in_at)
         WHERE {KEY} = live.key AND {NEWEST}"
    )
}

impl Session {
    /// The user agent of a session; `None` if there is no such session. Queried once, by `check`, and so not prepared.
    pub(crate) async fn user_agent(&self, session_id: &str) -> Result<Option<String>, QueryError> {
        let statement = "SELECT user_agent FROM browser_session WHERE php_session_id = $1";
        let row = self.query_opt(statement, &[&Redacted(session_id)]).await?;
        Ok(row.map(|row| row.try_get(0)).transpose()?)
    }

    /// The session with this id and `key`; `None` if there is no such session.
    pub async fn browser_session(
        &self,
        session_id: &str,
        user_agent: &str,
        key: &BrowserKey,
    ) -> Result<Option<SessionRow>, QueryError> {
        let row = self
            .query_opt(
                &self.statements.session,
                &[
                    &Redacted(session_id),
                    &Redacted(user_agent),
                    &key.as_bytes(),
                ],
            )
            .await?;
        row.map(|row| {
            let floor: Option<HistoryId> = row.try_get(3)?;
            let above: Option<Vec<HistoryId>> = row.try_get(4)?;
            Ok(SessionRow {
                agent_matches: row.try_get(0)?,
                newest: row.try_get(1)?,
                contact_id: row.try_get(2)?,
                position: match (floor, row.try_get(6)?) {
                    (Some(floor), Some(changed_at_ms)) => Some(StoredPosition {
                        position: Position::new(floor, above.unwrap_or_default()),
                        epoch: row.try_get::<_, Option<_>>(5)?.map(Epoch),
                        changed_at_ms,
                    }),
                    _ => None,
                },
                signed_in_at_ms: row.try_get(7)?,
            })
        })
        .transpose()
    }

    /// The browsers of `contact_ids` whose sign-in is valid.
    pub(crate) async fn valid_browsers(
        &self,
        contact_ids: &[ContactId],
    ) -> Result<HashSet<(ContactId, BrowserKey, AgentKey)>, QueryError> {
        let rows = self.query(&self.statements.valid, &[&contact_ids]).await?;
        rows.iter()
            .map(|row| {
                Ok((
                    row.try_get(0)?,
                    BrowserKey::from_digest(row.try_get(1)?),
                    AgentKey::from_digest(row.try_get(2)?),
                ))
            })
            .collect()
    }

    /// Refreshes the sessions of connected browsers, so that no housekeeping removes them, until `session_days` days after each
    /// was authenticated. The times are in milliseconds since the Unix epoch.
    pub async fn refresh(
        &self,
        browsers: &[(BrowserKey, i64)],
        session_days: u32,
    ) -> Result<u64, QueryError> {
        let keys: Vec<&[u8]> = browsers.iter().map(|(key, _)| key.as_bytes()).collect();
        let signed_in: Vec<i64> = browsers.iter().map(|(_, signed_in)| *signed_in).collect();
        self.execute(
            &self.statements.refresh,
            &[&keys, &signed_in, &i64::from(session_days)],
        )
        .await
    }

    /// Removes sessions that were not refreshed for a day, and positions without a session. Returns the number of each.
    pub async fn clean_up(&self) -> Result<(u64, u64), QueryError> {
        let sessions = self
            .execute(
                &format!(
                    "DELETE FROM browser_session WHERE authenticated_at < {NOW} - {FORGOTTEN_MS}"
                ),
                &[],
            )
            .await?;
        if !self.stores_positions() {
            return Ok((sessions, 0));
        }
        let positions = self
            .execute(
                &format!(
                    "DELETE FROM icinga_desktop.browser_position p
                     WHERE NOT EXISTS (SELECT FROM browser_session s WHERE {KEY} = p.browser)"
                ),
                &[],
            )
            .await?;
        Ok((sessions, positions))
    }

    /// The contact with this user name, compared as citext; `None` if there is none or it was deleted.
    pub(crate) async fn contact(&self, username: &str) -> Result<Option<ContactId>, QueryError> {
        let row = self
            .query_opt(
                "SELECT id FROM contact WHERE username = $1 AND deleted = 'n'",
                &[&username],
            )
            .await?;
        Ok(row.map(|row| row.try_get(0)).transpose()?)
    }
}

//! Queries about one user, for `explain`. They run once, by hand, and are therefore not prepared.

use super::sign_ins::{KEY, NOW};
use super::{ANNOUNCES, OF_SEVERITY};
use crate::database::types::Text;
use crate::database::{QueryError, Session, StoredPosition};
use crate::model::browser::BrowserKey;
use crate::model::ids::{ContactId, HistoryId, IncidentId};
use crate::model::position::Position;
use crate::model::timeline::Epoch;

/// The maximum number of user names that are compared with an unknown one: a bound for databases with very many contacts.
const COMPARED: i64 = 10_000;

/// A contact that was not deleted; a deleted one has no user name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ContactRow {
    pub(crate) id: ContactId,
    /// As spelled in the database.
    pub(crate) username: String,
}

/// A session of Icinga Web.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SignedIn {
    pub(crate) key: BrowserKey,
    /// Its first 200 characters.
    pub(crate) user_agent: String,
    /// The newest session of the same user and user agent, if that is another one.
    pub(crate) superseded_by: Option<BrowserKey>,
    /// When Icinga Web authenticated it, in milliseconds since the Unix epoch.
    pub(crate) signed_in_at_ms: i64,
    /// How long ago that was by the server's clock, in milliseconds.
    pub(crate) age_ms: i64,
    /// The rows that its browser has acknowledged, if that was ever stored.
    pub(crate) position: Option<StoredPosition>,
}

/// A row that notifies a contact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NotifiedRow {
    pub(crate) id: HistoryId,
    pub(crate) incident_id: IncidentId,
    /// Milliseconds since the Unix epoch.
    pub(crate) time_ms: i64,
    pub(crate) state: Option<String>,
    /// Whether it is shown at all.
    pub(crate) announces: bool,
    /// Whether it is shown with `[daemon] notify = severity`.
    pub(crate) of_severity: bool,
}

impl Session {
    /// The contact with this user name, compared as citext.
    pub(crate) async fn contact_row(
        &self,
        username: &str,
    ) -> Result<Option<ContactRow>, QueryError> {
        let row = self
            .query_opt(
                "SELECT id, username::text FROM contact WHERE username = $1 AND deleted = 'n'",
                &[&username],
            )
            .await?;
        row.map(|row| {
            Ok(ContactRow {
                id: row.try_get(0)?,
                username: row.try_get::<_, Text>(1)?.0,
            })
        })
        .transpose()
    }

    /// User names of contacts that are similar to an unknown one: those that differ only in spaces, and those that are at most
    /// `slack` characters longer or shorter, those with the same first letter first, up to the limit.
    pub(crate) async fn similar_usernames(
        &self,
        username: &str,
        slack: usize,
    ) -> Result<Vec<String>, QueryError> {
        let spaceless: String = username.split_whitespace().collect();
        let characters = username.chars().count();
        let length = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        let rows = self
            .query(
                "SELECT c.name FROM (
                   SELECT username::text AS name, lower(username::text) AS lower,
                     regexp_replace(lower(username::text), '\\s', '', 'g') = lower($1::text) AS but_for_spaces
                   FROM contact WHERE deleted = 'n' AND username IS NOT NULL) c
                 WHERE c.but_for_spaces OR char_length(c.name)::int8 BETWEEN $2 AND $3
                 ORDER BY c.but_for_spaces DESC, left(c.lower, 1) = left(lower($1::text), 1) DESC, c.name
                 LIMIT $4",
                &[
                    &spaceless,
                    &length(characters.saturating_sub(slack)),
                    &length(characters.saturating_add(slack)),
                    &COMPARED,
                ],
            )
            .await?;
        let names = rows.iter().map(|row| Ok(row.try_get::<_, Text>(0)?.0));
        names.collect()
    }

    /// The sessions of a user, newest first, at most `limit` of them.
    pub(crate) async fn sessions(
        &self,
        username: &str,
        limit: i64,
    ) -> Result<Vec<SignedIn>, QueryError> {
        let (position, join) = if self.stores_positions() {
            (
                "p.floor, p.above, p.epoch, (extract(epoch FROM p.changed_at) * 1000)::int8, p.signed_in_at",
                format!(
                    "LEFT JOIN icinga_desktop.browser_position p ON p.browser = {KEY} AND p.floor >= 0"
                ),
            )
        } else {
            (
                "NULL::int8, NULL::int8[], NULL::text, NULL::int8, NULL::int8",
                String::new(),
            )
        };
        let rows = self
            .query(
                &format!(
                    "SELECT {KEY}, left(s.user_agent, 200), s.authenticated_at, {NOW},
                            (SELECT sha256(convert_to(n.php_session_id, 'UTF8')) FROM browser_session n
                             WHERE n.username = s.username AND n.user_agent = s.user_agent
                               AND (n.authenticated_at, n.php_session_id) > (s.authenticated_at, s.php_session_id)
                             ORDER BY n.authenticated_at DESC, n.php_session_id DESC LIMIT 1), {position}
                     FROM browser_session s {join}
                     WHERE s.username = $1 ORDER BY s.authenticated_at DESC, s.php_session_id DESC LIMIT $2"
                ),
                &[&username, &limit],
            )
            .await?;
        rows.iter()
            .map(|row| {
                let floor: Option<HistoryId> = row.try_get(5)?;
                let above: Option<Vec<HistoryId>> = row.try_get(6)?;
                let position = match (floor, row.try_get(8)?) {
                    (Some(floor), Some(changed_at_ms)) => Some(StoredPosition {
                        position: Position::new(floor, above.unwrap_or_default()),
                        epoch: row.try_get::<_, Option<_>>(7)?.map(Epoch),
                        changed_at_ms,
                    }),
                    _ => None,
                };
                let authenticated_at: i64 = row.try_get(2)?;
                // `authenticated_at` is not the time of the sign-in after housekeeping has refreshed the session.
                let signed_in_at_ms = row.try_get::<_, Option<_>>(9)?.unwrap_or(authenticated_at);
                let superseded_by: Option<&[u8]> = row.try_get(4)?;
                Ok(SignedIn {
                    key: BrowserKey::from_digest(row.try_get(0)?),
                    user_agent: row.try_get::<_, Text>(1)?.0,
                    superseded_by: superseded_by.map(BrowserKey::from_digest),
                    signed_in_at_ms,
                    age_ms: row.try_get::<_, i64>(3)?.saturating_sub(signed_in_at_ms),
                    position,
                })
            })
            .collect()
    }

    /// The newest rows that notify a contact, newest first, at most `limit` of them.
    pub(crate) async fn last_notified(
        &self,
        contact_id: ContactId,
        limit: i64,
    ) -> Result<Vec<NotifiedRow>, QueryError> {
        // In the order of the index on contacts, as in `newest_incident`.
        let rows = self
            .query(
                &format!(
                    "SELECT h.id, h.incident_id, h.time, h.notification_state::text, coalesce({ANNOUNCES}, false), {OF_SEVERITY}
                     FROM (SELECT n.*, n.xmin FROM incident_history n WHERE n.contact_id <= $1 AND n.type = 'notified'
                           ORDER BY n.contact_id DESC, n.id DESC LIMIT $2) h
                     WHERE h.contact_id = $1
                     ORDER BY h.id DESC"
                ),
                &[&contact_id, &limit],
            )
            .await?;
        rows.iter()
            .map(|row| {
                Ok(NotifiedRow {
                    id: row.try_get(0)?,
                    incident_id: row.try_get(1)?,
                    time_ms: row.try_get(2)?,
                    state: row.try_get(3)?,
                    announces: row.try_get(4)?,
                    of_severity: row.try_get(5)?,
                })
            })
            .collect()
    }
}

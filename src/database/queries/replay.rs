//! The notifications that a contact missed since a position.

use super::look::{files_expression, is_of, row_of};
use super::{ANNOUNCES, OF_SEVERITY, TEXT_CHARACTERS, message, message_columns};
use crate::config::Kinds;
use crate::database::installation::Installation;
use crate::database::types::Text;
use crate::database::{QueryError, Session};
use crate::model::ids::{ContactId, HistoryId, IncidentId};
use crate::model::position::Position;
use crate::model::timeline::Epoch;

/// An incident that a browser missed.
#[derive(Debug)]
pub(crate) struct Missed {
    /// All rows that notified the contact of it, newest first.
    pub(crate) history_ids: Vec<HistoryId>,
    pub(crate) incident_id: IncidentId,
    /// The newest row's time, in milliseconds since the Unix epoch.
    pub(crate) time_ms: i64,
    /// The incident's severity when the newest row was written.
    pub(crate) severity: String,
    /// Its texts, cut to the length that an event can hold; `None` if the incident is beyond the bounds.
    pub(crate) texts: Option<(String, Option<String>)>,
}

/// The bounds of a replay.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// Incidents whose newest row is older are beyond them; in milliseconds since the Unix epoch.
    pub(crate) since_ms: i64,
    /// Only this many of the newest incidents are within them.
    pub(crate) incidents: i64,
    /// At most this many incidents are read, the oldest first.
    pub(crate) limit: i64,
}

/// The SQL of [`Session::missed`].
pub(in crate::database) fn missed_sql(installation: &Installation) -> String {
    let (columns, message, files) = (
        message_columns(installation, "n"),
        message(installation, "w"),
        files_expression(installation),
    );
    let newest = row_of("incident_history", "n", "*", "m.id");
    let incident = row_of("incident", "i", "severity, object_id", "w.incident_id");
    let object = row_of("object", "o", "name", "i.object_id");
    format!(
        "SELECT w.ids, w.incident_id, w.time,
                coalesce(CASE WHEN w.kept THEN (
                  SELECT s.old_severity FROM incident_history s
                  WHERE s.incident_id = w.incident_id AND s.type::text = 'incident_severity_changed' AND s.id + 0 > w.id
                  ORDER BY s.id + 0 LIMIT 1) END, i.severity)::text,
                CASE WHEN w.kept THEN left(o.name, {TEXT_CHARACTERS}) END,
                CASE WHEN w.kept THEN {message} END, (SELECT {files})
         FROM (SELECT m.ids, m.incident_id, n.time, {columns}, m.id,
                 n.time >= $4 AND row_number() OVER (ORDER BY m.id DESC) <= $5 AS kept
               FROM (SELECT h.incident_id, max(h.id) AS id, array_agg(h.id ORDER BY h.id DESC) AS ids
                     FROM (SELECT *, xmin FROM incident_history
                           WHERE (contact_id, id) > ($1, $2) AND contact_id BETWEEN $1 AND $1 AND type = 'notified'
                           ORDER BY contact_id, id OFFSET 0) h
                     WHERE h.id NOT IN (SELECT unnest($3::int8[])) AND h.time > $7 AND {ANNOUNCES} AND (NOT $8 OR {OF_SEVERITY})
                     GROUP BY h.incident_id) m
               CROSS JOIN LATERAL {newest}) w
         CROSS JOIN LATERAL {incident}
         CROSS JOIN LATERAL {object}
         ORDER BY w.id LIMIT $6"
    )
}

impl Session {
    /// The newest incident that a contact was notified of. Rarely needed, and therefore not prepared.
    pub(crate) async fn newest_incident(
        &self,
        contact_id: ContactId,
    ) -> Result<Option<IncidentId>, QueryError> {
        // In the order of the index on contacts, which `contact_id = $1` inside would make redundant: PostgreSQL would then read
        // all newer rows of other contacts, and for a contact without rows the whole table.
        let row = self
            .query_opt(
                "SELECT incident_id FROM (
                   SELECT contact_id, incident_id FROM incident_history
                   WHERE contact_id <= $1 AND type = 'notified' ORDER BY contact_id DESC, id DESC LIMIT 1
                 ) AS newest WHERE contact_id = $1",
                &[&contact_id],
            )
            .await?;
        Ok(row.map(|row| row.try_get(0)).transpose()?)
    }

    /// The incidents that a contact was notified of beyond `position` and `known` in an `epoch`; oldest first.
    pub(crate) async fn missed(
        &self,
        epoch: &Epoch,
        contact_id: ContactId,
        position: &Position,
        known: &[HistoryId],
        bounds: Bounds,
        kinds: Kinds,
    ) -> Result<Vec<Missed>, QueryError> {
        let done: Vec<HistoryId> = position.above().chain(known.iter().copied()).collect();
        let rows = self
            .query(
                &self.statements.missed,
                &[
                    &contact_id,
                    &position.floor(),
                    &done,
                    &bounds.since_ms,
                    &bounds.incidents,
                    &bounds.limit,
                    &position.time_ms().unwrap_or(i64::MIN),
                    &(kinds == Kinds::Severity),
                ],
            )
            .await?;
        is_of(epoch, &rows, 6)?;
        rows.iter()
            .map(|row| {
                let title: Option<Text> = row.try_get(4)?;
                let message: Option<Text> = row.try_get(5)?;
                Ok(Missed {
                    history_ids: row.try_get(0)?,
                    incident_id: row.try_get(1)?,
                    time_ms: row.try_get(2)?,
                    severity: row.try_get(3)?,
                    texts: title.map(|title| (title.0, message.map(|text| text.0))),
                })
            })
            .collect()
    }
}

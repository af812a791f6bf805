//! What a notification announced: rows and recipients.

use super::{ANNOUNCES, TEXT_CHARACTERS};
use crate::database::installation::Installation;
use crate::database::types::Text;
use crate::database::{QueryError, Session};
use crate::model::ids::{ContactId, HistoryId, IncidentId};

/// A `notified` history row of a contact that can be told.
#[derive(Debug)]
pub(crate) struct NotifiedRow {
    /// `incident_history.id`.
    pub(crate) history_id: HistoryId,
    /// Whom the row notifies.
    pub(crate) contact_id: ContactId,
    pub(crate) incident_id: IncidentId,
    /// Milliseconds since the epoch.
    pub(crate) time_ms: i64,
    /// The incident's present severity.
    pub(crate) severity: String,
    /// The object's name, cut to what an event can hold.
    pub(crate) title: String,
    /// The row's message, cut likewise.
    pub(crate) message: Option<String>,
}

/// A contact that is to be told of an incident although no history row says so.
#[derive(Debug)]
pub(crate) struct Recipient {
    pub(crate) incident_id: IncidentId,
    pub(crate) contact_id: ContactId,
    /// The object's name, cut to what an event can hold.
    pub(crate) title: String,
    /// The incident's present severity.
    pub(crate) severity: String,
}

/// The SQL of [`Session::notified`].
pub(in crate::database) fn notified_sql() -> String {
    // Each id by itself, so that no plan can weigh the ids against the table: with `id = ANY($1)` a
    // plan made while the history was small reads all of it for each id. Nor may the type be a
    // condition in there: it would let the plan use idx_icinga_desktop_notified, which has the id in
    // second place, so that finding an id means reading the whole index.
    format!(
        "SELECT told.*
         FROM unnest($1::int8[]) AS wanted (id)
         CROSS JOIN LATERAL (
           SELECT h.id, h.contact_id, h.incident_id, h.time, i.severity::text,
                  left(o.name, {TEXT_CHARACTERS}), left(h.message, {TEXT_CHARACTERS}), h.type
           FROM incident_history h
           JOIN contact c ON c.id = h.contact_id
           JOIN incident i ON i.id = h.incident_id
           JOIN object o ON o.id = i.object_id
           WHERE h.id = wanted.id AND {ANNOUNCES} AND c.deleted = 'n' AND c.username IS NOT NULL
           OFFSET 0
         ) AS told
         WHERE told.type = 'notified'"
    )
}

/// The SQL of [`Session::recipients`].
pub(in crate::database) fn recipients_sql(installation: &Installation) -> String {
    let muted = if installation.mute_on_incident {
        "i.mute_reason"
    } else {
        "o.mute_reason"
    };
    // Here, too. The inner query refers to `wanted` and not to `i`: to the latter, PostgreSQL would
    // rather read every incident's managers at once.
    format!(
        "SELECT told.*
         FROM unnest($1::int8[]) AS wanted (id)
         CROSS JOIN LATERAL (
           SELECT DISTINCT i.id, c.id, left(o.name, {TEXT_CHARACTERS}), i.severity::text
           FROM incident i
           JOIN object o ON o.id = i.object_id
           JOIN incident_contact ic ON ic.incident_id = i.id
           LEFT JOIN contactgroup_member m
             ON m.contactgroup_id = ic.contactgroup_id AND m.deleted = 'n'
           JOIN contact c ON c.id = coalesce(ic.contact_id, m.contact_id)
           WHERE i.id = wanted.id AND {muted} IS NULL
             AND c.deleted = 'n' AND c.username IS NOT NULL
             AND (ic.role IN ('manager', 'subscriber') OR NOT EXISTS
                  (SELECT FROM incident_contact x WHERE x.incident_id = wanted.id AND x.role = 'manager'))
           OFFSET 0
         ) AS told (incident_id, contact_id, title, severity)"
    )
}

impl Session {
    /// The `notified` rows among `history_ids` that announce something, in no order.
    pub(crate) async fn notified(
        &self,
        history_ids: &[HistoryId],
    ) -> Result<Vec<NotifiedRow>, QueryError> {
        let rows = self
            .query(&self.statements.notified, &[&history_ids])
            .await?;
        rows.iter()
            .map(|row| {
                Ok(NotifiedRow {
                    history_id: row.try_get(0)?,
                    contact_id: row.try_get(1)?,
                    incident_id: row.try_get(2)?,
                    time_ms: row.try_get(3)?,
                    severity: row.try_get(4)?,
                    title: row.try_get::<_, Text>(5)?.0,
                    message: row.try_get::<_, Option<Text>>(6)?.map(|text| text.0),
                })
            })
            .collect()
    }

    /// Who is to be told of `incident_ids`: their contacts and the members of their groups, only
    /// managers and subscribers once there is a manager, nobody while they are muted.
    pub(crate) async fn recipients(
        &self,
        incident_ids: &[IncidentId],
    ) -> Result<Vec<Recipient>, QueryError> {
        let rows = self
            .query(&self.statements.recipients, &[&incident_ids])
            .await?;
        rows.iter()
            .map(|row| {
                Ok(Recipient {
                    incident_id: row.try_get(0)?,
                    contact_id: row.try_get(1)?,
                    title: row.try_get::<_, Text>(2)?.0,
                    severity: row.try_get(3)?,
                })
            })
            .collect()
    }
}

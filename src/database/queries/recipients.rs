//! The recipients of an incident that was changed without Icinga Notifications.

use super::TEXT_CHARACTERS;
use super::look::row_of;
use crate::database::installation::Installation;
use crate::database::types::Text;
use crate::database::{QueryError, Session};
use crate::model::ids::{ContactId, IncidentId};

/// A contact to notify of an incident that has no history row for it.
#[derive(Debug)]
pub(crate) struct Recipient {
    pub(crate) incident_id: IncidentId,
    pub(crate) contact_id: ContactId,
    /// The transaction that last wrote the incident, as in its `xmin`: 32 bits.
    pub(crate) transaction: u32,
    /// The object's name, cut to the length that an event can hold.
    pub(crate) title: String,
    /// The incident's current severity.
    pub(crate) severity: String,
    /// The latest message, cut likewise; `None` if the schema has no such column.
    pub(crate) message: Option<String>,
}

/// The SQL of [`Session::recipients`].
pub(in crate::database) fn recipients_sql(installation: &Installation) -> String {
    let (of_incident, of_object, muted) = if installation.mute_on_incident {
        (", mute_reason", "", "i.mute_reason")
    } else {
        ("", ", mute_reason", "o.mute_reason")
    };
    let (text, message) = if installation.message_on_incident {
        (", message", "i.message")
    } else {
        ("", "NULL::text")
    };
    let columns = format!("id, xmin, object_id, severity{of_incident}{text}");
    let incident = row_of("incident", "i", &columns, "wanted.id");
    let object = row_of("object", "o", &format!("name{of_object}"), "i.object_id");
    let columns = "id, username, deleted";
    let contact = row_of(
        "contact",
        "c",
        columns,
        "coalesce(ic.contact_id, m.contact_id)",
    );
    format!(
        "SELECT recipients.*
         FROM unnest($1::int8[]) AS wanted (id)
         CROSS JOIN LATERAL (
           SELECT DISTINCT i.id, c.id, i.xmin::text::int8, left(o.name, {TEXT_CHARACTERS}), i.severity::text,
             left({message}, {TEXT_CHARACTERS})
           FROM {incident}
           CROSS JOIN LATERAL {object}
           CROSS JOIN LATERAL (
             SELECT contact_id, contactgroup_id, role FROM incident_contact WHERE incident_id = wanted.id OFFSET 0
           ) AS ic
           LEFT JOIN LATERAL (
             SELECT contact_id FROM contactgroup_member WHERE contactgroup_id = ic.contactgroup_id AND deleted = 'n' OFFSET 0
           ) AS m ON true
           CROSS JOIN LATERAL {contact}
           WHERE {muted} IS NULL AND c.deleted = 'n' AND c.username IS NOT NULL
             AND (ic.role IN ('manager', 'subscriber') OR
                  (SELECT count(*) FROM incident_contact x WHERE x.incident_id = wanted.id AND x.role = 'manager') = 0)
             AND (SELECT count(*) FROM incident_history h WHERE h.incident_id = wanted.id AND h.xmin = i.xmin) = 0
           OFFSET 0
         ) AS recipients (incident_id, contact_id, transaction, title, severity, message)"
    )
}

impl Session {
    /// The recipients of `incident_ids`: their contacts and the members of their groups, or only managers and subscribers if
    /// there is a manager. None while the incident is muted, and none if the transaction that last wrote it also wrote history:
    /// then Icinga Notifications has decided.
    pub(crate) async fn recipients(
        &self,
        incident_ids: &[IncidentId],
    ) -> Result<Vec<Recipient>, QueryError> {
        // The keeper of the session has logged why it is missing.
        let Ok(statement) = &self.statements.recipients else {
            return Ok(Vec::new());
        };
        let rows = self.query(statement, &[&incident_ids]).await?;
        rows.iter()
            .map(|row| {
                Ok(Recipient {
                    incident_id: row.try_get(0)?,
                    contact_id: row.try_get(1)?,
                    transaction: u32::try_from(row.try_get::<_, i64>(2)?).unwrap_or_default(),
                    title: row.try_get::<_, Text>(3)?.0,
                    severity: row.try_get(4)?,
                    message: row.try_get::<_, Option<Text>>(5)?.map(|text| text.0),
                })
            })
            .collect()
    }
}

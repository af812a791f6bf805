//! What browsers were told.

use std::collections::{HashMap, HashSet};

use crate::database::{QueryError, Session};
use crate::model::browser::BrowserKey;
use crate::model::ids::{ContactId, HistoryId, IncidentId};
use crate::model::position::Position;

/// How far below the newest id a browser that was never here before starts, if it is not known yet
/// which ids are settled: no transaction stays open while others write this many rows.
const UNSETTLED_IDS: i64 = 1000;

/// By what a history row is known again although its id may have been given to another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct RowIdentity {
    pub(crate) history_id: HistoryId,
    /// Its incident.
    pub(crate) incident_id: IncidentId,
    /// Whom it notifies.
    pub(crate) contact_id: ContactId,
}

/// The SQL of [`Session::start`].
pub(in crate::database) fn start_sql() -> String {
    format!(
        "SELECT f.floor, ARRAY(SELECT h.id FROM incident_history h
                  WHERE h.contact_id = $1 AND h.type = 'notified' AND h.id > f.floor), f.newest
         FROM (SELECT least(newest, greatest($2::int8, newest - {UNSETTLED_IDS})) AS floor, newest
               FROM (SELECT coalesce(max(id), 0) AS newest FROM incident_history) m) f"
    )
}

impl Session {
    /// The position of a browser that was never here before, "now", and the newest id. `settled` is
    /// what is known to be settled, or 0.
    pub(crate) async fn start(
        &self,
        contact_id: ContactId,
        settled: HistoryId,
    ) -> Result<(Position, HistoryId), QueryError> {
        let row = self
            .query_one(&self.statements.start, &[&contact_id, &settled])
            .await?;
        let above: Vec<HistoryId> = row.try_get(1)?;
        Ok((Position::new(row.try_get(0)?, above), row.try_get(2)?))
    }

    /// Stores positions.
    pub(crate) async fn store_positions(
        &self,
        positions: &[(BrowserKey, Position)],
    ) -> Result<(), QueryError> {
        let keys: Vec<&[u8]> = positions.iter().map(|(key, _)| key.as_bytes()).collect();
        let floors: Vec<HistoryId> = positions
            .iter()
            .map(|(_, position)| position.floor())
            .collect();
        // SQL has no arrays of arrays of different lengths; as text they travel.
        let above: Vec<String> = positions
            .iter()
            .map(|(_, position)| {
                let ids: Vec<String> = position.above().map(|id| id.to_string()).collect();
                format!("{{{}}}", ids.join(","))
            })
            .collect();
        self.execute(
                "INSERT INTO icinga_desktop.browser_position (browser, floor, above, changed_at)
                 SELECT key, floor, above::int8[], clock_timestamp()
                 FROM unnest($1::bytea[], $2::int8[], $3::text[]) AS p (key, floor, above)
                 ON CONFLICT (browser) DO UPDATE SET
                   floor = EXCLUDED.floor, above = EXCLUDED.above, changed_at = EXCLUDED.changed_at",
                &[&keys, &floors, &above],
            )
            .await?;
        Ok(())
    }

    /// The positions that are stored for `browsers`.
    pub(crate) async fn positions(
        &self,
        browsers: &[BrowserKey],
    ) -> Result<HashMap<BrowserKey, Position>, QueryError> {
        if !self.stores_positions() {
            return Ok(HashMap::new());
        }
        let keys: Vec<&[u8]> = browsers.iter().map(BrowserKey::as_bytes).collect();
        let rows = self
            .query(
                "SELECT browser, floor, above FROM icinga_desktop.browser_position
                 WHERE browser = ANY($1) AND floor >= 0",
                &[&keys],
            )
            .await?;
        rows.iter()
            .map(|row| {
                let position = Position::new(row.try_get(1)?, row.try_get::<_, Vec<HistoryId>>(2)?);
                Ok((BrowserKey::from_digest(row.try_get(0)?), position))
            })
            .collect()
    }

    /// Which of these rows there are; and the newest id.
    pub(crate) async fn existing(
        &self,
        history_ids: &[HistoryId],
    ) -> Result<(HashSet<RowIdentity>, HistoryId), QueryError> {
        let newest = "SELECT coalesce(max(id), 0) FROM incident_history";
        let newest = self.query_one(newest, &[]).await?.try_get(0)?;
        let rows = self
            .query(
                "SELECT id, incident_id, contact_id FROM incident_history
                 WHERE id = ANY($1) AND contact_id IS NOT NULL",
                &[&history_ids],
            )
            .await?;
        let existing = rows
            .iter()
            .map(|row| {
                Ok(RowIdentity {
                    history_id: row.try_get(0)?,
                    incident_id: row.try_get(1)?,
                    contact_id: row.try_get(2)?,
                })
            })
            .collect::<Result<_, QueryError>>()?;
        Ok((existing, newest))
    }
}

//! Positions: what browsers have acknowledged.

use std::collections::{HashMap, HashSet};

use super::look::{epoch_expression, newest};
use crate::database::{QueryError, Session};
use crate::model::browser::BrowserKey;
use crate::model::ids::{ContactId, HistoryId, IncidentId};
use crate::model::position::Position;
use crate::model::timeline::Epoch;

/// How far below the newest id a new browser starts if the settled ids are not known yet. Assumes that no transaction stays open
/// while others write this many rows.
const UNSETTLED_IDS: i64 = 1000;

/// What identifies a history row even if its id was reused for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct RowIdentity {
    pub(crate) history_id: HistoryId,
    /// Its incident.
    pub(crate) incident_id: IncidentId,
    /// The contact that it notifies.
    pub(crate) contact_id: ContactId,
}

/// A browser's stored position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StoredPosition {
    /// What it has acknowledged, if ids are of the `epoch`.
    pub(crate) position: Position,
    /// Version 2 of `sql/install.sql` stored none.
    pub(crate) epoch: Option<Epoch>,
    /// When it was stored, in milliseconds since the Unix epoch.
    pub(crate) changed_at_ms: i64,
}

impl StoredPosition {
    /// The browser's position in this epoch.
    pub(crate) fn within(self, epoch: &Epoch) -> Position {
        if self.epoch.as_ref() == Some(epoch) {
            self.position
        } else {
            Position::delivered_until(self.changed_at_ms)
        }
    }
}

/// A browser's position that has to be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ToStore {
    pub(crate) key: BrowserKey,
    /// What it has acknowledged.
    pub(crate) position: Position,
    /// When Icinga Web authenticated it, in milliseconds since the Unix epoch.
    pub(crate) signed_in_at_ms: i64,
}

/// The SQL of [`Session::start`].
pub(in crate::database) fn start_sql() -> String {
    format!(
        "SELECT f.floor, ARRAY(
                  SELECT h.id FROM (
                    SELECT id, contact_id, type FROM incident_history WHERE id > f.floor ORDER BY id OFFSET 0
                  ) h WHERE h.contact_id = $1 AND h.type = 'notified'), f.newest
         FROM (SELECT least(newest, greatest($2::int8, newest - {UNSETTLED_IDS})) AS floor, newest
               FROM (SELECT {} AS newest OFFSET 0) m OFFSET 0) f",
        newest("incident_history")
    )
}

impl Session {
    /// The first position of a new browser, which is "now", and the newest id. Ids up to `settled` are known to be settled.
    pub(crate) async fn start(
        &self,
        contact_id: ContactId,
        settled: Option<HistoryId>,
    ) -> Result<(Position, HistoryId), QueryError> {
        let settled = settled.unwrap_or_default();
        let row = self
            .query_one(&self.statements.start, &[&contact_id, &settled])
            .await?;
        let above: Vec<HistoryId> = row.try_get(1)?;
        Ok((Position::new(row.try_get(0)?, above), row.try_get(2)?))
    }

    /// Stores positions with ids of the `epoch`; nothing if the database has another epoch. A position that this or another
    /// bridge has stored is merged and not replaced: a row is done if it is done in either.
    pub(crate) async fn store_positions(
        &self,
        positions: &[ToStore],
        epoch: &Epoch,
    ) -> Result<(), QueryError> {
        let keys: Vec<&[u8]> = positions.iter().map(|p| p.key.as_bytes()).collect();
        let floors: Vec<HistoryId> = positions.iter().map(|p| p.position.floor()).collect();
        // As text, because SQL has no arrays of arrays of different lengths.
        let above: Vec<String> = positions
            .iter()
            .map(|p| {
                let ids: Vec<String> = p.position.above().map(|id| id.to_string()).collect();
                format!("{{{}}}", ids.join(","))
            })
            .collect();
        let signed_in: Vec<i64> = positions.iter().map(|p| p.signed_in_at_ms).collect();
        let current = epoch_expression(&self.installation);
        self.execute(
            &format!(
                "INSERT INTO icinga_desktop.browser_position AS stored
                   (browser, floor, above, changed_at, epoch, signed_in_at)
                 SELECT key, floor, above::int8[], clock_timestamp(), $4, signed_in
                 FROM unnest($1::bytea[], $2::int8[], $3::text[], $5::int8[]) AS p (key, floor, above, signed_in)
                 WHERE $4 = {current}
                 ON CONFLICT (browser) DO UPDATE SET
                   floor = CASE WHEN stored.epoch = EXCLUDED.epoch THEN greatest(stored.floor, EXCLUDED.floor)
                           ELSE EXCLUDED.floor END,
                   above = CASE WHEN stored.epoch = EXCLUDED.epoch THEN ARRAY(
                             SELECT DISTINCT id FROM unnest(stored.above || EXCLUDED.above) AS id
                             WHERE id > greatest(stored.floor, EXCLUDED.floor) ORDER BY id)
                           ELSE EXCLUDED.above END,
                   changed_at = EXCLUDED.changed_at, epoch = EXCLUDED.epoch, signed_in_at = EXCLUDED.signed_in_at"
            ),
            &[&keys, &floors, &above, &epoch.0, &signed_in],
        )
        .await?;
        Ok(())
    }

    /// The positions with ids of the `epoch` that are stored for `browsers`.
    pub(crate) async fn positions(
        &self,
        browsers: &[BrowserKey],
        epoch: &Epoch,
    ) -> Result<HashMap<BrowserKey, Position>, QueryError> {
        if !self.stores_positions() {
            return Ok(HashMap::new());
        }
        let keys: Vec<&[u8]> = browsers.iter().map(BrowserKey::as_bytes).collect();
        let rows = self
            .query(
                "SELECT browser, floor, above FROM icinga_desktop.browser_position
                 WHERE browser = ANY($1) AND floor >= 0 AND epoch = $2",
                &[&keys, &epoch.0],
            )
            .await?;
        rows.iter()
            .map(|row| {
                let position = Position::new(row.try_get(1)?, row.try_get::<_, Vec<HistoryId>>(2)?);
                Ok((BrowserKey::from_digest(row.try_get(0)?), position))
            })
            .collect()
    }

    /// Which of these rows exist, and the newest id.
    pub(crate) async fn existing(
        &self,
        history_ids: &[HistoryId],
    ) -> Result<(HashSet<RowIdentity>, HistoryId), QueryError> {
        let newest = format!("SELECT {}", newest("incident_history"));
        let newest = self.query_one(&newest, &[]).await?.try_get(0)?;
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

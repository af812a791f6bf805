//! What was committed since the last look: rows of `incident_history`, and new incidents.

use std::sync::Arc;

use tokio_postgres::Row;

use super::{ANNOUNCES, OF_SEVERITY, TEXT_CHARACTERS, message};
use crate::config::Kinds;
use crate::database::installation::Installation;
use crate::database::types::Text;
use crate::database::{QueryError, Session};
use crate::model::ids::{ContactId, HistoryId, IncidentId};
use crate::model::snapshot::Snapshot;
use crate::model::timeline::{Epoch, Timeline};

/// The SQL expression for the server's timeline. The cluster and the database are those of the session.
pub(super) fn timeline_expression(installation: &Installation) -> String {
    match &installation.cluster {
        // Not known on a standby.
        Some(cluster) => format!(
            "CASE WHEN NOT pg_is_in_recovery() THEN
               '{cluster}/' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8) || '/{}'
             END",
            installation.database
        ),
        // Assumed to be constant.
        None => "''::text".to_owned(),
    }
}

/// The SQL expression for the epoch. Without the right to read it, the cluster's identifier is omitted.
pub(super) fn epoch_expression(installation: &Installation) -> String {
    let cluster = installation.cluster.as_deref().unwrap_or("-");
    let files = files_expression(installation);
    format!("'{cluster}/{}/' || {files}", installation.database)
}

/// The SQL expression for the last part of the epoch: the files of the sequences. Read together with rows, it shows the epoch of
/// their ids: a statement can have waited for a TRUNCATE that was committed after the epoch was read.
pub(super) fn files_expression(installation: &Installation) -> String {
    // If the sequence is replaced, PostgreSQL parses the statement again.
    let file =
        |sequence: &String| format!("coalesce(pg_relation_filenode({sequence}::regclass), 0)");
    let [history, incidents] = installation.sequences.each_ref().map(file);
    format!("concat_ws('/', {history}, {incidents})")
}

/// How far the database is at one moment.
#[derive(Debug, Clone)]
pub(crate) struct Watermark {
    pub(crate) snapshot: Snapshot,
    /// `None` on a standby.
    pub(crate) timeline: Option<Timeline>,
    pub(crate) epoch: Epoch,
    /// The server's clock, in milliseconds since the Unix epoch.
    pub(crate) now_ms: i64,
}

/// The newest ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Newest {
    pub(crate) history_id: HistoryId,
    pub(crate) incident_id: IncidentId,
}

/// A row of `incident_history`.
#[derive(Debug, Clone)]
pub(crate) struct HistoryRow {
    pub(crate) history_id: HistoryId,
    /// The transaction that wrote it, as PostgreSQL shows it in `xmin`: 32 bits.
    pub(crate) transaction: i64,
    pub(crate) incident_id: IncidentId,
    pub(crate) kind: Kind,
}

/// The kind of a row of `incident_history`.
#[derive(Debug, Clone)]
pub(crate) enum Kind {
    /// Its severity was changed.
    Changed {
        /// The severity before.
        old_severity: Option<String>,
    },
    /// A contact is notified and receives an event.
    Notified(Notified),
    /// A contact is notified but receives no event.
    NotSent,
    /// Anything else.
    Other,
}

/// The contents of a `notified` row.
#[derive(Debug, Clone)]
pub(crate) struct Notified {
    /// The contact.
    pub(crate) contact_id: ContactId,
    /// The channel; `None` if it was deleted.
    pub(crate) channel_id: Option<i64>,
    /// Whether the channel's result was written to the row, by another transaction than the one of Icinga's event.
    pub(crate) answered: bool,
    /// Milliseconds since the Unix epoch.
    pub(crate) time_ms: i64,
    /// The incident's current severity.
    pub(crate) severity: Arc<str>,
    /// The object's name, truncated to what an event can hold.
    pub(crate) title: Arc<str>,
    /// The message of the row or of its event, truncated likewise.
    pub(crate) message: Option<Arc<str>>,
}

impl Notified {
    /// Whether both have the same content. The contact does not matter.
    pub(crate) fn has_same_content(&self, other: &Self) -> bool {
        (self.time_ms, &self.severity, &self.title, &self.message)
            == (other.time_ms, &other.severity, &other.title, &other.message)
    }
}

/// The SQL of [`Session::watermark`].
pub(in crate::database) fn watermark_sql(installation: &Installation) -> String {
    let timeline = timeline_expression(installation);
    let epoch = epoch_expression(installation);
    format!(
        "SELECT pg_current_snapshot()::text, {timeline}, {epoch},
                (extract(epoch FROM clock_timestamp()) * 1000)::int8"
    )
}

/// The SQL expression for the newest id of `table`, or 0. Not `max(id)`, for which a plan may read all rows.
pub(super) fn newest(table: &str) -> String {
    format!("coalesce((SELECT id FROM {table} ORDER BY id DESC LIMIT 1), 0)")
}

/// The SQL of [`Session::newest`].
pub(in crate::database) fn newest_sql() -> String {
    format!(
        "SELECT {}, {}",
        newest("incident_history"),
        newest("incident")
    )
}

/// The first $4 rows of `table` above $1, and the rows in the ranges $2 to $3. Other tables are joined outside, so that no plan
/// starts from them instead of from the ids.
fn fresh(table: &str, columns: &str) -> String {
    format!(
        "((SELECT {columns} FROM {table} h WHERE h.id > $1 ORDER BY h.id LIMIT $4)
          UNION ALL
          SELECT gap_row.* FROM unnest($2::int8[], $3::int8[]) AS gap (first, last)
          CROSS JOIN LATERAL (
            SELECT {columns} FROM {table} h WHERE h.id BETWEEN gap.first AND gap.last OFFSET 0
          ) AS gap_row)"
    )
}

/// The SQL of [`Session::history`].
pub(in crate::database) fn history_sql(installation: &Installation) -> String {
    let message = message(installation, "h");
    let fresh = fresh(
        "incident_history",
        &format!(
            "h.id, h.xmin::text::int8 AS transaction, h.incident_id, h.type::text AS type, h.old_severity::text AS old_severity,
             CASE WHEN h.type = 'notified' AND {ANNOUNCES} AND (NOT $5 OR {OF_SEVERITY}) THEN h.contact_id END AS contact_id,
             h.time, CASE WHEN h.type = 'notified' THEN {message} END AS message,
             h.channel_id, h.notification_state <> 'pending' AS answered"
        ),
    );
    let files = files_expression(installation);
    let contact = row_of("contact", "c", "id, username, deleted", "f.contact_id");
    let incident = row_of("incident", "i", "severity, object_id", "f.incident_id");
    let object = row_of("object", "o", "name", "i.object_id");
    // The rows of an incident are usually adjacent.
    format!(
        "SELECT f.id, f.transaction, f.incident_id, f.type, f.old_severity, recipient.id, f.time, texts.severity, texts.title,
                f.same_message, CASE WHEN NOT f.same_message THEN f.message END, f.channel_id, f.answered, (SELECT {files})
         FROM (
           SELECT f.*, lag(f.incident_id) OVER in_order IS NOT DISTINCT FROM f.incident_id
                         AND lag(f.contact_id) OVER in_order IS NOT NULL AS same_incident,
                  lag(f.message) OVER in_order IS NOT DISTINCT FROM f.message AS same_message
           FROM {fresh} AS f
           WINDOW in_order AS (ORDER BY f.id)
         ) AS f
         LEFT JOIN LATERAL (
           SELECT c.id FROM {contact} WHERE c.deleted = 'n' AND c.username IS NOT NULL OFFSET 0
         ) AS recipient ON true
         LEFT JOIN LATERAL (
           SELECT i.severity::text AS severity, left(o.name, {TEXT_CHARACTERS}) AS title
           FROM {incident} CROSS JOIN LATERAL {object}
           WHERE f.contact_id IS NOT NULL AND NOT f.same_incident
           OFFSET 0
         ) AS texts ON true
         ORDER BY f.id"
    )
}

/// The SQL of [`Session::new_incidents`].
pub(in crate::database) fn new_incidents_sql() -> String {
    let fresh = fresh("incident", "h.id");
    format!("SELECT f.id FROM {fresh} AS f ORDER BY f.id")
}

/// The row of `table` with this `id`, as `alias`, with these `columns`.
pub(super) fn row_of(table: &str, alias: &str, columns: &str, id: &str) -> String {
    format!(
        "(SELECT {columns} FROM {table} WHERE id BETWEEN {id} AND {id} ORDER BY id LIMIT 1) AS {alias}"
    )
}

/// Fails unless the ids of `rows` are of this epoch. Column `index` has the value of [`files_expression`].
pub(super) fn is_of(epoch: &Epoch, rows: &[Row], index: usize) -> Result<(), QueryError> {
    match rows.first() {
        Some(row) if !epoch.has_files(row.try_get(index)?) => Err(QueryError::OtherIds),
        _ => Ok(()),
    }
}

/// The values that a row shares with the row before it, which are sent only once.
#[derive(Default)]
struct Texts {
    /// The incident, with its severity and the name of its object.
    incident: Option<(IncidentId, Arc<str>, Arc<str>)>,
    message: Option<Arc<str>>,
}

/// A row of [`Session::history`]. `texts` are the values of the rows before it.
fn history_row(row: &Row, texts: &mut Texts) -> Result<HistoryRow, QueryError> {
    let incident_id = row.try_get(2)?;
    if let Some(severity) = row.try_get::<_, Option<&str>>(7)? {
        let title = row.try_get::<_, Text>(8)?;
        texts.incident = Some((incident_id, severity.into(), title.0.into()));
    }
    if !row.try_get::<_, bool>(9)? {
        let message = row.try_get::<_, Option<Text>>(10)?;
        texts.message = message.map(|text| text.0.into());
    }
    let incident = texts.incident.as_ref();
    let incident = incident.filter(|(of, ..)| *of == incident_id);
    let kind = match (row.try_get::<_, &str>(3)?, row.try_get(5)?, incident) {
        ("incident_severity_changed", ..) => Kind::Changed {
            old_severity: row.try_get(4)?,
        },
        (_, Some(contact_id), Some((_, severity, title))) => Kind::Notified(Notified {
            contact_id,
            channel_id: row.try_get(11)?,
            answered: row.try_get(12)?,
            time_ms: row.try_get(6)?,
            severity: Arc::clone(severity),
            title: Arc::clone(title),
            message: texts.message.clone(),
        }),
        ("notified", ..) => Kind::NotSent,
        _ => Kind::Other,
    };
    Ok(HistoryRow {
        history_id: row.try_get(0)?,
        transaction: row.try_get(1)?,
        incident_id,
        kind,
    })
}

/// Ranges of ids, ends included, as two arrays.
fn bounds(ranges: &[(i64, i64)]) -> (Vec<i64>, Vec<i64>) {
    ranges.iter().copied().unzip()
}

impl Session {
    /// How far the database is. A statement that is sent after this one sees at least as much.
    pub(crate) async fn watermark(&self) -> Result<Watermark, QueryError> {
        let row = self.query_one(&self.statements.watermark, &[]).await?;
        let snapshot: String = row.try_get(0)?;
        Ok(Watermark {
            snapshot: snapshot
                .parse()
                .map_err(|_| QueryError::Unexpected("no snapshot"))?,
            timeline: row.try_get::<_, Option<_>>(1)?.map(Timeline),
            epoch: Epoch(row.try_get(2)?),
            now_ms: row.try_get(3)?,
        })
    }

    /// The epoch, as it is stored with positions. Queried once, by `check`, and so not prepared.
    pub(crate) async fn epoch(&self) -> Result<String, QueryError> {
        let statement = format!("SELECT {}", epoch_expression(&self.installation));
        Ok(self.query_one(&statement, &[]).await?.try_get(0)?)
    }

    /// The newest ids, or 0 for an empty table.
    pub(crate) async fn newest(&self) -> Result<Newest, QueryError> {
        let row = self.query_one(&self.statements.newest, &[]).await?;
        Ok(Newest {
            history_id: row.try_get(0)?,
            incident_id: row.try_get(1)?,
        })
    }

    /// The first `page` rows of `incident_history` above an id of this `epoch`, and the rows within `ranges`; ascending. Notified
    /// rows that `kinds` excludes are [`Kind::NotSent`].
    pub(crate) async fn history(
        &self,
        epoch: &Epoch,
        beyond: i64,
        page: i64,
        ranges: &[(i64, i64)],
        kinds: Kinds,
    ) -> Result<Vec<HistoryRow>, QueryError> {
        let (first, last) = bounds(ranges);
        let of_severity = kinds == Kinds::Severity;
        let rows = self
            .query(
                &self.statements.history,
                &[&beyond, &first, &last, &page, &of_severity],
            )
            .await?;
        is_of(epoch, &rows, 13)?;
        let mut texts = Texts::default();
        rows.iter()
            .map(|row| history_row(row, &mut texts))
            .collect()
    }

    /// The rows above an id that changed a severity, and the newest id of all rows. Not prepared, because it is only needed if
    /// there is more than one page to read, which is rare.
    pub(crate) async fn changes(
        &self,
        beyond: HistoryId,
    ) -> Result<(Vec<HistoryRow>, HistoryId), QueryError> {
        let rows = self
            .query(
                &format!(
                    "SELECT newest.id, h.id, h.xmin::text::int8, h.incident_id, h.old_severity::text
                     FROM (SELECT {} AS id) AS newest
                     LEFT JOIN (SELECT *, xmin FROM incident_history WHERE id > $1 ORDER BY id OFFSET 0) h
                       ON h.type = 'incident_severity_changed'",
                    newest("incident_history")
                ),
                &[&beyond],
            )
            .await?;
        let mut newest = beyond;
        let mut changes = Vec::new();
        for row in &rows {
            newest = newest.max(row.try_get(0)?);
            if let Some(history_id) = row.try_get(1)? {
                changes.push(HistoryRow {
                    history_id,
                    transaction: row.try_get(2)?,
                    incident_id: row.try_get(3)?,
                    kind: Kind::Changed {
                        old_severity: row.try_get(4)?,
                    },
                });
            }
        }
        Ok((changes, newest))
    }

    /// The first `page` incidents above an id, and those within `ranges`; ascending.
    pub(crate) async fn new_incidents(
        &self,
        beyond: i64,
        page: i64,
        ranges: &[(i64, i64)],
    ) -> Result<Vec<IncidentId>, QueryError> {
        let (first, last) = bounds(ranges);
        let rows = self
            .query(
                &self.statements.new_incidents,
                &[&beyond, &first, &last, &page],
            )
            .await?;
        rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
    }
}

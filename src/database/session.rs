//! Every statement that the daemon sends to the database, and the sessions that carry them.
//!
//! tokio-postgres pipelines, so nothing waits for a pool; but a statement that waits, say for a lock on
//! the sessions' table, holds up those behind it. So there are two sessions: one for events, and one for
//! everything about sign-ins. Each is kept up in the background; who needs it while it is away either
//! waits ([`Queries::session`]) or answers for itself ([`Queries::current`]).

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures::future;
use log::{error, info, warn};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_postgres::types::private::BytesMut;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};
use tokio_postgres::{Client, Error, Row, Statement};

use crate::auth::{AgentKey, BrowserKey};
use crate::database::installation::{self, GRANT, Installation};
use crate::database::{Backoff, Connector, SETUP_PATIENCE, describe};
use crate::model::notification::{ASK_CHANNEL, Marked, PULSE_CHANNEL, Token};
use crate::model::position::Position;
use crate::observe::metrics::{DatabaseSession, Metrics};

/// After which time PostgreSQL gives a statement up: far longer than any takes, and short enough for
/// those behind it in the pipeline.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(10);

/// How far below the newest id a browser that was never here before starts, if it is not known yet
/// which ids are settled: no transaction stays open while others write this many rows.
const UNSETTLED_IDS: i64 = 1000;

/// A `notified` history row of a contact that can be told.
#[derive(Debug)]
pub struct NotifiedRow {
    /// `incident_history.id`.
    pub history_id: i64,
    /// Whom the row notifies.
    pub contact_id: i64,
    /// The incident.
    pub incident_id: i64,
    /// Milliseconds since the epoch.
    pub time_ms: i64,
    /// The incident's present severity.
    pub severity: String,
    /// The object's name, cut to what an event can hold.
    pub title: String,
    /// The row's message, cut likewise.
    pub message: Option<String>,
}

/// A contact that is to be told of an incident although no history row says so.
#[derive(Debug)]
pub struct Recipient {
    /// The incident.
    pub incident_id: i64,
    /// The contact.
    pub contact_id: i64,
    /// The object's name, cut to what an event can hold.
    pub title: String,
    /// The incident's present severity.
    pub severity: String,
}

/// What the database knows of a session id and user agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionRow {
    /// The user agent is the one that signed in.
    pub agent_matches: bool,
    /// No newer session of the same user and user agent exists.
    pub newest: bool,
    /// The user's contact, unless there is none or it was deleted.
    pub contact_id: Option<i64>,
    /// What the browser need not be told of, if that was ever stored.
    pub position: Option<Position>,
}

/// An incident that a browser missed.
#[derive(Debug)]
pub struct Missed {
    /// All rows that notified the contact about it, the newest first.
    pub history_ids: Vec<i64>,
    /// The incident.
    pub incident_id: i64,
    /// The newest row's time, in milliseconds since the epoch.
    pub time_ms: i64,
    /// The incident's present severity.
    pub severity: String,
    /// Its texts, cut to what an event can hold; `None` if the incident is beyond the bounds.
    pub texts: Option<(String, Option<String>)>,
}

/// How much a replay tells.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Incidents whose newest row is older, in milliseconds since the epoch, are beyond them.
    pub since_ms: i64,
    /// As are all but this many of the newest incidents.
    pub incidents: i64,
}

/// Which course of events the ids of a database belong to: the cluster, its timeline, and the database. A failover makes
/// another one, and so does restoring a backup; what was committed then may be gone, and its ids be given to other rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timeline(String);

#[cfg(test)]
impl From<&str> for Timeline {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

/// What has been committed, as far as one statement can tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tide {
    /// The newest visible `incident_history.id`.
    pub newest_id: i64,
    /// The oldest transaction that was running.
    pub oldest_running: u64,
    /// The first transaction that had not begun.
    pub first_future: u64,
    /// Whose ids these are; `None` on a standby.
    pub timeline: Option<Timeline>,
}

/// A live query session.
#[derive(Debug)]
pub struct Session {
    client: Client,
    statements: Statements,
    /// Whether positions may be stored; otherwise they live in memory only.
    pub stores_positions: bool,
}

#[derive(Debug)]
struct Statements {
    notified: Statement,
    recipients: Statement,
    session: Statement,
    start: Statement,
    missed: Statement,
    valid: Statement,
    refresh: Statement,
    tide: Statement,
    timeline: Statement,
}

/// A cheap handle on whichever query session is alive.
#[derive(Debug, Clone)]
pub struct Queries(watch::Receiver<Option<Arc<Session>>>);

impl Queries {
    /// The session, or `None` while the database is away.
    pub fn current(&self) -> Option<Arc<Session>> {
        self.0
            .borrow()
            .clone()
            .filter(|session| !session.client.is_closed())
    }

    /// Waits for a live session; `None` once the daemon is stopping.
    pub async fn session(&mut self) -> Option<Arc<Session>> {
        self.0
            .wait_for(|session| session.as_ref().is_some_and(|s| !s.client.is_closed()))
            .await
            .ok()?
            .clone()
    }
}

/// Keeps a query session up and hands it to every [`Queries`].
#[derive(Debug)]
pub struct Keeper {
    connector: Connector,
    /// What the session is for.
    purpose: DatabaseSession,
    sender: watch::Sender<Option<Arc<Session>>>,
    /// Tells that sessions are not worth waiting for any longer.
    hung: Arc<Notify>,
    metrics: Metrics,
}

impl Keeper {
    /// A keeper, not yet connected, and the handle it serves. It connects anew when told that sessions are
    /// `hung`.
    pub fn new(
        connector: Connector,
        purpose: DatabaseSession,
        hung: Arc<Notify>,
        metrics: Metrics,
    ) -> (Self, Queries) {
        let (sender, receiver) = watch::channel(None);
        let keeper = Self {
            connector,
            purpose,
            sender,
            hung,
            metrics,
        };
        (keeper, Queries(receiver))
    }

    /// Connects, and connects again whenever the session ends.
    ///
    /// # Errors
    ///
    /// Returns only if the very first connection finds that the triggers cannot be used: an
    /// administrator has to act. Later such findings are logged and tried again, because a running
    /// daemon has streams to keep. Whoever waits for a session goes on waiting until the keeper itself is
    /// dropped.
    pub async fn run(&self) -> Result<(), installation::Error> {
        let mut backoff = Backoff::default();
        let mut was_up = false;
        loop {
            match self.connect().await {
                Ok((session, closed)) => {
                    info!("database: {} session connected", self.purpose.as_str());
                    // Said once: this is the session that would store them.
                    if self.purpose == DatabaseSession::SignIn && !session.stores_positions {
                        warn!(
                            "database: no right to write icinga_desktop.browser_position: what browsers were \
                             told is forgotten at a restart; run: {GRANT}"
                        );
                    }
                    backoff.reset();
                    was_up = true;
                    self.sender.send_replace(Some(Arc::new(session)));
                    let reason = tokio::select! {
                        reason = closed => reason,
                        () = self.hung.notified() => "it does not answer".to_owned(),
                    };
                    self.sender.send_replace(None);
                    self.metrics.reconnect(self.purpose);
                    warn!(
                        "database: {} session lost: {reason}; connecting again",
                        self.purpose.as_str()
                    );
                }
                Err(ConnectError::Installation(error)) if !was_up && error.is_permanent() => {
                    return Err(error);
                }
                Err(error) => {
                    let delay = backoff.next_delay();
                    error!(
                        "database: no {} session: {error}; next attempt in {delay:.1?}",
                        self.purpose.as_str()
                    );
                    tokio::time::sleep(delay).await;
                }
            }
        }
    }

    async fn connect(
        &self,
    ) -> Result<(Session, impl Future<Output = String> + use<>), ConnectError> {
        let (client, connection) = self.connector.connect(self.purpose.as_str()).await?;
        // A set of one, because it ends its task when it is dropped.
        let mut closed = JoinSet::new();
        let _ = closed.spawn(connection);
        let session = timeout(SETUP_PATIENCE, async {
            let installation = installation::inspect(&client).await?;
            let session = Session::prepare(client, &installation);
            session.await.map_err(installation::Error::Refused)
        })
        .await
        .map_err(|_| ConnectError::Silent)??;
        let reason = async move {
            match closed.join_next().await {
                None | Some(Ok(Ok(()))) => "closed".to_owned(),
                Some(Ok(Err(error))) => describe(&error),
                Some(Err(error)) => error.to_string(),
            }
        };
        Ok((session, reason))
    }
}

#[derive(Debug, thiserror::Error)]
enum ConnectError {
    #[error(transparent)]
    Connect(#[from] crate::database::Error),
    #[error(transparent)]
    Installation(#[from] installation::Error),
    #[error("no answer within {SETUP_PATIENCE:?}; is the server overloaded or frozen?")]
    Silent,
}

/// Texts are cut in the database, so that megabytes of plugin output never travel: as many characters
/// as an event can hold bytes, and one more to see that something was cut.
const TEXT_CHARACTERS: usize = crate::model::event::TEXT_LIMIT + 1;

/// Whether the notified row `incident_history h` announces something: it was written as pending or sent.
/// A row that failed was pending before; one that was written as failed has no time of sending.
const ANNOUNCES: &str = "(h.notification_state IN ('pending', 'sent')
    OR (h.notification_state = 'failed' AND h.sent_at IS NOT NULL))";

/// Whether no newer session than `browser_session s` exists of its user and user agent.
const NEWEST: &str = "NOT EXISTS (SELECT FROM browser_session n
    WHERE n.username = s.username AND n.user_agent = s.user_agent
      AND (n.authenticated_at, n.php_session_id) > (s.authenticated_at, s.php_session_id))";

/// The digest that stands for the session id of `browser_session s`; [`BrowserKey`] is the same.
const KEY: &str = "sha256(convert_to(s.php_session_id, 'UTF8'))";

/// The database's clock, in Icinga's unit.
const NOW: &str = "(extract(epoch FROM clock_timestamp()) * 1000)::int8";

impl Session {
    /// Sets the session up, prepares every statement, and runs each for nobody: PostgreSQL checks rights
    /// only when a statement runs.
    ///
    /// # Errors
    ///
    /// Whatever the server says, for example that the role lacks a right.
    pub async fn prepare(client: Client, installation: &Installation) -> Result<Self, Error> {
        // Icinga's tables, and citext's operators: without them user names would silently compare by
        // case. pg_temp last, so that no temporary table stands in for a real one.
        //
        // Generic plans: every statement looks up keys, which has one good plan, while PostgreSQL would
        // plan these joins anew for each event, and take longer for that than for the look-up.
        client
            .execute(
                "SELECT set_config('search_path', format('%I, %I, pg_temp', $1::text, $2::text), false),
                        set_config('statement_timeout', $3::text, false),
                        set_config('plan_cache_mode', 'force_generic_plan', false)",
                &[
                    &installation.schema,
                    &installation.citext_schema,
                    &STATEMENT_TIMEOUT.as_millis().to_string(),
                ],
            )
            .await?;
        let statements = Statements::prepare(&client, installation).await?;
        let session = Self {
            client,
            statements,
            stores_positions: installation.stores_positions,
        };
        future::try_join5(
            session.notified(&[]),
            session.recipients(&[]),
            session.browser_session("", ""),
            session.start(0, 0),
            session.valid_browsers(&[]),
        )
        .await?;
        session
            .missed(
                0,
                &Position::default(),
                &[],
                Bounds {
                    since_ms: 0,
                    incidents: 0,
                },
                0,
            )
            .await?;
        Ok(session)
    }

    /// Whether the connection is gone, so that a failed query is worth repeating on the next one.
    pub fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// The `notified` rows among `history_ids` that announce something, in no order.
    ///
    /// # Errors
    ///
    /// Whatever the server says, here and below.
    pub async fn notified(&self, history_ids: &[i64]) -> Result<Vec<NotifiedRow>, Error> {
        let rows = self
            .client
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
    ///
    /// # Errors
    ///
    /// Whatever the server says.
    pub async fn recipients(&self, incident_ids: &[i64]) -> Result<Vec<Recipient>, Error> {
        let rows = self
            .client
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

    /// The user agent of a session; `None` if there is no such session. Asked once, by `check`, and so not prepared.
    ///
    /// # Errors
    ///
    /// Whatever the server says.
    pub async fn user_agent(&self, session_id: &str) -> Result<Option<String>, Error> {
        let statement = "SELECT user_agent FROM browser_session WHERE php_session_id = $1";
        let row = self
            .client
            .query_opt(statement, &[&Redacted(session_id)])
            .await?;
        row.map(|row| row.try_get(0)).transpose()
    }

    /// What is known of a session; `None` if there is no such session.
    ///
    /// # Errors
    ///
    /// Whatever the server says.
    pub async fn browser_session(
        &self,
        session_id: &str,
        user_agent: &str,
    ) -> Result<Option<SessionRow>, Error> {
        let row = self
            .client
            .query_opt(
                &self.statements.session,
                &[&Redacted(session_id), &Redacted(user_agent)],
            )
            .await?;
        row.map(|row| {
            let floor: Option<i64> = row.try_get(3)?;
            let above: Option<Vec<i64>> = row.try_get(4)?;
            Ok(SessionRow {
                agent_matches: row.try_get(0)?,
                newest: row.try_get(1)?,
                contact_id: row.try_get(2)?,
                position: floor.map(|floor| Position::new(floor, above.unwrap_or_default())),
            })
        })
        .transpose()
    }

    /// The position of a browser that was never here before, "now", and the newest id. `settled` is
    /// what is known to be settled, or 0.
    ///
    /// # Errors
    ///
    /// Whatever the server says.
    pub async fn start(&self, contact_id: i64, settled: i64) -> Result<(Position, i64), Error> {
        let row = self
            .client
            .query_one(&self.statements.start, &[&contact_id, &settled])
            .await?;
        let above: Vec<i64> = row.try_get(1)?;
        Ok((Position::new(row.try_get(0)?, above), row.try_get(2)?))
    }

    /// The incidents that a contact was notified about beyond `position` and `known`, oldest first, at
    /// most `limit` of them.
    ///
    /// # Errors
    ///
    /// Whatever the server says.
    pub async fn missed(
        &self,
        contact_id: i64,
        position: &Position,
        known: &[i64],
        bounds: Bounds,
        limit: i64,
    ) -> Result<Vec<Missed>, Error> {
        let done: Vec<i64> = position.above().chain(known.iter().copied()).collect();
        let rows = self
            .client
            .query(
                &self.statements.missed,
                &[
                    &contact_id,
                    &position.floor(),
                    &done,
                    &bounds.since_ms,
                    &bounds.incidents,
                    &limit,
                ],
            )
            .await?;
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

    /// Stores positions.
    ///
    /// # Errors
    ///
    /// Whatever the server says.
    pub async fn store_positions(&self, positions: &[(BrowserKey, Position)]) -> Result<(), Error> {
        let keys: Vec<&[u8]> = positions.iter().map(|(key, _)| key.as_bytes()).collect();
        let floors: Vec<i64> = positions
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
        self.client
            .execute(
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

    /// The browsers of `contact_ids` whose sign-in is valid.
    ///
    /// # Errors
    ///
    /// Whatever the server says.
    pub async fn valid_browsers(
        &self,
        contact_ids: &[i64],
    ) -> Result<HashSet<(i64, BrowserKey, AgentKey)>, Error> {
        let rows = self
            .client
            .query(&self.statements.valid, &[&contact_ids])
            .await?;
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

    /// Makes the sessions of live browsers young, so that no housekeeping takes them for forgotten.
    ///
    /// # Errors
    ///
    /// Whatever the server says.
    pub async fn refresh(&self, browsers: &[BrowserKey]) -> Result<u64, Error> {
        let keys: Vec<&[u8]> = browsers.iter().map(BrowserKey::as_bytes).collect();
        self.client
            .execute(&self.statements.refresh, &[&keys])
            .await
    }

    /// Removes sessions that were not seen for a day, and positions whose session is gone. Returns how
    /// many of each.
    ///
    /// # Errors
    ///
    /// Whatever the server says.
    pub async fn clean_up(&self) -> Result<(u64, u64), Error> {
        let sessions = self
            .client
            .execute(
                &format!(
                    "DELETE FROM browser_session WHERE authenticated_at < {NOW} - 24 * 3600 * 1000"
                ),
                &[],
            )
            .await?;
        if !self.stores_positions {
            return Ok((sessions, 0));
        }
        let positions = self
            .client
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

    /// The contact whose user name this is, by citext's comparison; `None` if there is none or it was deleted.
    ///
    /// # Errors
    ///
    /// Whatever the server says.
    pub async fn contact(&self, username: &str) -> Result<Option<i64>, Error> {
        let row = self
            .client
            .query_opt(
                "SELECT id FROM contact WHERE username = $1 AND deleted = 'n'",
                &[&username],
            )
            .await?;
        row.map(|row| row.try_get(0)).transpose()
    }

    /// How many bridges listen on this database, by the name that their sessions give themselves.
    ///
    /// # Errors
    ///
    /// Whatever the server says.
    pub async fn listening(&self) -> Result<i64, Error> {
        let name = DatabaseSession::Listener.application_name();
        let row = self
            .client
            .query_one(
                "SELECT count(*) FROM pg_stat_activity
                 WHERE datname = current_database() AND application_name = $1",
                &[&name],
            )
            .await?;
        row.try_get(0)
    }

    /// Stores a question and tells every bridge where it is.
    ///
    /// # Errors
    ///
    /// Whatever the server says.
    pub async fn ask(&self, token: &Token, question: &[i64]) -> Result<(), Error> {
        // NOTIFY waits for the commit, so the row is there when they look.
        self.client
            .execute(
                "WITH stored AS (
                   INSERT INTO icinga_desktop.browser_position (browser, floor, above, changed_at)
                   VALUES ($1, -1, $2, clock_timestamp()) RETURNING 1)
                 SELECT pg_notify($3, $4) FROM stored",
                &[
                    &token.0.as_slice(),
                    &question,
                    &ASK_CHANNEL,
                    &Marked { token: *token }.payload(),
                ],
            )
            .await?;
        Ok(())
    }

    /// The question, and the answers to it so far; `None` if there is no such question.
    ///
    /// # Errors
    ///
    /// Whatever the server says.
    pub async fn asked(&self, token: &Token) -> Result<Option<Vec<i64>>, Error> {
        let row = self
            .client
            .query_opt(
                "SELECT above FROM icinga_desktop.browser_position WHERE browser = $1 AND floor = -1",
                &[&token.0.as_slice()],
            )
            .await?;
        row.map(|row| row.try_get(0)).transpose()
    }

    /// Appends an answer to a question.
    ///
    /// # Errors
    ///
    /// Whatever the server says.
    pub async fn answer(&self, token: &Token, answer: &[i64]) -> Result<(), Error> {
        self.client
            .execute(
                "UPDATE icinga_desktop.browser_position SET above = above || $2::int8[]
                 WHERE browser = $1 AND floor = -1",
                &[&token.0.as_slice(), &answer],
            )
            .await?;
        Ok(())
    }

    /// Removes a question.
    ///
    /// # Errors
    ///
    /// Whatever the server says.
    pub async fn forget_question(&self, token: &Token) -> Result<(), Error> {
        self.client
            .execute(
                "DELETE FROM icinga_desktop.browser_position WHERE browser = $1 AND floor = -1",
                &[&token.0.as_slice()],
            )
            .await?;
        Ok(())
    }

    /// How far the database is.
    ///
    /// # Errors
    ///
    /// Whatever the server says.
    pub async fn tide(&self) -> Result<Tide, Error> {
        let row = self.client.query_one(&self.statements.tide, &[]).await?;
        // Full transaction ids have 64 bits, of which the first is never set.
        let transaction = |index| {
            row.try_get::<_, i64>(index)
                .map(|id| u64::try_from(id).unwrap_or(0))
        };
        Ok(Tide {
            newest_id: row.try_get(0)?,
            oldest_running: transaction(1)?,
            first_future: transaction(2)?,
            timeline: row.try_get::<_, Option<_>>(3)?.map(Timeline),
        })
    }

    /// Whose ids are to be read here; `None` on a standby.
    ///
    /// # Errors
    ///
    /// Whatever the server says.
    pub async fn timeline(&self) -> Result<Option<Timeline>, Error> {
        let row = self
            .client
            .query_one(&self.statements.timeline, &[])
            .await?;
        Ok(row.try_get::<_, Option<_>>(0)?.map(Timeline))
    }

    /// The positions that are stored for `browsers`.
    ///
    /// # Errors
    ///
    /// Whatever the server says.
    pub async fn positions(
        &self,
        browsers: &[BrowserKey],
    ) -> Result<HashMap<BrowserKey, Position>, Error> {
        if !self.stores_positions {
            return Ok(HashMap::new());
        }
        let keys: Vec<&[u8]> = browsers.iter().map(BrowserKey::as_bytes).collect();
        let rows = self
            .client
            .query(
                "SELECT browser, floor, above FROM icinga_desktop.browser_position
                 WHERE browser = ANY($1) AND floor >= 0",
                &[&keys],
            )
            .await?;
        rows.iter()
            .map(|row| {
                let position = Position::new(row.try_get(1)?, row.try_get::<_, Vec<i64>>(2)?);
                Ok((BrowserKey::from_digest(row.try_get(0)?), position))
            })
            .collect()
    }

    /// Which of these rows there are, as id, incident and contact; and the newest id.
    ///
    /// # Errors
    ///
    /// Whatever the server says.
    pub async fn existing(
        &self,
        history_ids: &[i64],
    ) -> Result<(HashSet<(i64, i64, i64)>, i64), Error> {
        let newest = "SELECT coalesce(max(id), 0) FROM incident_history";
        let newest = self.client.query_one(newest, &[]).await?.try_get(0)?;
        let rows = self
            .client
            .query(
                "SELECT id, incident_id, contact_id FROM incident_history
                 WHERE id = ANY($1) AND contact_id IS NOT NULL",
                &[&history_ids],
            )
            .await?;
        let existing = rows
            .iter()
            .map(|row| Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?)))
            .collect::<Result<_, Error>>()?;
        Ok((existing, newest))
    }

    /// Sends a beat.
    ///
    /// # Errors
    ///
    /// Whatever the server says.
    pub async fn send_pulse(&self, token: &Token) -> Result<(), Error> {
        self.client
            .execute(
                "SELECT pg_notify($1, $2)",
                &[&PULSE_CHANNEL, &Marked { token: *token }.payload()],
            )
            .await?;
        Ok(())
    }

    /// Whether the server is a standby, and the repair of a queue that a session cannot read: both are
    /// asked when the listener seems to be deaf.
    ///
    /// # Errors
    ///
    /// Whatever the server says.
    pub async fn diagnose_deafness(&self) -> Result<bool, Error> {
        let row: Row = self
            .client
            .query_one(
                "SELECT pg_is_in_recovery(), pg_notification_queue_usage()",
                &[],
            )
            .await?;
        row.try_get(0)
    }
}

impl Statements {
    async fn prepare(client: &Client, installation: &Installation) -> Result<Self, Error> {
        let muted = if installation.mute_on_incident {
            "i.mute_reason"
        } else {
            "o.mute_reason"
        };
        // Each id by itself, so that no plan can weigh the ids against the table: with `id = ANY($1)` a
        // plan made while the history was small reads all of it for each id. Nor may the type be a
        // condition in there: it would let the plan use idx_icinga_desktop_notified, which has the id in
        // second place, so that finding an id means reading the whole index.
        let notified = format!(
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
        );
        // Here, too. The inner query refers to `wanted` and not to `i`: to the latter, PostgreSQL would
        // rather read every incident's managers at once.
        let recipients = format!(
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
        );
        let (position, join) = if installation.stores_positions {
            (
                "p.floor, p.above",
                format!("LEFT JOIN icinga_desktop.browser_position p ON p.browser = {KEY}"),
            )
        } else {
            ("NULL::int8, NULL::int8[]", String::new())
        };
        let session = format!(
            "SELECT s.user_agent = $2, {NEWEST}, c.id, {position}
             FROM browser_session s
             LEFT JOIN contact c ON c.username = s.username AND c.deleted = 'n'
             {join}
             WHERE s.php_session_id = $1"
        );
        let start = format!(
            "SELECT f.floor, ARRAY(SELECT h.id FROM incident_history h
                      WHERE h.contact_id = $1 AND h.type = 'notified' AND h.id > f.floor), f.newest
             FROM (SELECT least(newest, greatest($2::int8, newest - {UNSETTLED_IDS})) AS floor, newest
                   FROM (SELECT coalesce(max(id), 0) AS newest FROM incident_history) m) f"
        );
        let missed = format!(
            "SELECT w.ids, w.incident_id, w.time, i.severity::text,
                    CASE WHEN w.kept THEN left(o.name, {TEXT_CHARACTERS}) END,
                    CASE WHEN w.kept THEN left(w.message, {TEXT_CHARACTERS}) END
             FROM (SELECT m.ids, m.incident_id, n.time, n.message, m.id,
                     n.time >= $4 AND row_number() OVER (ORDER BY m.id DESC) <= $5 AS kept
                   FROM (SELECT h.incident_id, max(h.id) AS id, array_agg(h.id ORDER BY h.id DESC) AS ids
                         FROM incident_history h
                         WHERE h.contact_id = $1 AND h.id > $2 AND h.id <> ALL($3)
                           AND h.type = 'notified' AND {ANNOUNCES}
                         GROUP BY h.incident_id) m
                   JOIN incident_history n ON n.id = m.id) w
             JOIN incident i ON i.id = w.incident_id
             JOIN object o ON o.id = i.object_id
             ORDER BY w.id LIMIT $6"
        );
        let valid = format!(
            "SELECT c.id, {KEY}, sha256(convert_to(s.user_agent, 'UTF8'))
             FROM contact c JOIN browser_session s ON s.username = c.username
             WHERE c.id = ANY($1) AND c.deleted = 'n' AND {NEWEST}"
        );
        let refresh = format!(
            "UPDATE browser_session s SET authenticated_at = {NOW} WHERE {KEY} = ANY($1) AND {NEWEST}"
        );
        let timeline = if installation.knows_timeline {
            // The server only knows while it writes.
            "CASE WHEN NOT pg_is_in_recovery() THEN
               concat_ws('/', (SELECT system_identifier FROM pg_control_system()),
                 left(pg_walfile_name(pg_current_wal_insert_lsn()), 8),
                 (SELECT oid FROM pg_database WHERE datname = current_database()))
             END"
        } else {
            // Taken to be the same for ever.
            "''::text"
        };
        let tide = format!(
            "SELECT (SELECT coalesce(max(id), 0) FROM incident_history),
                    pg_snapshot_xmin(s)::text::int8, pg_snapshot_xmax(s)::text::int8, {timeline}
             FROM pg_current_snapshot() s"
        );
        let timeline = format!("SELECT {timeline}");
        Ok(Self {
            notified: client.prepare(&notified).await?,
            recipients: client.prepare(&recipients).await?,
            session: client.prepare(&session).await?,
            start: client.prepare(&start).await?,
            missed: client.prepare(&missed).await?,
            valid: client.prepare(&valid).await?,
            refresh: client.prepare(&refresh).await?,
            tide: client.prepare(&tide).await?,
            timeline: client.prepare(&timeline).await?,
        })
    }
}

/// A parameter that tokio-postgres cannot log: at level debug it prints every parameter.
struct Redacted<'a>(&'a str);

impl std::fmt::Debug for Redacted<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

impl ToSql for Redacted<'_> {
    fn to_sql(
        &self,
        ty: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        self.0.to_sql(ty, out)
    }

    fn accepts(ty: &Type) -> bool {
        <&str as ToSql>::accepts(ty)
    }

    to_sql_checked!();
}

/// A text of the database, also where the database does not check its encoding (SQL_ASCII): one bad
/// byte must not cost the rest of a batch.
struct Text(String);

impl<'a> FromSql<'a> for Text {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Self(String::from_utf8_lossy(raw).into_owned()))
    }

    fn accepts(ty: &Type) -> bool {
        <&str as FromSql<'_>>::accepts(ty)
    }
}

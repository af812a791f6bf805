//! The query session: every statement that the daemon sends to the database, and the one connection
//! that carries them (tokio-postgres pipelines, so nothing waits for a pool).
//!
//! The resolver and the HTTP handlers share it. It is kept up in the background; who needs it while
//! it is away either waits ([`Queries::session`]) or answers for itself ([`Queries::current`]).

use std::sync::Arc;

use futures::future;
use log::{error, info, warn};
use tokio::sync::watch;
use tokio_postgres::types::private::BytesMut;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};
use tokio_postgres::{Client, Error, Statement};

use crate::database::{Backoff, Connector, describe};
use crate::installation::{self, Installation};

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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionRow {
    /// The user agent is the one that signed in.
    pub agent_matches: bool,
    /// No newer session of the same user and user agent exists.
    pub newest: bool,
    /// The user's contact, unless there is none or it was deleted.
    pub contact_id: Option<i64>,
}

/// A live query session.
#[derive(Debug)]
pub struct Session {
    client: Client,
    notified: Statement,
    recipients: Statement,
    session: Statement,
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
    sender: watch::Sender<Option<Arc<Session>>>,
}

impl Keeper {
    /// A keeper, not yet connected, and the handle it serves.
    pub fn new(connector: Connector) -> (Self, Queries) {
        let (sender, receiver) = watch::channel(None);
        (Self { connector, sender }, Queries(receiver))
    }

    /// Connects, and connects again whenever the session ends.
    ///
    /// # Errors
    ///
    /// Returns only if the very first connection finds that the triggers cannot be used: an
    /// administrator has to act. Later such findings are logged and tried again, because a running
    /// daemon has streams to keep.
    pub async fn run(self) -> Result<(), installation::Error> {
        let mut backoff = Backoff::default();
        let mut was_up = false;
        loop {
            match self.connect().await {
                Ok((session, closed)) => {
                    info!("database: query session connected");
                    backoff.reset();
                    was_up = true;
                    self.sender.send_replace(Some(Arc::new(session)));
                    let reason = closed.await;
                    self.sender.send_replace(None);
                    warn!("database: query session lost: {reason}; connecting again");
                }
                Err(ConnectError::Installation(error)) if !was_up && error.is_permanent() => {
                    return Err(error);
                }
                Err(error) => {
                    let delay = backoff.next_delay();
                    error!("database: {error}; next attempt in {delay:.1?}");
                    tokio::time::sleep(delay).await;
                }
            }
        }
    }

    async fn connect(
        &self,
    ) -> Result<(Session, impl Future<Output = String> + use<>), ConnectError> {
        let (client, connection) = self.connector.connect("queries").await?;
        let closed = tokio::spawn(connection);
        let installation = installation::inspect(&client).await?;
        let session = Session::prepare(client, &installation)
            .await
            .map_err(installation::Error::Refused)?;
        let reason = async {
            match closed.await {
                Ok(Ok(())) => "closed".to_owned(),
                Ok(Err(error)) => describe(&error),
                Err(error) => error.to_string(),
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
}

/// Rows of one query are cut in the database, so that megabytes of plugin output never travel: as
/// many characters as an event can hold bytes, and one more to see that something was cut.
const TEXT_CHARACTERS: usize = crate::event::TEXT_LIMIT + 1;

impl Session {
    /// Sets the search path, prepares every statement, and runs each for nobody: PostgreSQL checks rights
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
                        set_config('plan_cache_mode', 'force_generic_plan', false)",
                &[&installation.schema, &installation.citext_schema],
            )
            .await?;
        let muted = if installation.mute_on_incident {
            "i.mute_reason"
        } else {
            "o.mute_reason"
        };
        // Each id by itself, so that no plan can weigh the ids against the table: with `id = ANY($1)` a plan
        // made while the history was small reads all of it for each id. Nor may the type be a condition in
        // there: it would let the plan use idx_icinga_desktop_notified, which has the id in second place, so
        // that finding an id means reading the whole index.
        let notified = format!(
            "SELECT told.*
             FROM unnest($1::bigint[]) AS wanted (id)
             CROSS JOIN LATERAL (
               SELECT h.id, h.contact_id, h.incident_id, h.time, i.severity::text,
                      left(o.name, {TEXT_CHARACTERS}), left(h.message, {TEXT_CHARACTERS}), h.type
               FROM incident_history h
               JOIN contact c ON c.id = h.contact_id
               JOIN incident i ON i.id = h.incident_id
               JOIN object o ON o.id = i.object_id
               WHERE h.id = wanted.id
                 AND h.notification_state IS DISTINCT FROM 'suppressed'
                 AND c.deleted = 'n' AND c.username IS NOT NULL
               OFFSET 0
             ) AS told
             WHERE told.type = 'notified'"
        );
        // Here, too. The inner query refers to `wanted` and not to `i`: to the latter, PostgreSQL would rather
        // read every incident's managers at once.
        let recipients = format!(
            "SELECT told.*
             FROM unnest($1::bigint[]) AS wanted (id)
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
        let session = "SELECT s.user_agent = $2,
                    NOT EXISTS (SELECT FROM browser_session n
                      WHERE n.username = s.username AND n.user_agent = s.user_agent
                        AND (n.authenticated_at, n.php_session_id) > (s.authenticated_at, s.php_session_id)),
                    c.id
             FROM browser_session s
             LEFT JOIN contact c ON c.username = s.username AND c.deleted = 'n'
             WHERE s.php_session_id = $1";
        let (notified, recipients, session) = future::try_join3(
            client.prepare(&notified),
            client.prepare(&recipients),
            client.prepare(session),
        )
        .await?;
        let session = Self {
            client,
            notified,
            recipients,
            session,
        };
        future::try_join3(
            session.notified(&[]),
            session.recipients(&[]),
            session.browser_session("", ""),
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
    /// Whatever the server says.
    pub async fn notified(&self, history_ids: &[i64]) -> Result<Vec<NotifiedRow>, Error> {
        let rows = self.client.query(&self.notified, &[&history_ids]).await?;
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
            .query(&self.recipients, &[&incident_ids])
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
                &self.session,
                &[&Redacted(session_id), &Redacted(user_agent)],
            )
            .await?;
        row.map(|row| {
            Ok(SessionRow {
                agent_matches: row.try_get(0)?,
                newest: row.try_get(1)?,
                contact_id: row.try_get(2)?,
            })
        })
        .transpose()
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

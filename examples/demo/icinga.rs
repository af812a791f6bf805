//! Stands for Icinga Notifications and Icinga Web: writes the same rows in the same transactions.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;
use strum::EnumString;
use tokio::sync::{broadcast, mpsc};
use tokio::time::sleep;
use tokio_postgres::{Client, Config, Error, NoTls, Transaction};

/// How many incidents a storm has.
const STORM: u32 = 200;

/// Milliseconds since the epoch, as Icinga stores them.
const NOW: &str = "(extract(epoch FROM clock_timestamp()) * 1000)::bigint";

/// Time between two attempts while the database is unreachable.
const RETRY: Duration = Duration::from_millis(200);

/// What Icinga does for a button.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumString)]
#[strum(serialize_all = "kebab-case")]
pub(crate) enum Click {
    /// db1's disk is full.
    Db1,
    /// web1 answers slowly.
    Web1,
    /// mail1 does not send.
    Mail1,
    /// All of the three that are not OK recover.
    Recover,
    /// A downtime of db1 starts or ends.
    Mute,
    /// Many incidents at once.
    Storm,
    /// Alice's browser signs out.
    SignOutAlice,
    /// Bob's contact gets another user name, or its old one back.
    RenameBob,
}

/// One event that Icinga handles.
struct Event<'a> {
    object: &'a str,
    severity: &'a str,
    message: &'a str,
    /// The contacts to notify.
    users: &'a [&'a str],
    /// Whether the object is muted from now on; `None` changes nothing.
    mutes: Option<bool>,
}

const DB1: Event<'_> = Event {
    object: "db1!disk",
    severity: "crit",
    message: "DISK CRITICAL - free space: / 2%",
    users: &["alice", "bob"],
    mutes: None,
};
const WEB1: Event<'_> = Event {
    object: "web1!http",
    severity: "warning",
    message: "HTTP WARNING - 4.2 s response time",
    users: &["bob"],
    mutes: None,
};
const MAIL1: Event<'_> = Event {
    object: "mail1!queue",
    severity: "crit",
    message: "MAILQ CRITICAL - 8,112 messages",
    users: &["carol"],
    mutes: None,
};

/// A row that notifies a signed-in user.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Written {
    /// The row's id, which is also the id of the event.
    id: i64,
    user: String,
    /// When the transaction began to commit, in milliseconds since the epoch.
    at: f64,
}

/// The location of the demo's database.
#[derive(Debug, Clone)]
pub(crate) struct Database(PathBuf);

impl Database {
    /// Opens a session, as the owner of Icinga's tables.
    pub(crate) async fn connect(&self) -> Result<Client, Error> {
        let (client, connection) = Config::new()
            .host_path(&self.0)
            .user("postgres")
            .dbname("notifications")
            .connect(NoTls)
            .await?;
        // It ends with the client. The client's next statement reports errors.
        tokio::spawn(connection);
        Ok(client)
    }

    /// Signs a browser in as Icinga Web does, unless it is signed in: its session id.
    pub(crate) async fn sign_in(
        &self,
        user: &str,
        user_agent: &str,
        session_id: Option<String>,
    ) -> Result<String, Error> {
        let mut client = self.connect().await?;
        let transaction = client.transaction().await?;
        // Not by the user name, which may change.
        let username: String = transaction
            .query_one(
                "SELECT username::text FROM contact WHERE full_name = $1::text::citext",
                &[&user],
            )
            .await?
            .get(0);
        let signed_in = transaction
            .query_opt(
                "SELECT FROM browser_session \
                 WHERE php_session_id = $1 AND username = $2::text::citext AND user_agent = $3",
                &[&session_id, &username, &user_agent],
            )
            .await?;
        if let (Some(session_id), Some(_)) = (session_id, signed_in) {
            return Ok(session_id);
        }
        let session_id = const_hex::encode(rand::random::<[u8; 16]>());
        transaction
            .execute(
                "DELETE FROM browser_session WHERE username = $1::text::citext AND user_agent = $2",
                &[&username, &user_agent],
            )
            .await?;
        transaction
            .execute(
                &format!(
                    "INSERT INTO browser_session (php_session_id, username, user_agent, authenticated_at) \
                     VALUES ($1, $2::text::citext, $3, {NOW})"
                ),
                &[&session_id, &username, &user_agent],
            )
            .await?;
        transaction.commit().await?;
        Ok(session_id)
    }
}

/// Handles one click after the other.
pub(crate) struct Icinga {
    database: Database,
    written: broadcast::Sender<Written>,
}

impl Icinga {
    /// Writes to the database of the demo in this directory, and returns the rows.
    pub(crate) fn new(directory: &Path, written: broadcast::Sender<Written>) -> Self {
        Self {
            database: Database(directory.to_owned()),
            written,
        }
    }

    /// The database to write to.
    pub(crate) fn database(&self) -> Database {
        self.database.clone()
    }

    /// Handles clicks. A write that fails while the database is unreachable is retried, as Icinga does.
    pub(crate) async fn run(self, mut queue: mpsc::UnboundedReceiver<Click>) {
        while let Some(click) = queue.recv().await {
            while let Err(error) = self.handle(click).await {
                if error
                    .as_db_error()
                    .is_some_and(|error| !error.code().code().starts_with("57"))
                {
                    // The server is not being stopped, so this is a bug in the demo.
                    eprintln!("{click:?}: {error:?}");
                    break;
                }
                sleep(RETRY).await;
            }
        }
    }

    async fn handle(&self, click: Click) -> Result<(), Error> {
        let mut client = self.database.connect().await?;
        match click {
            Click::Db1 => self.event(&mut client, &DB1).await,
            Click::Web1 => self.event(&mut client, &WEB1).await,
            Click::Mail1 => self.event(&mut client, &MAIL1).await,
            Click::Recover => self.recover(&mut client).await,
            Click::Mute => self.mute(&mut client).await,
            Click::Storm => self.storm(&mut client).await,
            Click::SignOutAlice => {
                let sign_out = "DELETE FROM browser_session WHERE username = 'alice'";
                client.batch_execute(sign_out).await
            }
            Click::RenameBob => {
                let rename = format!(
                    "UPDATE contact SET changed_at = {NOW}, \
                     username = CASE username WHEN 'bob' THEN 'robert' ELSE 'bob' END WHERE full_name = 'bob'"
                );
                client.batch_execute(&rename).await
            }
        }
    }

    async fn recover(&self, client: &mut Client) -> Result<(), Error> {
        for event in [DB1, WEB1, MAIL1] {
            let well = Event {
                severity: "ok",
                message: "OK",
                ..event
            };
            if open_incident(client, event.object).await?.is_some() {
                self.event(client, &well).await?;
            }
        }
        Ok(())
    }

    async fn mute(&self, client: &mut Client) -> Result<(), Error> {
        let incident = open_incident(client, DB1.object).await?;
        let muted = incident.as_ref().is_some_and(|incident| incident.muted);
        let severity =
            incident.map_or_else(|| DB1.severity.to_owned(), |incident| incident.severity);
        let event = Event {
            severity: &severity,
            message: if muted {
                "The downtime has ended: notifications again"
            } else {
                "In a downtime: no notifications from now on"
            },
            mutes: Some(!muted),
            ..DB1
        };
        self.event(client, &event).await
    }

    async fn storm(&self, client: &mut Client) -> Result<(), Error> {
        for host in 1..=STORM {
            let event = Event {
                object: &format!("host{host}!ping"),
                severity: "crit",
                message: "PING CRITICAL - packet loss 100%",
                users: &["alice", "bob", "carol"],
                mutes: None,
            };
            self.event(client, &event).await?;
        }
        Ok(())
    }

    /// Handles an event in one transaction, and then records that its mails were sent, which must not show it again.
    async fn event(&self, client: &mut Client, event: &Event<'_>) -> Result<(), Error> {
        let transaction = client.transaction().await?;
        let written = write(&transaction, event).await?;
        let at = now();
        transaction.commit().await?;
        let mut ids = Vec::new();
        for (id, user) in written {
            ids.push(id);
            // Fails only if no page is open.
            let _ = self.written.send(Written { id, user, at });
        }
        let sent = format!(
            "UPDATE incident_history SET notification_state = 'sent', sent_at = {NOW} WHERE id = ANY($1)"
        );
        client.execute(&sent, &[&ids]).await?;
        Ok(())
    }
}

/// An incident that has not recovered.
struct Incident {
    id: i64,
    severity: String,
    muted: bool,
}

async fn open_incident(
    client: &impl tokio_postgres::GenericClient,
    object: &str,
) -> Result<Option<Incident>, Error> {
    let open = "SELECT id, severity::text, mute_reason IS NOT NULL FROM incident \
                WHERE object_id = sha256(convert_to($1, 'UTF8')) AND recovered_at IS NULL FOR UPDATE";
    let row = client.query_opt(open, &[&object]).await?;
    Ok(row.map(|row| Incident {
        id: row.get(0),
        severity: row.get(1),
        muted: row.get(2),
    }))
}

/// Writes an event: its history first and the incident last. Returns the rows that notify signed-in users.
async fn write(
    transaction: &Transaction<'_>,
    event: &Event<'_>,
) -> Result<Vec<(i64, String)>, Error> {
    let incident = match open_incident(transaction, event.object).await? {
        Some(incident) => {
            if incident.severity != event.severity {
                history(
                    transaction,
                    incident.id,
                    "incident_severity_changed",
                    Some((&incident.severity, event.severity)),
                )
                .await?;
            }
            incident
        }
        None => open(transaction, event).await?,
    };
    let muted = event.mutes.unwrap_or(incident.muted);
    if event.mutes.is_some() {
        let what = if muted { "muted" } else { "unmuted" };
        history(transaction, incident.id, what, None).await?;
    }
    let written = notify(transaction, event, &incident).await?;
    let save = format!(
        "UPDATE incident SET severity = $2::text::severity, message = $3, \
         mute_reason = CASE WHEN $4 THEN 'downtime' END, recovered_at = CASE WHEN $2 = 'ok' THEN {NOW} END WHERE id = $1"
    );
    transaction
        .execute(
            &save,
            &[&incident.id, &event.severity, &event.message, &muted],
        )
        .await?;
    Ok(written)
}

async fn open(transaction: &Transaction<'_>, event: &Event<'_>) -> Result<Incident, Error> {
    transaction
        .execute(
            "INSERT INTO object (id, source_id, name) VALUES (sha256(convert_to($1, 'UTF8')), 1, $1) ON CONFLICT DO NOTHING",
            &[&event.object],
        )
        .await?;
    let insert = format!(
        "INSERT INTO incident (object_id, started_at, severity) \
         VALUES (sha256(convert_to($1, 'UTF8')), {NOW}, $2::text::severity) RETURNING id"
    );
    let row = transaction
        .query_one(&insert, &[&event.object, &event.severity])
        .await?;
    let incident = Incident {
        id: row.get(0),
        severity: event.severity.to_owned(),
        muted: false,
    };
    history(transaction, incident.id, "opened", None).await?;
    Ok(incident)
}

async fn history(
    transaction: &Transaction<'_>,
    incident: i64,
    what: &str,
    change: Option<(&str, &str)>,
) -> Result<(), Error> {
    let (old, new) = change.unzip();
    let insert = format!(
        "INSERT INTO incident_history (incident_id, time, type, old_severity, new_severity) \
         VALUES ($1, {NOW}, $2::text::history_type, $3::text::severity, $4::text::severity)"
    );
    transaction
        .execute(&insert, &[&incident, &what, &old, &new])
        .await?;
    Ok(())
}

async fn notify(
    transaction: &Transaction<'_>,
    event: &Event<'_>,
    incident: &Incident,
) -> Result<Vec<(i64, String)>, Error> {
    transaction
        .execute(
            "INSERT INTO incident_contact (incident_id, contact_id, role) \
             SELECT $1, id, 'recipient' FROM contact WHERE full_name = ANY($2::text[]::citext[]) ON CONFLICT DO NOTHING",
            &[&incident.id, &event.users],
        )
        .await?;
    // The event that mutes is notified; later ones are not.
    let state = if incident.muted && event.mutes.is_none() {
        "suppressed"
    } else {
        "pending"
    };
    let insert = format!(
        "WITH written AS ( \
           INSERT INTO incident_history (incident_id, contact_id, channel_id, time, message, type, notification_state) \
           SELECT $1, id, default_channel_id, {NOW}, $3, 'notified', $4::text::notification_state \
           FROM contact WHERE full_name = ANY($2::text[]::citext[]) \
           RETURNING id, contact_id, notification_state) \
         SELECT written.id, full_name::text FROM written JOIN contact ON contact.id = contact_id \
         WHERE notification_state = 'pending' \
           AND EXISTS (SELECT FROM browser_session WHERE browser_session.username = contact.username)"
    );
    let rows = transaction
        .query(
            &insert,
            &[&incident.id, &event.users, &event.message, &state],
        )
        .await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

/// Milliseconds since the epoch, as browsers count them.
fn now() -> f64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap_or_default().as_secs_f64() * 1000.0
}

//! The facts for the page's strip: which programs run, and what each user's browser has acknowledged.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_postgres::Error;

use crate::health::Health;
use crate::icinga::Database;

/// Time between two queries.
const PAUSE: Duration = Duration::from_millis(200);

/// How long a query may take: PostgreSQL may be stopped meanwhile.
const TIMEOUT: Duration = Duration::from_secs(1);

/// The sources of the facts.
pub(crate) struct Facts {
    pub(crate) database: Database,
    pub(crate) daemon: watch::Receiver<Health>,
    pub(crate) postgres: watch::Receiver<Health>,
    pub(crate) network: watch::Receiver<Health>,
}

/// The facts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Seen {
    daemon: Health,
    postgres: Health,
    /// Alice's network.
    network: Health,
    /// The database's, when it was last reachable.
    #[serde(flatten)]
    read: Read,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
struct Read {
    /// Whether db1 is muted.
    muted: bool,
    /// Each contact by name.
    users: BTreeMap<String, User>,
}

/// A contact, and what its latest signed-in browser has acknowledged: rows up to `floor`, and those in `above`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct User {
    username: String,
    floor: i64,
    above: Vec<i64>,
}

impl Facts {
    /// Queries again and again.
    pub(crate) fn watch(self) -> watch::Receiver<Seen> {
        let (sender, receiver) = watch::channel(Seen::default());
        tokio::spawn(async move {
            let mut read = Read::default();
            while !sender.is_closed() {
                if let Ok(Ok(now)) = timeout(TIMEOUT, self.read()).await {
                    read = now;
                }
                let seen = Seen {
                    daemon: *self.daemon.borrow(),
                    postgres: *self.postgres.borrow(),
                    network: *self.network.borrow(),
                    read: read.clone(),
                };
                sender.send_if_modified(|last| {
                    let news = *last != seen;
                    *last = seen;
                    news
                });
                sleep(PAUSE).await;
            }
        });
        receiver
    }

    async fn read(&self) -> Result<Read, Error> {
        let client = self.database.connect().await?;
        let muted = "SELECT EXISTS (SELECT FROM incident JOIN object ON object.id = object_id \
                     WHERE name = 'db1!disk' AND recovered_at IS NULL AND mute_reason IS NOT NULL)";
        let muted = client.query_one(muted, &[]).await?.get(0);
        let users = "SELECT DISTINCT ON (contact.id) full_name::text, contact.username::text, \
                       coalesce(floor, 0), coalesce(above, '{}') \
                     FROM contact LEFT JOIN browser_session USING (username) \
                     LEFT JOIN icinga_desktop.browser_position ON browser = sha256(convert_to(php_session_id, 'UTF8')) \
                     ORDER BY contact.id, authenticated_at DESC";
        let users = client.query(users, &[]).await?;
        let users = users.iter().map(|row| {
            let user = User {
                username: row.get(1),
                floor: row.get(2),
                above: row.get(3),
            };
            (row.get(0), user)
        });
        Ok(Read {
            muted,
            users: users.collect(),
        })
    }
}

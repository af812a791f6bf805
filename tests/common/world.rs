//! Everything together: a database with Icinga's tables and our triggers, and the daemon on it with a role that has exactly the
//! rights of `sql/grants.sql`.

use super::command::run;
use super::daemon::{ConfigDir, Daemon};
use super::eventsource::{EventSource, Site};
use super::icinga::{Event, Icinga, Shape, Written};
use super::network::enter_private_network;
use super::postgres::{Cluster, Database};
use super::sse::{AGENT, Answer, request};

/// Whether a daemon holds the bell.
pub(crate) const HELD: &str =
    "EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND mode = 'ShareLock' AND granted)";

/// A database, Icinga writing to it, and the daemon.
pub(crate) struct World {
    pub(crate) daemon: Daemon,
    pub(crate) icinga: Icinga,
    pub(crate) database: Database,
    /// The daemon's role.
    pub(crate) role: String,
}

/// A contact with one open tab.
pub(crate) struct User {
    pub(crate) contact: i64,
    pub(crate) session_id: String,
    pub(crate) tab: EventSource,
}

impl World {
    /// With the newest schema, on the server that the test binary shares.
    pub(crate) async fn new(hint: &str) -> Self {
        Self::on(Cluster::shared(), hint, Shape::V1_0).await
    }

    /// With this schema, on this server.
    pub(crate) async fn on(cluster: &Cluster, hint: &str, shape: Shape) -> Self {
        let (database, role) = installed(cluster, hint, shape);
        let resource = resource(&database, &role);
        Self::reached_by(database, role, shape, &resource).await
    }

    /// With a daemon that connects to the database in another way.
    pub(crate) async fn reached_by(
        database: Database,
        role: String,
        shape: Shape,
        resource: &str,
    ) -> Self {
        Self::of(Daemon::start(resource), database, role, shape).await
    }

    /// With a daemon that was started in another way.
    pub(crate) async fn of(daemon: Daemon, database: Database, role: String, shape: Shape) -> Self {
        let icinga = Icinga::new(database.connect().await, shape);
        Self {
            daemon,
            icinga,
            database,
            role,
        }
    }

    /// In its own network, with a daemon that listens on the addresses of the shipped files, which are the defaults of
    /// `[daemon]`.
    pub(crate) async fn behind_proxies(hint: &str) -> Self {
        enter_private_network(&[]);
        let mut world = Self::new(hint).await;
        world.daemon = world.another_daemon("");
        world
    }

    /// Starts a daemon with these keys of `[daemon]`.
    pub(crate) fn another_daemon(&self, keys: &str) -> Daemon {
        let daemon = Daemon::launch(ConfigDir::new(keys, &resource(&self.database, &self.role)));
        daemon.wait_for_log("ready: ");
        daemon
    }

    /// Creates a contact, signs it in, and opens its tab.
    pub(crate) async fn user(&self, name: &str) -> User {
        let contact = self.icinga.contact(name).await;
        self.sign_in(contact, name).await
    }

    /// Signs an existing contact in with that spelling of its name, and opens its tab.
    pub(crate) async fn sign_in(&self, contact: i64, name: &str) -> User {
        let session_id = self.icinga.sign_in(name, AGENT).await;
        let tab = self.open(&session_id).await;
        User {
            contact,
            session_id,
            tab,
        }
    }

    /// Creates a contact and signs it in, without a stream.
    pub(crate) async fn signed_in(&self, name: &str) -> (i64, String) {
        let contact = self.icinga.contact(name).await;
        (contact, self.icinga.sign_in(name, AGENT).await)
    }

    /// Opens a tab, which must be accepted.
    pub(crate) async fn open(&self, session_id: &str) -> EventSource {
        EventSource::open(&Site::daemon(&self.daemon.address, AGENT), session_id).await
    }

    /// Opens a stream of a browser, which must be accepted, that does not reconnect when it ends.
    pub(crate) async fn stream(&self, session_id: &str) -> Answer {
        Answer::open(&self.daemon.address, session_id, AGENT).await
    }

    /// Opens a stream of a client at that address, according to the proxy, that does not reconnect when it ends.
    pub(crate) async fn stream_from(&self, session_id: &str, client: &str) -> Answer {
        let header = format!("\r\nX-Forwarded-For: {client}\r\n\r\n");
        let request = request(session_id, AGENT).replace("\r\n\r\n", &header);
        let stream = Answer::to(&self.daemon.address, request.as_bytes()).await;
        assert_eq!(stream.status, 200);
        stream
    }

    /// Runs a command of the binary on this database: its exit code and output. In a separate thread: the test's sessions
    /// continue meanwhile.
    pub(crate) async fn run(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let config = ConfigDir::new("", &resource(&self.database, &self.role));
        let arguments: Vec<String> = arguments.iter().copied().map(str::to_owned).collect();
        tokio::task::spawn_blocking(move || {
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            run(&config, &arguments)
        })
        .await
        .expect("the command does not panic")
    }

    /// Notifies a contact of a new incident.
    pub(crate) async fn incident(&self, contact: i64, object: &str) -> Written {
        self.icinga
            .event(Event {
                object,
                severity: Some("crit"),
                notified: &[(contact, 1, "pending")],
                ..Event::default()
            })
            .await
    }

    /// Waits until an event is delivered: its row is done in a stored position of the current epoch.
    pub(crate) async fn delivered(&self, history_id: i64) {
        self.delivered_where(history_id, "true").await;
    }

    /// The same, to the browser of this session.
    pub(crate) async fn delivered_to(&self, session_id: &str, history_id: i64) {
        let browser = format!("browser = sha256('{session_id}')");
        self.delivered_where(history_id, &browser).await;
    }

    async fn delivered_where(&self, history_id: i64, condition: &str) {
        let done = format!(
            "EXISTS (SELECT FROM icinga_desktop.browser_position \
             WHERE {condition} AND (floor >= {history_id} OR {history_id} = ANY (above)) \
               AND split_part(epoch, '/', 3) = \
                 pg_relation_filenode(pg_get_serial_sequence('incident_history', 'id')::regclass)::text)"
        );
        self.database.eventually(&done).await;
    }

    /// Notifies `users` of a new incident, and asserts that this is the next event that each of them receives: none was in
    /// between.
    pub(crate) async fn nothing_else(&self, users: &mut [&mut User]) -> Written {
        let notified: Vec<_> = users
            .iter()
            .map(|user| (user.contact, 1, "pending"))
            .collect();
        let fence = self
            .icinga
            .event(Event {
                object: "fence",
                severity: Some("notice"),
                notified: &notified,
                ..Event::default()
            })
            .await;
        for user in users {
            let event = user.tab.event().await;
            assert_eq!(
                event.incident(),
                fence.incident,
                "something else came: {event:?}"
            );
        }
        fence
    }
}

/// A database with Icinga's tables and our triggers, and a role that has exactly the rights of `sql/grants.sql`.
pub(crate) fn installed(cluster: &Cluster, hint: &str, shape: Shape) -> (Database, String) {
    let database = cluster.database(hint);
    database.psql().file(shape.fixture()).success();
    database.psql().file("sql/install.sql").success();
    let role = database.role("bridge");
    database
        .psql()
        .variable("role", &role)
        .file("sql/grants.sql")
        .success();
    (database, role)
}

/// The keys of a resource that reaches `database` over its socket.
pub(crate) fn resource(database: &Database, role: &str) -> String {
    format!(
        "host = \"{}\"\nport = \"{}\"\ndbname = \"{}\"\nusername = \"{role}\"",
        database.socket_directory().display(),
        database.port(),
        database.name(),
    )
}

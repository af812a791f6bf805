//! The database of a test, and how to connect to it.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use futures::StreamExt as _;
use tokio::sync::mpsc;
use tokio_postgres::{AsyncMessage, Client, NoTls};

use super::endpoint::Endpoint;
use super::programs::psql;
use super::psql::Psql;
use super::session::{SENTINEL, Session};
use super::{SUPERUSER, without_pg_environment};
use crate::common::wait::eventually;

/// The database of a test.
pub(crate) struct Database {
    pub(super) endpoint: Arc<Endpoint>,
    pub(super) name: String,
}

impl Database {
    /// The database's name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The directory with the server's Unix socket, where every role is trusted.
    pub(crate) fn socket_directory(&self) -> &Path {
        &self.endpoint.directory
    }

    /// The server's port, on 127.0.0.1 and of the socket.
    pub(crate) fn port(&self) -> u16 {
        self.endpoint.port()
    }

    /// A command that runs `program` as the server's user.
    pub(crate) fn server_command(&self, program: &str) -> Command {
        self.endpoint.server_command(program)
    }

    /// Creates a role that may log in and nothing else; its name begins with the database's, as roles are cluster-wide.
    pub(crate) fn role(&self, hint: &str) -> String {
        let role = format!("{}_{hint}", self.name);
        self.psql()
            .command(&format!("CREATE ROLE \"{role}\" LOGIN"))
            .success();
        role
    }

    /// Connects as the superuser.
    pub(crate) async fn connect(&self) -> Session {
        self.connect_as(SUPERUSER).await
    }

    /// Connects as a role, over the socket.
    pub(crate) async fn connect_as(&self, role: &str) -> Session {
        let connected = tokio_postgres::Config::new()
            .host_path(&self.endpoint.directory)
            .port(self.port())
            .user(role)
            .dbname(&self.name)
            .connect(NoTls)
            .await;
        let (client, mut connection) = connected.unwrap_or_else(|error| {
            panic!("{role} cannot connect to {}: {error:?}", self.name);
        });
        let (heard, notifications) = mpsc::unbounded_channel();
        let (noticed, notices) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            let mut messages = futures::stream::poll_fn(|context| connection.poll_message(context));
            // An error ends the session; the client's next statement reports it.
            while let Some(Ok(message)) = messages.next().await {
                match message {
                    AsyncMessage::Notification(notification) => {
                        let channel = notification.channel().to_owned();
                        let payload = notification.payload().to_owned();
                        let _ = heard.send((channel, payload));
                    }
                    AsyncMessage::Notice(notice) => {
                        let _ = noticed
                            .send((notice.severity().to_owned(), notice.message().to_owned()));
                    }
                    _ => {}
                }
            }
        });
        Session {
            client,
            notifications,
            notices,
        }
    }

    /// Connects as the superuser, if the server accepts.
    pub(crate) async fn try_connect(&self) -> Option<Client> {
        let (client, connection) = tokio_postgres::Config::new()
            .host_path(&self.endpoint.directory)
            .port(self.port())
            .user(SUPERUSER)
            .dbname(&self.name)
            .connect(NoTls)
            .await
            .ok()?;
        tokio::spawn(connection);
        Some(client)
    }

    /// Connects as the superuser and listens to the channels.
    pub(crate) async fn listen(&self, channels: &[&str]) -> Session {
        let session = self.connect().await;
        for channel in channels {
            session.run(&format!("LISTEN \"{channel}\"")).await;
        }
        session.run(&format!("LISTEN {SENTINEL}")).await;
        session
    }

    /// Waits until an expression of SQL is true, over one session.
    pub(crate) async fn eventually(&self, condition: &str) {
        let session = self.connect().await;
        let query = format!("SELECT ({condition})::text");
        eventually(async || match session.text(&query).await.as_str() {
            "true" => Ok(()),
            other => Err(format!("{other}: {condition}")),
        })
        .await;
    }

    /// Waits until the server has counted at least `rows` rows of a table as read, by any session, and returns the count.
    /// Counters arrive after the end of their session, and those of an index separately.
    pub(crate) async fn rows_read(&self, table: &str, rows: i64) -> i64 {
        let sql = format!(
            "SELECT (seq_tup_read + coalesce(idx_tup_fetch, 0))::text FROM pg_stat_user_tables WHERE relname = '{table}'"
        );
        // A new session for each query, because one may keep the counters that it saw first.
        eventually(async || {
            let read = self.connect().await.text(&sql).await;
            let read: i64 = read.parse().expect("a number");
            if read >= rows {
                Ok(read)
            } else {
                Err(format!("{read} of {rows} rows"))
            }
        })
        .await
    }

    /// Prepares a run of the real psql, as the superuser by default.
    pub(crate) fn psql(&self) -> Psql {
        let mut command = Command::new(psql(&self.endpoint.programs));
        without_pg_environment(&mut command);
        command
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .stdin(Stdio::null())
            .env("PGHOST", &self.endpoint.directory)
            .env("PGPORT", self.port().to_string())
            .env("PGDATABASE", &self.name)
            .env("PGUSER", SUPERUSER)
            .args(["--no-psqlrc", "--set=ON_ERROR_STOP=1"]);
        Psql { command }
    }
}

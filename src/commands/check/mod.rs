//! `check`: looks at everything that has to hold before streams work, and says what to do where it
//! does not. One line each.

mod stream;

use std::io::{self, Write};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::poll_fn;
use tokio::time::timeout;
use tokio_postgres::{AsyncMessage, Client};

use crate::ask::{self, PATIENCE, Question};
use crate::config::Config;
use crate::database::Session;
use crate::database::installation::{self, TRIGGERS, VERSION};
use crate::database::{Connector, Error, NO_POOLER, NOT_A_STANDBY, PgConnection, describe};
use crate::model::notification::INCIDENT_CHANNEL;

pub use self::stream::{Address, Visit};

/// How long the round trip of a notification may take; it is a matter of milliseconds.
const ROUND_TRIP: Duration = Duration::from_secs(5);

/// A channel of its own: what `check` sends must not reach a running daemon.
const CHECK_CHANNEL: &str = "icinga_desktop_check";

/// Writes one line per check to `out`, those of a stream through the proxy included if there is a `visit`. Returns whether
/// all of them hold.
///
/// # Errors
///
/// If `out` cannot be written to.
pub async fn run(config: &Config, visit: Option<&Visit>, out: &mut impl Write) -> io::Result<bool> {
    writeln!(
        out,
        "ok    configuration: resource \"{}\"",
        config.database.resource
    )?;
    let checks = Checks { out, good: true };
    checks.run(config, visit).await
}

struct Checks<'a, W> {
    out: &'a mut W,
    good: bool,
}

impl<W: Write> Checks<'_, W> {
    fn report(&mut self, what: &str, result: Result<String, String>) -> io::Result<()> {
        match result {
            Ok(detail) => writeln!(self.out, "ok    {what}: {detail}"),
            Err(problem) => {
                self.good = false;
                writeln!(self.out, "FAIL  {what}: {problem}")
            }
        }
    }

    async fn run(mut self, config: &Config, visit: Option<&Visit>) -> io::Result<bool> {
        let connected = match Connector::new(&config.database) {
            Ok(connector) => connect_twice(&connector).await,
            Err(error) => Err(error),
        };
        let (client, mut connection, sender) = match connected {
            Ok(connected) => connected,
            Err(error) => {
                self.report("connection", Err(error.to_string()))?;
                return Ok(false);
            }
        };
        let (heard, mut notifications) = tokio::sync::mpsc::unbounded_channel();
        let mut messages = poll_fn(move |cx| connection.poll_message(cx));
        tokio::spawn(async move {
            while let Some(Ok(message)) = messages.next().await {
                if let AsyncMessage::Notification(notification) = message {
                    let _ = heard.send(notification.payload().to_owned());
                }
            }
        });
        self.report("connection", server(&client).await)?;
        self.report("server", not_in_recovery(&client).await)?;
        let round_trip = async {
            let payload = format!("{:016x}", rand::random::<u64>());
            client
                .batch_execute(&format!("LISTEN {CHECK_CHANNEL}"))
                .await
                .map_err(|error| listen_problem(&error))?;
            sender
                .execute("SELECT pg_notify($1, $2)", &[&CHECK_CHANNEL, &payload])
                .await
                .map_err(|error| describe(&error))?;
            loop {
                match timeout(ROUND_TRIP, notifications.recv()).await {
                    Ok(Some(received)) if received == payload => {
                        return Ok("a notification came back".to_owned());
                    }
                    Ok(Some(_)) => {}
                    Ok(None) | Err(_) => {
                        return Err(format!("no notification came back: {NO_POOLER}"));
                    }
                }
            }
        };
        let heard = round_trip.await;
        self.report("LISTEN/NOTIFY", heard)?;
        match installation::inspect(&client).await {
            Ok(installation) => {
                let found = format!(
                    "all {} present and on, version {VERSION}, on schema \"{}\"",
                    TRIGGERS.len(),
                    installation.schema
                );
                self.report("triggers", Ok(found))?;
                match Session::prepare(client, &installation).await {
                    Ok(session) => {
                        let fine = "every query of the daemon may be run".to_owned();
                        self.report("rights", Ok(fine))?;
                        self.report("bridges", bridges(&session).await)?;
                        if let Some(visit) = visit {
                            let keep_alive = config.daemon.tuning.keep_alive;
                            self.follow(visit, &session, keep_alive).await?;
                        }
                    }
                    Err(error) => {
                        let problem = installation::Error::Refused(error).to_string();
                        self.report("rights", Err(problem))?;
                    }
                }
            }
            Err(error) => self.report("triggers", Err(error.to_string()))?,
        }
        Ok(self.good)
    }
}

/// The session that is checked, and one that only sends a notification to it: behind a pooler in
/// transaction mode a session hears what it sends itself, and nothing else.
async fn connect_twice(connector: &Connector) -> Result<(Client, PgConnection, Client), Error> {
    let (client, connection) = connector.connect("check").await?;
    let (sender, sending) = connector.connect("check").await?;
    tokio::spawn(sending);
    Ok((client, connection, sender))
}

async fn server(client: &Client) -> Result<String, String> {
    let row = client
        .query_one(
            "SELECT current_user::text, current_database()::text, current_setting('server_version'),
                    current_setting('server_version_num')::int4,
                    (SELECT version FROM pg_stat_ssl WHERE pid = pg_backend_pid() AND ssl)",
            &[],
        )
        .await
        .map_err(|error| describe(&error))?;
    let (user, database, version): (String, String, String) = (row.get(0), row.get(1), row.get(2));
    // pg_current_xact_id() and the triggers' other means came with 13.
    if row.get::<_, i32>(3) < 130_000 {
        return Err(format!(
            "PostgreSQL {version} is too old: 13 or newer is needed"
        ));
    }
    let encryption = row
        .get::<_, Option<String>>(4)
        .unwrap_or_else(|| "not encrypted".to_owned());
    Ok(format!(
        "role \"{user}\", database \"{database}\", PostgreSQL {version}, {encryption}"
    ))
}

async fn not_in_recovery(client: &Client) -> Result<String, String> {
    let row = client
        .query_one("SELECT pg_is_in_recovery()", &[])
        .await
        .map_err(|error| describe(&error))?;
    if row.get(0) {
        return Err(NOT_A_STANDBY.to_owned());
    }
    Ok("not in recovery".to_owned())
}

fn listen_problem(error: &tokio_postgres::Error) -> String {
    format!(
        "LISTEN on {INCIDENT_CHANNEL} would fail: {}",
        describe(error)
    )
}

/// Asks the running bridges of the database who they are.
async fn bridges(session: &Session) -> Result<String, String> {
    let answers = ask::ask(session, Question::RollCall)
        .await
        .map_err(|error| error.to_string())?;
    let (listening, shared) = (answers.listening, answers.shared());
    let answered = answers.answers.len();
    if answered < listening {
        return Err(format!(
            "{answered} of {listening} bridges that listen on this database answered within {PATIENCE:?}: look at the logs \
             of the others, or wait until PostgreSQL has noticed that they are gone"
        ));
    }
    let browsers: usize = answers.answers.iter().map(|answer| answer.browsers).sum();
    if shared > 0 {
        return Err(format!(
            "{listening} bridges serve this database, and {shared} browsers have streams on more than one, so that they are \
             told everything twice: let the proxy keep a browser on one bridge, as the files for nginx (hash \
             $cookie_Icingaweb2 consistent) and Apache under packaging/ do for several bridges. If a bridge has just been \
             stopped or started, check again in a minute"
        ));
    }
    Ok(match listening {
        0 => "none is running on this database".to_owned(),
        1 => format!("1 bridge serves this database, with {browsers} browsers"),
        count => format!(
            "{count} bridges serve this database, with {browsers} browsers, each on one of them"
        ),
    })
}

//! `check`: looks at everything that has to hold before streams work, and says what to do where it
//! does not. One line each.

use std::io::{self, Write};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::poll_fn;
use tokio::time::timeout;
use tokio_postgres::AsyncMessage;

use self::report::Checks;
use self::server::{connect_twice, listen_problem, not_in_recovery, server};
use crate::ask::{self, PATIENCE, Question};
use crate::config::Config;
use crate::database::installation::{self, TRIGGERS, VERSION};
use crate::database::{Connector, NO_POOLER, Session, describe};

pub use self::address::Address;
pub use self::sign_in::Visit;

mod address;
mod proxy;
mod report;
mod server;
mod sign_in;
mod stream;

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

impl<W: Write> Checks<'_, W> {
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

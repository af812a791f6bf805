//! `check`: checks everything that streams need, in one line each, and reports what to fix.

mod address;
mod proxy;
mod report;
mod server;
mod sign_in;
mod stream;

use std::io::{self, Write};

use jiff::Timestamp;
use tokio_postgres::Client;

use self::report::Checks;
use self::server::{connect_twice, not_in_recovery, receive_notifications, round_trip, server};
use super::Problem;
use crate::ask::{self, Question, TIMEOUT};
use crate::config::Config;
use crate::database::installation::{
    self, EVENTS_FORBIDDEN, Events, GRANT, Installation, TRIGGERS, VERSION,
};
use crate::database::{Connector, Session};

pub use self::address::Address;
pub use self::sign_in::Visit;

/// Writes one line per check to `out`, including those of a stream through the proxy if there is a `visit`. Returns whether all
/// checks passed.
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
        let (client, connection, sender) = match connected {
            Ok(connected) => connected,
            Err(error) => {
                self.report("connection", Err(error.into()))?;
                return Ok(false);
            }
        };
        let mut notifications = receive_notifications(connection);
        self.report("connection", server(&client).await)?;
        self.report("server", not_in_recovery(&client).await)?;
        let came_back = round_trip(&client, &sender, &mut notifications).await;
        self.report("LISTEN/NOTIFY", came_back)?;
        if let Some(session) = self.set_up(client).await? {
            self.report("messages", messages(&session.installation))?;
            self.report("ids", epoch(&session).await)?;
            self.report("bridges", bridges(&session).await)?;
            if let Some(visit) = visit {
                let keep_alive = config.daemon.tuning.keep_alive;
                self.follow(visit, &session, keep_alive).await?;
            }
        }
        Ok(self.good)
    }

    /// Checks what the daemon does with a new session; `None` if that fails.
    async fn set_up(&mut self, client: Client) -> io::Result<Option<Session>> {
        let triggers = |installation: &Installation| {
            format!(
                "all {} present and enabled, version {VERSION}, on schema \"{}\"",
                TRIGGERS.len(),
                installation.schema
            )
        };
        match Session::set_up(client, None).await {
            Ok(session) => {
                self.report("triggers", Ok(triggers(&session.installation)))?;
                self.report("rights", rights(&session).await)?;
                Ok(Some(session))
            }
            Err(error) => {
                let what = match &error {
                    installation::Error::Refused { installation, .. } => {
                        self.report("triggers", Ok(triggers(installation)))?;
                        "rights"
                    }
                    _ => "triggers",
                };
                self.report(what, Err(error.into()))?;
                Ok(None)
            }
        }
    }
}

/// Whether the role may also write what the daemon writes.
async fn rights(session: &Session) -> Result<String, Problem> {
    let missing = session.missing_rights().await?;
    if missing.is_empty() {
        return Ok("the role may run every query of the daemon".to_owned());
    }
    let missing = missing.join(", ");
    Err(format!("missing: {missing}; as the owner of the tables, run: {GRANT}").into())
}

/// Where the messages of notifications are stored.
fn messages(installation: &Installation) -> Result<String, Problem> {
    match installation.events {
        Events::Absent => Ok("in the notifications".to_owned()),
        Events::Readable => Ok("in the notifications and their events".to_owned()),
        Events::Forbidden => {
            let restart = "systemctl restart icinga-notifications-web";
            Err(format!("{EVENTS_FORBIDDEN}: {GRANT}; then: {restart}").into())
        }
    }
}

/// The epoch of ids.
async fn epoch(session: &Session) -> Result<String, Problem> {
    let epoch = session.epoch().await?;
    Ok(format!(
        "epoch {epoch} (cluster/database/sequences): it changes when ids restart"
    ))
}

/// Asks the running bridges of the database which browsers they serve.
async fn bridges(session: &Session) -> Result<String, Problem> {
    let answers = ask::ask(session, Question::RollCall).await?;
    let (listening, shared) = (answers.listening, answers.shared());
    let answered = answers.answers.len();
    if answered < listening {
        return Err(format!(
            "{answered} of {listening} bridges that listen on this database answered within {TIMEOUT:?}: check the logs \
             of the others, or wait until PostgreSQL notices that they are gone"
        )
        .into());
    }
    let browsers: usize = answers.answers.iter().map(|answer| answer.browsers).sum();
    if shared > 0 {
        return Err(format!(
            "{listening} bridges serve this database, and {shared} browsers have streams on more than one of them, so they \
             receive everything twice: let the proxy keep a browser on one bridge, as the files for nginx (hash \
             $cookie_Icingaweb2 consistent) and Apache under packaging/ do for several bridges. If a bridge was just \
             stopped or started, check again in a minute"
        )
        .into());
    }
    let bells = match answers
        .without_bell_at_ms()
        .map(Timestamp::from_millisecond)
    {
        Some(Ok(at)) => {
            format!("; rows were last found without a bell at {at:.0}, the log says why")
        }
        _ => "; no row was found without a bell".to_owned(),
    };
    Ok(match listening {
        0 => "no bridge is running on this database".to_owned(),
        1 => format!("1 bridge serves this database, with {browsers} browsers{bells}"),
        count => format!(
            "{count} bridges serve this database, with {browsers} browsers, each on one of them{bells}"
        ),
    })
}

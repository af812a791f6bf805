//! Connecting to PostgreSQL: hosts, TLS, timeouts, and how long to wait before trying again.

use std::time::Duration;

use openssl::error::ErrorStack;
use openssl::ssl::{SslConnector, SslFiletype, SslMethod, SslVerifyMode};
use postgres_openssl::{MakeTlsConnector, TlsStream};
use rand::RngExt;
use tokio::time::timeout;
use tokio_postgres::config::{SslMode as WireSslMode, TargetSessionAttrs};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Connection, Socket};

use crate::config::{Database, DatabaseHost, Endpoint, SslMode};

/// A peer that vanished without a word is noticed after one probe at this age and two more; the
/// library's default age is two hours.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(15);
/// Time between those probes.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
/// Unanswered probes after which the connection is given up.
const KEEPALIVE_RETRIES: u32 = 3;
/// What was sent must be acknowledged within this time (`TCP_USER_TIMEOUT`, tcp(7)).
const USER_TIMEOUT: Duration = Duration::from_secs(30);

/// What our sessions are called in `pg_stat_activity`; behind it comes what each is for.
pub const APPLICATION_PREFIX: &str = "icinga-desktop-bridge ";

/// A connection could not be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The TLS files could not be used.
    #[error("{what} cannot be used: {source}")]
    Tls {
        /// Which of them.
        what: String,
        /// OpenSSL's reason.
        source: ErrorStack,
    },
    /// The server could not be reached, or refused.
    #[error("cannot connect to {0}")]
    Connect(String),
}

/// How long everything may take that makes a new session ready for use: longer than the ten seconds after which the
/// server gives a statement up, and not for ever where a proxy or a frozen server says nothing.
pub const SETUP_PATIENCE: Duration = Duration::from_secs(20);

/// Makes connections to the configured database.
#[derive(Clone)]
pub struct Connector {
    /// One per host, in the order in which they are tried.
    targets: Vec<Target>,
    tls: MakeTlsConnector,
    /// For the whole of connecting to one host, TLS and sign-in included.
    timeout: Duration,
}

#[derive(Clone)]
struct Target {
    config: tokio_postgres::Config,
    /// Where it is, for messages.
    name: String,
}

impl std::fmt::Debug for Connector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list()
            .entries(self.targets.iter().map(|target| &target.name))
            .finish()
    }
}

/// The library's connection, as this crate makes it.
pub type PgConnection = Connection<Socket, TlsStream<Socket>>;

impl Connector {
    /// A connector for `database`.
    ///
    /// # Errors
    ///
    /// [`Error::Tls`] if its TLS files cannot be used.
    pub fn new(database: &Database) -> Result<Self, Error> {
        let targets = database
            .hosts
            .iter()
            .map(|host| target(database, host))
            .collect();
        Ok(Self {
            targets,
            tls: tls(database)?,
            timeout: database.connect_timeout,
        })
    }

    /// Connects to the first host that lets us in, and with several hosts, to one that takes writes:
    /// the primary. `purpose` is seen in `pg_stat_activity`.
    ///
    /// # Errors
    ///
    /// [`Error::Connect`] with what each host said.
    pub async fn connect(&self, purpose: &str) -> Result<(Client, PgConnection), Error> {
        let mut reasons = Vec::new();
        for target in &self.targets {
            let mut config = target.config.clone();
            config.application_name(format!("{APPLICATION_PREFIX}{purpose}"));
            let reason = match timeout(self.timeout, config.connect(self.tls.clone())).await {
                Ok(Ok(connected)) => return Ok(connected),
                Ok(Err(error)) => describe(&error),
                Err(_) => format!("no answer within {:?}", self.timeout),
            };
            reasons.push(format!("{}: {reason}", target.name));
        }
        Err(Error::Connect(reasons.join("; ")))
    }
}

fn target(database: &Database, host: &DatabaseHost) -> Target {
    let mut config = tokio_postgres::Config::new();
    config
        .port(host.port)
        .keepalives_idle(KEEPALIVE_IDLE)
        .keepalives_interval(KEEPALIVE_INTERVAL)
        .keepalives_retries(KEEPALIVE_RETRIES)
        .tcp_user_timeout(USER_TIMEOUT)
        .ssl_mode(match database.tls.mode {
            SslMode::Disable => WireSslMode::Disable,
            // The library does not know `allow`: encrypted if the server can, as `prefer` is.
            SslMode::Allow | SslMode::Prefer => WireSslMode::Prefer,
            SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => WireSslMode::Require,
        });
    match &host.endpoint {
        Endpoint::Name(name) => config.host(name),
        Endpoint::Address(address) => config.host(address.to_string()),
        // As libpq does: a Unix socket has no TLS, whatever the mode.
        Endpoint::Socket(directory) => config.host_path(directory).ssl_mode(WireSslMode::Disable),
    };
    if let Some(address) = host.hostaddr {
        config.hostaddr(address);
    }
    if let Some(user) = &database.user {
        config.user(user);
    }
    if let Some(password) = &host.password {
        config.password(password.expose());
    }
    if let Some(dbname) = &database.dbname {
        config.dbname(dbname);
    }
    if let Some(options) = &database.options {
        config.options(options);
    }
    if database.hosts.len() > 1 {
        config.target_session_attrs(TargetSessionAttrs::ReadWrite);
    }
    Target {
        config,
        name: format!("{} port {}", host.endpoint, host.port),
    }
}

fn tls(database: &Database) -> Result<MakeTlsConnector, Error> {
    let tls = &database.tls;
    let failed = |what: String| move |source| Error::Tls { what, source };
    let mut builder =
        SslConnector::builder(SslMethod::tls_client()).map_err(failed("OpenSSL".to_owned()))?;
    let verifies = matches!(tls.mode, SslMode::VerifyCa | SslMode::VerifyFull);
    if !verifies {
        builder.set_verify(SslVerifyMode::NONE);
    } else if let Some(file) = &tls.root_cert {
        builder
            .set_ca_file(file)
            .map_err(failed(format!("the root certificate {}", file.display())))?;
    }
    if let Some(client) = &tls.client {
        builder
            .set_certificate_chain_file(&client.cert)
            .map_err(failed(format!("the certificate {}", client.cert.display())))?;
        builder
            .set_private_key_file(&client.key, SslFiletype::PEM)
            .map_err(failed(format!("the key {}", client.key.display())))?;
        builder.check_private_key().map_err(failed(format!(
            "the key {} with the certificate {}",
            client.key.display(),
            client.cert.display()
        )))?;
    }
    let mut connector = MakeTlsConnector::new(builder.build());
    if tls.mode != SslMode::VerifyFull {
        connector.set_callback(|connection, _| {
            connection.set_verify_hostname(false);
            Ok(())
        });
    }
    Ok(connector)
}

/// Doubling, jittered, capped waiting times between attempts to connect.
#[derive(Debug)]
pub struct Backoff {
    next: Duration,
}

/// The first wait: a database that was only restarted is back soon.
const BACKOFF_FIRST: Duration = Duration::from_millis(250);
/// The longest wait: how late streams may be after a long outage.
const BACKOFF_CAP: Duration = Duration::from_secs(15);

impl Default for Backoff {
    fn default() -> Self {
        Self {
            next: BACKOFF_FIRST,
        }
    }
}

impl Backoff {
    /// How long to wait before the next attempt: between half and all of the current step, so that
    /// several daemons do not come back in step.
    pub fn next_delay(&mut self) -> Duration {
        let step = self.next;
        self.next = (step * 2).min(BACKOFF_CAP);
        step.mul_f64(rand::rng().random_range(0.5..=1.0))
    }

    /// Starts over, after a success.
    pub fn reset(&mut self) {
        *self = Self::default();
    }
}

/// What to do about a pooler that hands one server session to several of ours.
pub const NO_POOLER: &str = "is a pooler in transaction mode (PgBouncer) between here and PostgreSQL? connect to PostgreSQL itself";

/// What to do about a server that is a standby.
pub const NOT_A_STANDBY: &str = "the server is a standby; name the primary, or all servers separated by commas, as \
     the resource's host";

/// What went wrong, in one line, without the parts that may quote data, and what to do where the server's
/// words do not lead there.
pub fn describe(error: &tokio_postgres::Error) -> String {
    if let Some(db) = error.as_db_error() {
        let text = format!("{} (SQLSTATE {})", db.message(), db.code().code());
        return match advice(db.code()) {
            Some(advice) => format!("{text}: {advice}"),
            None => text,
        };
    }
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

fn advice(code: &SqlState) -> Option<&'static str> {
    if [
        SqlState::INVALID_SQL_STATEMENT_NAME,
        SqlState::DUPLICATE_PSTATEMENT,
    ]
    .contains(code)
    {
        Some(NO_POOLER)
    } else if *code == SqlState::READ_ONLY_SQL_TRANSACTION {
        Some(NOT_A_STANDBY)
    } else if *code == SqlState::QUERY_CANCELED {
        Some("is the server overloaded, or a table locked? pg_stat_activity shows it")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_doubles_up_to_its_cap_and_starts_over() {
        let mut backoff = Backoff::default();
        let mut step = BACKOFF_FIRST;
        for _ in 0..20 {
            let delay = backoff.next_delay();
            assert!(delay >= step / 2 && delay <= step, "{delay:?} for {step:?}");
            step = (step * 2).min(BACKOFF_CAP);
        }
        backoff.reset();
        assert!(backoff.next_delay() <= BACKOFF_FIRST);
    }
}

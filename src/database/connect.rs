//! Connecting to PostgreSQL: hosts and timeouts.

use std::time::Duration;

use postgres_openssl::{MakeTlsConnector, TlsStream};
use tokio::time::timeout;
use tokio_postgres::config::{SslMode as WireSslMode, TargetSessionAttrs};
use tokio_postgres::{Client, Connection, Socket};

use super::error::{ConnectError, describe};
use super::tls::tls;
use crate::config::{Database, DatabaseHost, Endpoint, SslMode};
use crate::model::database_session::APPLICATION_PREFIX;

/// A peer that vanished without a word is noticed after one probe at this age and two more; the
/// library's default age is two hours.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(15);
/// Time between those probes.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
/// Unanswered probes after which the connection is given up.
const KEEPALIVE_RETRIES: u32 = 3;
/// What was sent must be acknowledged within this time (`TCP_USER_TIMEOUT`, tcp(7)).
const USER_TIMEOUT: Duration = Duration::from_secs(30);

/// How long everything may take that makes a new session ready for use: longer than the ten seconds after which the
/// server gives a statement up, and not for ever where a proxy or a frozen server says nothing.
pub(crate) const SETUP_TIMEOUT: Duration = Duration::from_secs(20);

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
    /// [`ConnectError::Tls`] if its TLS files cannot be used.
    pub fn new(database: &Database) -> Result<Self, ConnectError> {
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
    /// [`ConnectError::Refused`] with what each host said.
    pub async fn connect(&self, purpose: &str) -> Result<(Client, PgConnection), ConnectError> {
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
        Err(ConnectError::Refused(reasons.join("; ")))
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

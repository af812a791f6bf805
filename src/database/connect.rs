//! Connects to PostgreSQL: hosts and timeouts.

use std::time::Duration;

use postgres_openssl::{MakeTlsConnector, TlsStream};
use tokio::time::timeout;
use tokio_postgres::config::{SslMode as WireSslMode, TargetSessionAttrs};
use tokio_postgres::{Client, Connection, Socket};

use super::error::{ConnectError, describe};
use super::tls::tls;
use crate::config::{Database, DatabaseHost, Endpoint, SslMode};
use crate::model::database_session::APPLICATION_PREFIX;

/// A peer that vanished is noticed after one probe at this idle time and two more. The library's default is two hours.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(15);
/// Time between those probes.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
/// Unanswered probes after which the connection is given up.
const KEEPALIVE_RETRIES: u32 = 3;
/// Sent data must be acknowledged within this time (`TCP_USER_TIMEOUT`, tcp(7)).
const USER_TIMEOUT: Duration = Duration::from_secs(30);

/// How long the set-up of a new session may take in total: longer than the ten seconds after which the server cancels a
/// statement, and not forever where a proxy or a frozen server does not answer.
pub(crate) const SETUP_TIMEOUT: Duration = Duration::from_secs(20);

/// Connects to the configured database.
#[derive(Clone)]
pub struct Connector {
    /// One per host, in the order they are tried.
    targets: Vec<Target>,
    tls: MakeTlsConnector,
    /// For each host, including TLS and authentication.
    timeout: Duration,
}

#[derive(Clone)]
struct Target {
    config: tokio_postgres::Config,
    /// The address, for messages.
    name: String,
}

impl std::fmt::Debug for Connector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list()
            .entries(self.targets.iter().map(|target| &target.name))
            .finish()
    }
}

/// A tokio-postgres connection over TLS.
pub type PgConnection = Connection<Socket, TlsStream<Socket>>;

impl Connector {
    /// A connector for `database`.
    ///
    /// # Errors
    ///
    /// [`ConnectError::Tls`] if the TLS files cannot be used.
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

    /// Connects to the first host that accepts; with several hosts, to the first that accepts writes, which is the primary.
    /// `purpose` appears in `pg_stat_activity`.
    ///
    /// # Errors
    ///
    /// [`ConnectError::Refused`] with the answer of each host.
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
            // The library does not support `allow`. Like `prefer`, this encrypts if the server can.
            SslMode::Allow | SslMode::Prefer => WireSslMode::Prefer,
            SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => WireSslMode::Require,
        });
    match &host.endpoint {
        Endpoint::Name(name) => config.host(name),
        Endpoint::Address(address) => config.host(address.to_string()),
        // As in libpq: no TLS over a Unix socket, whatever the mode.
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

//! The PostgreSQL resource of `resources.ini`, completed by libpq's environment variables: everything needed to connect.
//!
//! `charset` is accepted without effect: the daemon always speaks UTF-8, and PostgreSQL converts.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::passfile::PasswordFile;
use super::setting::{Section, Setting, is_host_name, port};
use super::{Error, Secret, Tls};

/// The server's socket directory in the packages of Debian and the PostgreSQL project, and libpq's default there.
const DEFAULT_SOCKET_DIRECTORY: &str = "/var/run/postgresql";

/// PostgreSQL's port, registered with IANA.
const DEFAULT_PORT: u16 = 5432;

/// libpq waits forever, but a dead host must not keep the daemon from trying the next one. Long enough for a few lost packets
/// (TCP retransmits after 1, 3 and 7 s).
const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// One way to reach a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Endpoint {
    /// A host name.
    Name(String),
    /// An IP address.
    Address(IpAddr),
    /// The directory of a Unix socket.
    Socket(PathBuf),
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Address(address) => address.fmt(f),
            Self::Socket(directory) => directory.display().fmt(f),
        }
    }
}

/// A host to try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DatabaseHost {
    /// The host's name or address; the server's certificate must name it.
    pub(crate) endpoint: Endpoint,
    /// From `$PGHOSTADDR`: connect to this instead of resolving the name.
    pub(crate) hostaddr: Option<IpAddr>,
    /// The TCP port, or the number in the name of the socket.
    pub(crate) port: u16,
    /// Per host, as in a password file.
    pub(crate) password: Option<Secret>,
}

/// The settings of the database connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Database {
    /// The name of the resource.
    pub(crate) resource: String,
    /// In the order they are tried; at least one.
    pub(crate) hosts: Vec<DatabaseHost>,
    /// `None`: the same as the user.
    pub(crate) dbname: Option<String>,
    /// `None`: the operating-system user.
    pub(crate) user: Option<String>,
    /// Encryption and trust.
    pub(crate) tls: Tls,
    /// For each host. `$PGCONNECT_TIMEOUT` in seconds; 10 s if that is unset, zero or negative.
    pub(crate) connect_timeout: Duration,
    /// Command-line options for the server, from `$PGOPTIONS`.
    pub(crate) options: Option<String>,
}

impl Database {
    pub(super) fn read(section: &Section<'_>, warnings: &mut Vec<String>) -> Result<Self, Error> {
        if let Some(kind) = section.key("type").filter(|kind| kind.value != "db") {
            return Err(Error::NotADatabase(kind.place));
        }
        match section.key("db") {
            Some(system) if system.value == "pgsql" => {}
            Some(other) => return Err(Error::NotPostgres(other.place)),
            None => {
                return Err(Error::NoDatabaseSystem {
                    file: section.file.to_owned(),
                    section: section.name.to_owned(),
                });
            }
        }
        let user = section
            .key_or_variable("username", "PGUSER")
            .map(|user| user.value);
        let dbname = section
            .key_or_variable("dbname", "PGDATABASE")
            .map(|dbname| dbname.value)
            .or_else(|| user.clone());
        let mut hosts = hosts(section)?;
        match section.key_or_variable("password", "PGPASSWORD") {
            Some(password) => {
                let password = Secret::new(password.value);
                hosts
                    .iter_mut()
                    .for_each(|host| host.password = Some(password.clone()));
            }
            None => {
                let file = PasswordFile::read(section.env, warnings);
                // The operating system's user, which the connecting code sends by default.
                let system_user = section.variable("USER").map(|user| user.value);
                let user = user
                    .as_deref()
                    .or(system_user.as_deref())
                    .unwrap_or_default();
                let dbname = dbname.as_deref().unwrap_or(user);
                for host in &mut hosts {
                    let (name, port) = (password_file_name(&host.endpoint), host.port.to_string());
                    host.password = file.password([&name, &port, dbname, user]);
                }
            }
        }
        Ok(Self {
            resource: section.name.to_owned(),
            hosts,
            dbname,
            user,
            tls: Tls::read(section)?,
            connect_timeout: connect_timeout(section)?,
            options: section.variable("PGOPTIONS").map(|options| options.value),
        })
    }

    pub(super) fn settings(&self) -> Vec<(String, String)> {
        let list = |item: fn(&DatabaseHost) -> String| {
            let mut items: Vec<_> = self.hosts.iter().map(item).collect();
            // A value that all hosts share is one entry, as in libpq's lists.
            if items.iter().all(|item| *item == items[0]) {
                items.truncate(1);
            }
            items.join(",")
        };
        let names: Vec<_> = self
            .hosts
            .iter()
            .map(|host| host.endpoint.to_string())
            .collect();
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let path = |path: Option<&PathBuf>| path.map(|path| path.display().to_string());
        let hostaddr =
            |host: &DatabaseHost| host.hostaddr.map(|a| a.to_string()).unwrap_or_default();
        let password = if self.hosts.iter().any(|host| host.password.is_some()) {
            "***"
        } else {
            ""
        };
        let root_cert = match (&self.tls.root_cert, self.tls.mode) {
            (None, super::SslMode::VerifyFull) => Some("system".to_owned()),
            (root_cert, _) => path(root_cert.as_ref()),
        };
        let client = self.tls.client.as_ref();
        [
            ("resource", self.resource.clone()),
            ("host", names.join(",")),
            ("hostaddr", list(hostaddr)),
            ("port", list(|host| host.port.to_string())),
            ("dbname", text(&self.dbname)),
            ("username", text(&self.user)),
            ("password", password.to_owned()),
            ("sslmode", self.tls.mode.to_string()),
            ("sslrootcert", root_cert.unwrap_or_default()),
            (
                "sslcert",
                path(client.map(|client| &client.cert)).unwrap_or_default(),
            ),
            (
                "sslkey",
                path(client.map(|client| &client.key)).unwrap_or_default(),
            ),
            (
                "connect_timeout",
                self.connect_timeout.as_secs().to_string(),
            ),
            ("options", text(&self.options)),
        ]
        .map(|(key, value)| (format!("database.{key}"), value))
        .into()
    }
}

/// The hosts and their ports, without passwords.
fn hosts(section: &Section<'_>) -> Result<Vec<DatabaseHost>, Error> {
    let names = section.key_or_variable("host", "PGHOST");
    // A resource has no key for this; as in libpq, the variable applies to the named hosts.
    let addresses = section.variable("PGHOSTADDR");
    let ports = section.key_or_variable("port", "PGPORT");

    let hostaddrs = match &addresses {
        None => Vec::new(),
        Some(list) => parse_list(list, |item| item.parse::<IpAddr>().ok(), Error::HostAddress)?,
    };
    let endpoints = match &names {
        Some(list) => parse_list(list, parse_endpoint, Error::DatabaseHost)?,
        None if hostaddrs.is_empty() => vec![Endpoint::Socket(DEFAULT_SOCKET_DIRECTORY.into())],
        None => hostaddrs.iter().copied().map(Endpoint::Address).collect(),
    };
    let ports_found = match &ports {
        None => vec![DEFAULT_PORT],
        Some(list) => parse_list(list, parse_port, Error::DatabasePort)?,
    };
    if let Some(addresses) = addresses {
        same_length(addresses, hostaddrs.len(), endpoints.len())?;
    }
    if let Some(ports) = ports.filter(|_| ports_found.len() > 1) {
        same_length(ports, ports_found.len(), endpoints.len())?;
    }
    // A single port applies to all hosts.
    let ports = ports_found.iter().copied().cycle();
    let hostaddrs = hostaddrs
        .into_iter()
        .map(Some)
        .chain(std::iter::repeat(None));
    let hosts = endpoints.into_iter().zip(ports).zip(hostaddrs);
    Ok(hosts
        .map(|((endpoint, port), hostaddr)| DatabaseHost {
            endpoint,
            hostaddr,
            port,
            password: None,
        })
        .collect())
}

fn parse_list<T>(
    list: &Setting,
    parse: impl Fn(&str) -> Option<T>,
    error: impl FnOnce(super::Place) -> Error,
) -> Result<Vec<T>, Error> {
    list.value
        .split(',')
        .map(|item| parse(item.trim()))
        .collect::<Option<_>>()
        .ok_or_else(|| error(list.place.clone()))
}

fn same_length(list: Setting, found: usize, hosts: usize) -> Result<(), Error> {
    if found == hosts {
        return Ok(());
    }
    Err(Error::ListLength {
        place: list.place,
        found,
        hosts,
    })
}

/// An empty item means the default, as for libpq.
fn parse_endpoint(item: &str) -> Option<Endpoint> {
    if item.is_empty() {
        return Some(Endpoint::Socket(DEFAULT_SOCKET_DIRECTORY.into()));
    }
    if item.starts_with('/') {
        return Some(Endpoint::Socket(PathBuf::from(item)));
    }
    match item.parse() {
        Ok(address) => Some(Endpoint::Address(address)),
        Err(_) => is_host_name(item).then(|| Endpoint::Name(item.to_owned())),
    }
}

/// An empty item means the default, as for libpq.
fn parse_port(item: &str) -> Option<u16> {
    if item.is_empty() {
        return Some(DEFAULT_PORT);
    }
    port(item).filter(|port| *port != 0)
}

/// The host's name in a password file: `localhost` for the default socket.
fn password_file_name(endpoint: &Endpoint) -> String {
    match endpoint {
        Endpoint::Socket(path) if path.as_os_str() == DEFAULT_SOCKET_DIRECTORY => {
            "localhost".to_owned()
        }
        other => other.to_string(),
    }
}

fn connect_timeout(section: &Section<'_>) -> Result<Duration, Error> {
    let Some(timeout) = section.variable("PGCONNECT_TIMEOUT") else {
        return Ok(DEFAULT_CONNECT_TIMEOUT);
    };
    let seconds: i32 = timeout
        .value
        .trim()
        .parse()
        .map_err(|_| Error::ConnectTimeout(timeout.place))?;
    match u64::try_from(seconds) {
        Ok(seconds) if seconds > 0 => Ok(Duration::from_secs(seconds)),
        _ => Ok(DEFAULT_CONNECT_TIMEOUT),
    }
}

//! `[daemon]` of `config.ini`: where the daemon listens.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use super::Error;
use super::setting::{Section, is_host_name, port};

/// The port the web module's documentation and proxy examples use.
const DEFAULT_PORT: u16 = 9001;

/// How far back a browser that comes back is told what it missed, in minutes: who was away for longer
/// looks at Icinga Web anyway.
const DEFAULT_REPLAY_MINUTES: u32 = 60;

/// How many incidents it is told at most: more popups than these hide each other.
const DEFAULT_REPLAY_INCIDENTS: u32 = 20;

/// Silence after which a comment is written, in seconds: half of what Apache's `timeout=30` allows, the shortest of
/// the proxies' limits.
const DEFAULT_KEEP_ALIVE_SECONDS: u32 = 15;

/// No proxy's limit is known to be longer than this; and 0 would be one comment after the other.
const KEEP_ALIVE_SECONDS: RangeInclusive<u32> = 1..=3600;

/// The keys of this section that mean something.
const KEYS: [&str; 6] = [
    "host",
    "port",
    "keep_alive_seconds",
    "replay_minutes",
    "replay_incidents",
    "admin",
];

/// What to listen on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Host {
    /// Every address of the machine, IPv6 and IPv4; written `[::]`, and the default.
    Any,
    /// One address; `0.0.0.0` is every IPv4 address.
    Address(IpAddr),
    /// The addresses of a host name.
    Name(String),
    /// A Unix socket; the port means nothing then.
    Socket(PathBuf),
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("[::]"),
            Self::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
            Self::Address(IpAddr::V4(address)) => address.fmt(f),
            Self::Name(name) => f.write_str(name),
            Self::Socket(path) => path.display().fmt(f),
        }
    }
}

/// `[daemon]`. An absent section or key, or an empty value, means the default.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Daemon {
    /// Default: [`Host::Any`].
    pub(crate) host: Host,
    /// Default: 9001. With 0 the operating system picks one.
    pub(crate) port: u16,
    /// What a running daemon can be given anew.
    pub(crate) tuning: Tuning,
    /// Where monitoring asks: health and metrics, which nobody has to sign in for. Default: nowhere.
    pub(crate) admin: Option<SocketAddr>,
}

/// The settings of `[daemon]` that a reload applies to open streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tuning {
    /// Silence after which a stream is written a comment; `keep_alive_seconds`, 1 to 3600, default 15.
    pub(crate) keep_alive: Duration,
    /// What a browser that comes back is told; `replay_minutes` (default 60) and `replay_incidents`
    /// (default 20). With 0 of either, only a summary.
    pub(crate) replay: Limits,
}

/// Bounds for a browser that comes back; one that never left is told everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    /// How far back.
    pub(crate) age: Duration,
    /// How many incidents.
    pub(crate) incidents: u32,
}

impl Daemon {
    pub(super) fn read(section: &Section<'_>, warnings: &mut Vec<String>) -> Result<Self, Error> {
        for entry in section.ini.entries(section.name) {
            if !KEYS.contains(&entry.key()) {
                let (file, line, key) = (
                    section.file.display(),
                    entry.line(),
                    entry.key().escape_debug(),
                );
                warnings.push(format!(
                    "{file}, line {line}: unknown key {key} in [{}] is ignored",
                    section.name
                ));
            }
        }
        let host = match section.key("host") {
            None => Host::Any,
            Some(host) => parse_host(&host.value).ok_or(Error::ListenHost(host.place))?,
        };
        let port = match section.key("port") {
            None => DEFAULT_PORT,
            Some(text) => port(&text.value).ok_or(Error::ListenPort(text.place))?,
        };
        let replay = Limits {
            age: Duration::from_secs(
                60 * u64::from(number(section, "replay_minutes", DEFAULT_REPLAY_MINUTES)?),
            ),
            incidents: number(section, "replay_incidents", DEFAULT_REPLAY_INCIDENTS)?,
        };
        let keep_alive = match section.key("keep_alive_seconds") {
            None => DEFAULT_KEEP_ALIVE_SECONDS,
            Some(text) => (text.value.parse().ok())
                .filter(|seconds| KEEP_ALIVE_SECONDS.contains(seconds))
                .ok_or(Error::KeepAlive(text.place))?,
        };
        let admin = match section.key("admin") {
            None => None,
            Some(text) => {
                let address: SocketAddr = text
                    .value
                    .parse()
                    .map_err(|_| Error::AdminAddress(text.place.clone()))?;
                if !address.ip().to_canonical().is_loopback() {
                    warnings.push(format!(
                        "{}: {address} can be reached from other machines, and whoever reaches it reads health and \
                         metrics: give an address of this machine alone, e.g. 127.0.0.1:{}, or let a firewall decide",
                        text.place,
                        address.port()
                    ));
                }
                Some(address)
            }
        };
        Ok(Self {
            host,
            port,
            tuning: Tuning {
                keep_alive: Duration::from_secs(keep_alive.into()),
                replay,
            },
            admin,
        })
    }

    /// What `host` and `port` name together, for messages.
    pub(crate) fn address(&self) -> String {
        match &self.host {
            Host::Socket(path) => path.display().to_string(),
            host => format!("{host}:{}", self.port),
        }
    }

    pub(super) fn settings(&self) -> Vec<(String, String)> {
        vec![
            ("daemon.host".to_owned(), self.host.to_string()),
            ("daemon.port".to_owned(), self.port.to_string()),
            (
                "daemon.keep_alive_seconds".to_owned(),
                self.tuning.keep_alive.as_secs().to_string(),
            ),
            (
                "daemon.replay_minutes".to_owned(),
                (self.tuning.replay.age.as_secs() / 60).to_string(),
            ),
            (
                "daemon.replay_incidents".to_owned(),
                self.tuning.replay.incidents.to_string(),
            ),
            (
                "daemon.admin".to_owned(),
                self.admin
                    .map_or(String::new(), |address| address.to_string()),
            ),
        ]
    }
}

fn number(section: &Section<'_>, key: &'static str, default: u32) -> Result<u32, Error> {
    match section.key(key) {
        None => Ok(default),
        Some(text) => text.value.parse().map_err(|_| Error::Number(text.place)),
    }
}

fn parse_host(text: &str) -> Option<Host> {
    if text.starts_with('/') {
        return Some(Host::Socket(PathBuf::from(text)));
    }
    let bracketed = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    let address = match bracketed {
        Some(inside) => Some(IpAddr::V6(inside.parse().ok()?)),
        None => text.parse().ok(),
    };
    match address {
        Some(IpAddr::V6(Ipv6Addr::UNSPECIFIED)) => Some(Host::Any),
        Some(address) => Some(Host::Address(address)),
        None => is_host_name(text).then(|| Host::Name(text.to_owned())),
    }
}

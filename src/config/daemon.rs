//! `[daemon]` of `config.ini`: where the daemon listens and what its streams carry.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use super::setting::{Place, Section, is_host_name, port};
use super::{AdminAddress, Error};

/// The port that the web module's manual and its proxy examples use.
const DEFAULT_PORT: u16 = 9001;

/// The port in releases 0.1 to 0.3 of the web module, at 127.0.0.1.
const RELEASED_PORT: u16 = 5664;

/// How far back a replay goes, in minutes. Users who were disconnected for longer look at Icinga Web anyway.
const DEFAULT_REPLAY_MINUTES: u32 = 60;

/// How many incidents a replay shows one by one at most: more popups at once hide each other.
const DEFAULT_REPLAY_INCIDENTS: u32 = 5;

/// Time without data after which a stream gets a comment, in seconds: half of Apache's `timeout=30`, the shortest limit of the
/// proxies.
const DEFAULT_KEEP_ALIVE_SECONDS: u32 = 15;

/// No known proxy waits longer than the maximum; with 0, comments would be written in a loop.
const KEEP_ALIVE_SECONDS: RangeInclusive<u32> = 1..=3600;

/// Days a session is kept without a new sign-in: a working week and a weekend, for a screen that stays on.
const DEFAULT_SESSION_DAYS: u32 = 7;

/// With 0 no session would be kept at all; more than a year is practically forever.
const SESSION_DAYS: RangeInclusive<u32> = 1..=365;

/// The keys known in this section.
const KEYS: [&str; 8] = [
    "host",
    "port",
    "keep_alive_seconds",
    "replay_minutes",
    "replay_incidents",
    "notify",
    "session_days",
    "admin",
];

/// An address to listen on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Listen {
    pub(crate) host: Host,
    /// 0 lets the operating system pick one. Without meaning for a Unix socket.
    pub(crate) port: u16,
}

impl Listen {
    /// If only one of `host` and `port` is set, the other one has its default.
    fn read(section: &Section<'_>) -> Result<Vec<Self>, Error> {
        let host = match section.key("host") {
            None => None,
            Some(host) => Some(parse_host(&host.value).ok_or(Error::ListenHost(host.place))?),
        };
        let port = match section.key("port") {
            None => None,
            Some(text) => Some(port(&text.value).ok_or(Error::ListenPort(text.place))?),
        };
        let manual = Self {
            host: Host::Any,
            port: DEFAULT_PORT,
        };
        let released = Self {
            host: Host::Address(Ipv4Addr::LOCALHOST.into()),
            port: RELEASED_PORT,
        };
        Ok(match (host, port) {
            (None, None) => vec![manual, released],
            (host, port) => vec![Self {
                host: host.unwrap_or(manual.host),
                port: port.unwrap_or(manual.port),
            }],
        })
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Socket(path) => path.display().fmt(f),
            host => write!(f, "{host}:{}", self.port),
        }
    }
}

/// The host part of an address to listen on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Host {
    /// Every address of the machine, IPv6 and IPv4; written `[::]`.
    Any,
    /// One address; `0.0.0.0` is every IPv4 address.
    Address(IpAddr),
    /// The addresses of a host name.
    Name(String),
    /// A Unix socket; the port has no meaning then.
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

/// The settings of `[daemon]`. An absent section or key, or an empty value, means the default.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Daemon {
    /// From `host` and `port`. Default: `[::]:9001`, which proxies set up by the web module's manual use, and `127.0.0.1:5664`,
    /// which those of its releases 0.1 to 0.3 use.
    pub(crate) listen: Vec<Listen>,
    /// The settings that a reload can change.
    pub(crate) tuning: Tuning,
    /// The address of the admin listener, which serves health and metrics without a sign-in. Default: none.
    pub(crate) admin: Option<AdminAddress>,
}

/// The settings of `[daemon]` that a reload applies to open streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tuning {
    /// Time without data after which a comment is written to a stream; `keep_alive_seconds`, 1 to 3600, default 15.
    pub(crate) keep_alive: Duration,
    /// The limits of a replay; `replay_minutes` (default 60) and `replay_incidents` (default 5). If either is 0, only a summary
    /// is sent.
    pub(crate) replay: Limits,
    /// Which notifications become events; `notify`, default [`Kinds::All`].
    pub(crate) notify: Kinds,
    /// For how many days after its sign-in the session of a connected browser is kept from housekeeping; `session_days`, 1 to
    /// 365, default 7.
    pub(crate) session_days: u32,
}

/// Which notifications of Icinga Notifications become events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kinds {
    /// Every notification that Icinga Notifications sends, as with the PHP daemon; written `all`.
    All,
    /// Those of a transaction that opened the incident or changed its severity, and each contact's first notification of an
    /// incident; written `severity`.
    Severity,
}

impl Kinds {
    fn parse(text: &str) -> Option<Self> {
        [Self::All, Self::Severity]
            .into_iter()
            .find(|kinds| kinds.as_str() == text)
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Severity => "severity",
        }
    }
}

/// The limits of a replay to a browser that was disconnected. A browser that stayed connected is sent everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    /// The age of rows.
    pub(crate) age: Duration,
    /// The number of incidents.
    pub(crate) incidents: u32,
}

impl Tuning {
    fn read(section: &Section<'_>) -> Result<Self, Error> {
        let keep_alive = within(
            section,
            "keep_alive_seconds",
            &KEEP_ALIVE_SECONDS,
            DEFAULT_KEEP_ALIVE_SECONDS,
            Error::KeepAlive,
        )?;
        let replay = Limits {
            age: Duration::from_secs(
                60 * u64::from(number(section, "replay_minutes", DEFAULT_REPLAY_MINUTES)?),
            ),
            incidents: number(section, "replay_incidents", DEFAULT_REPLAY_INCIDENTS)?,
        };
        let notify = match section.key("notify") {
            None => Kinds::All,
            Some(text) => Kinds::parse(&text.value).ok_or(Error::Kinds(text.place))?,
        };
        let session_days = within(
            section,
            "session_days",
            &SESSION_DAYS,
            DEFAULT_SESSION_DAYS,
            Error::SessionDays,
        )?;
        Ok(Self {
            keep_alive: Duration::from_secs(keep_alive.into()),
            replay,
            notify,
            session_days,
        })
    }
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
        let admin = match section.key("admin") {
            None => None,
            Some(text) => {
                let admin =
                    (text.value.parse()).map_err(|_| Error::AdminAddress(text.place.clone()))?;
                if let AdminAddress::Tcp(address) = &admin
                    && !address.ip().to_canonical().is_loopback()
                {
                    warnings.push(format!(
                        "{}: {address} can be reached from other machines, and everyone who reaches it can read health and \
                         metrics: give a local address, e.g. 127.0.0.1:{}, or protect it by a firewall",
                        text.place,
                        address.port()
                    ));
                }
                Some(admin)
            }
        };
        Ok(Self {
            listen: Listen::read(section)?,
            tuning: Tuning::read(section)?,
            admin,
        })
    }

    /// The addresses to listen on, for messages.
    pub(crate) fn addresses(&self) -> String {
        list(&self.listen, " and ", Listen::to_string)
    }

    /// The address of the admin listener; `None` if there is none.
    pub fn admin(&self) -> Option<&AdminAddress> {
        self.admin.as_ref()
    }

    pub(super) fn settings(&self) -> Vec<(String, String)> {
        vec![
            (
                "daemon.host".to_owned(),
                list(&self.listen, ",", |listen| listen.host.to_string()),
            ),
            (
                "daemon.port".to_owned(),
                list(&self.listen, ",", |listen| listen.port.to_string()),
            ),
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
                "daemon.notify".to_owned(),
                self.tuning.notify.as_str().to_owned(),
            ),
            (
                "daemon.session_days".to_owned(),
                self.tuning.session_days.to_string(),
            ),
            (
                "daemon.admin".to_owned(),
                (self.admin.as_ref()).map_or(String::new(), ToString::to_string),
            ),
        ]
    }
}

fn list(listen: &[Listen], separator: &str, text: impl Fn(&Listen) -> String) -> String {
    let texts: Vec<_> = listen.iter().map(text).collect();
    texts.join(separator)
}

fn number(section: &Section<'_>, key: &'static str, default: u32) -> Result<u32, Error> {
    match section.key(key) {
        None => Ok(default),
        Some(text) => text.value.parse().map_err(|_| Error::Number(text.place)),
    }
}

/// Reads a number within bounds; `error` names the bounds.
fn within(
    section: &Section<'_>,
    key: &'static str,
    bounds: &RangeInclusive<u32>,
    default: u32,
    error: fn(Place) -> Error,
) -> Result<u32, Error> {
    match section.key(key) {
        None => Ok(default),
        Some(text) => (text.value.parse().ok())
            .filter(|number| bounds.contains(number))
            .ok_or_else(|| error(text.place)),
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

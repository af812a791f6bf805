//! What can be wrong with the settings: one line each, for an administrator who then knows what to change.
//!
//! Values are left out, because a password or a URL holding one may stand where it does not belong; the place is named
//! instead. All of these end the daemon with exit code 78.

use std::io;
use std::path::PathBuf;

use super::NoAdminAddress;
use super::ini;
use super::setting::Place;

/// Why the settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file is not there.
    #[error(
        "{} does not exist: configure Icinga Web and its module Icinga Notifications first, or name its configuration directory with --config-dir or ICINGAWEB_CONFIGDIR",
        file.display()
    )]
    Missing {
        /// The file.
        file: PathBuf,
    },
    /// A file, or a directory on the way to it, is closed to the daemon's user.
    #[error(
        "{}: permission denied: let the daemon's user read it, e.g. add it to the group icingaweb2",
        file.display()
    )]
    PermissionDenied {
        /// The file.
        file: PathBuf,
    },
    /// A directory has the file's name.
    #[error("{} is a directory: replace it by Icinga Web's configuration file", file.display())]
    Directory {
        /// The path.
        file: PathBuf,
    },
    /// Reading failed in another way.
    #[error("{} cannot be read: {reason}", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// What the operating system says.
        reason: io::Error,
    },
    /// Bytes that are not UTF-8.
    #[error("{}, line {line}: not UTF-8: convert the file, e.g. with iconv", file.display())]
    NotUtf8 {
        /// The file.
        file: PathBuf,
        /// The line of the first such byte, counted from 1.
        line: usize,
    },
    /// The file is not INI as Icinga Web understands it.
    #[error("{}, {reason}", file.display())]
    Syntax {
        /// The file.
        file: PathBuf,
        /// The line, and what is wrong there.
        reason: ini::Error,
    },
    /// `[daemon] host` cannot be listened on.
    #[error("{0}: give an IP address, a host name, or the absolute path of a Unix socket")]
    ListenHost(Place),
    /// `[daemon] port` is no port.
    #[error("{0}: give a port number from 0 (any free port) to 65535")]
    ListenPort(Place),
    /// `[daemon] keep_alive_seconds` is no time between two comments.
    #[error(
        "{0}: give a whole number of seconds from 1 to 3600, less than the proxy's limit on silence"
    )]
    KeepAlive(Place),
    /// `[daemon] notify` is no choice of notifications.
    #[error(
        "{0}: give all (every notification) or severity (new incidents, changed severities, and each contact's first notification of an incident)"
    )]
    Kinds(Place),
    /// `[daemon] session_days` is no number of days.
    #[error("{0}: give a whole number of days from 1 to 365")]
    SessionDays(Place),
    /// `[daemon] admin` is no address of a listener.
    #[error("{0}: {NoAdminAddress}; remove the key if nobody asks there")]
    AdminAddress(Place),
    /// Not a number where one is required.
    #[error("{0}: give a whole number, 0 or more")]
    Number(Place),
    /// The module is not told its database.
    #[error(
        "{}: no resource in [database]: set resource = \"<name>\" to the section of resources.ini with the Icinga Notifications database",
        file.display()
    )]
    NoResource {
        /// `config.ini`.
        file: PathBuf,
    },
    /// The named resource does not exist.
    #[error(
        "{}: no section [{}], which resource in [database] of config.ini names: {}",
        file.display(), resource.escape_debug(), present(sections)
    )]
    UnknownResource {
        /// `resources.ini`.
        file: PathBuf,
        /// The name.
        resource: String,
        /// The sections there are.
        sections: Vec<String>,
    },
    /// The resource is something else than a database.
    #[error("{0}: this resource is not a database: name one with type = \"db\"")]
    NotADatabase(Place),
    /// The resource does not say which database system it is.
    #[error(
        "{}, [{}]: no key db: set db = \"pgsql\"; the Icinga Notifications database must be PostgreSQL for this daemon",
        file.display(), section.escape_debug()
    )]
    NoDatabaseSystem {
        /// `resources.ini`.
        file: PathBuf,
        /// The resource.
        section: String,
    },
    /// The resource is MySQL, or yet another database system.
    #[error(
        "{0}: the Icinga Notifications database must be PostgreSQL (db = \"pgsql\") for this daemon; others cannot be served"
    )]
    NotPostgres(Place),
    /// Not a host to connect to.
    #[error(
        "{0}: give a host name, an IP address, a socket directory starting with /, or a comma-separated list of these; a port belongs into the key port"
    )]
    DatabaseHost(Place),
    /// Not an IP address where one is required.
    #[error("{0}: give an IP address, or a comma-separated list with one for each host")]
    HostAddress(Place),
    /// Not a port to connect to.
    #[error("{0}: give a port number from 1 to 65535, or a comma-separated list of these")]
    DatabasePort(Place),
    /// Lists of different length.
    #[error("{place}: {found} entries for {hosts} hosts: give one for each host")]
    ListLength {
        /// The list.
        place: Place,
        /// Its length.
        found: usize,
        /// The number of hosts.
        hosts: usize,
    },
    /// Neither on nor off.
    #[error("{0}: give 1 or 0")]
    Flag(Place),
    /// Not one of libpq's words.
    #[error("{0}: give disable, allow, prefer, require, verify-ca or verify-full")]
    SslMode(Place),
    /// The system's certificate authorities vouch for anybody's name, so the name must be checked.
    #[error("{0}: the system's certificate store needs PGSSLMODE=verify-full")]
    WeakSystemStore(Place),
    /// The server is to be verified against nothing.
    #[error(
        "{0}: no root certificate to verify the server with: set PGSSLROOTCERT, or ssl_ca in the resource"
    )]
    NoRootCertificate(Place),
    /// A certificate or key cannot be read.
    #[error("{place}: {}: {reason}: let the daemon's user read the file, or correct the path", file.display())]
    CertificateFile {
        /// What names the file.
        place: Place,
        /// The file.
        file: PathBuf,
        /// What the operating system says.
        reason: io::Error,
    },
    /// A client certificate without its key, or the reverse.
    #[error("{place}: needs {missing} beside it: a client certificate and its key go together")]
    HalfCertificate {
        /// The half that is there.
        place: Place,
        /// The half that is not.
        missing: &'static str,
    },
    /// Not a number of seconds.
    #[error("{0}: give a whole number of seconds")]
    ConnectTimeout(Place),
}

fn present(sections: &[String]) -> String {
    if sections.is_empty() {
        return "the file has no sections; create the resource in Icinga Web".to_owned();
    }
    let names: Vec<String> = sections
        .iter()
        .map(|name| format!("[{}]", name.escape_debug()))
        .collect();
    format!("name one of those there are: {}", names.join(", "))
}

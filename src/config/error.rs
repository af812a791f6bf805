//! Configuration errors: one line each, saying what an administrator has to change.
//!
//! Values are omitted, because a password or a URL with one may be in the wrong place; the error names the place instead. All of
//! these errors end the daemon with exit code 78.

use std::io;
use std::path::PathBuf;

use super::NoAdminAddress;
use super::ini;
use super::setting::Place;

/// Why the settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file does not exist.
    #[error(
        "{} does not exist: configure Icinga Web and its module Icinga Notifications first, or name its configuration directory with --config-dir or ICINGAWEB_CONFIGDIR",
        file.display()
    )]
    Missing {
        /// The file.
        file: PathBuf,
    },
    /// The daemon's user has no access to a file or to a directory above it.
    #[error(
        "{}: permission denied: let the daemon's user read it, e.g. add it to the group icingaweb2",
        file.display()
    )]
    PermissionDenied {
        /// The file.
        file: PathBuf,
    },
    /// The path of a file is a directory.
    #[error("{} is a directory: replace it by Icinga Web's configuration file", file.display())]
    Directory {
        /// The path.
        file: PathBuf,
    },
    /// Reading failed for another reason.
    #[error("{} cannot be read: {reason}", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// The operating system's error.
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
        /// The line and the problem.
        reason: ini::Error,
    },
    /// `[daemon] host` cannot be listened on.
    #[error("{0}: give an IP address, a host name, or the absolute path of a Unix socket")]
    ListenHost(Place),
    /// `[daemon] port` is not a port.
    #[error("{0}: give a port number from 0 (any free port) to 65535")]
    ListenPort(Place),
    /// `[daemon] keep_alive_seconds` is not a valid time.
    #[error(
        "{0}: give a whole number of seconds from 1 to 3600, less than the proxy's limit on silence"
    )]
    KeepAlive(Place),
    /// `[daemon] notify` is not a valid choice.
    #[error(
        "{0}: give all (every notification) or severity (new incidents, changed severities, and each contact's first notification of an incident)"
    )]
    Kinds(Place),
    /// `[daemon] session_days` is not a valid number of days.
    #[error("{0}: give a whole number of days from 1 to 365")]
    SessionDays(Place),
    /// `[daemon] admin` is not a valid address.
    #[error("{0}: {NoAdminAddress}; remove the key if it is not needed")]
    AdminAddress(Place),
    /// A setting is not a number.
    #[error("{0}: give a whole number, 0 or more")]
    Number(Place),
    /// `[database]` names no resource.
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
        /// The sections that exist.
        sections: Vec<String>,
    },
    /// The resource is not a database.
    #[error("{0}: this resource is not a database: name one with type = \"db\"")]
    NotADatabase(Place),
    /// The resource does not name a database system.
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
    /// The resource is MySQL or another database system.
    #[error(
        "{0}: the Icinga Notifications database must be PostgreSQL (db = \"pgsql\") for this daemon; others cannot be served"
    )]
    NotPostgres(Place),
    /// Not a host to connect to.
    #[error(
        "{0}: give a host name, an IP address, a socket directory starting with /, or a comma-separated list of these; a port belongs in the key port"
    )]
    DatabaseHost(Place),
    /// A setting is not an IP address.
    #[error("{0}: give an IP address, or a comma-separated list with one for each host")]
    HostAddress(Place),
    /// A setting is not a valid port.
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
    /// A setting is neither on nor off.
    #[error("{0}: give 1 or 0")]
    Flag(Place),
    /// A setting is not one of libpq's modes.
    #[error("{0}: give disable, allow, prefer, require, verify-ca or verify-full")]
    SslMode(Place),
    /// The system's certificate authorities sign certificates for any name, so the name must be checked.
    #[error("{0}: the system's certificate store needs PGSSLMODE=verify-full")]
    WeakSystemStore(Place),
    /// No root certificate is configured to verify the server with.
    #[error(
        "{0}: no root certificate to verify the server with: set PGSSLROOTCERT, or ssl_ca in the resource"
    )]
    NoRootCertificate(Place),
    /// A certificate or key cannot be read.
    #[error("{place}: {}: {reason}: let the daemon's user read the file, or correct the path", file.display())]
    CertificateFile {
        /// The setting that names the file.
        place: Place,
        /// The file.
        file: PathBuf,
        /// The operating system's error.
        reason: io::Error,
    },
    /// A client certificate without its key, or the reverse.
    #[error("{place}: needs {missing} beside it: a client certificate and its key go together")]
    HalfCertificate {
        /// The setting that exists.
        place: Place,
        /// The setting that is missing.
        missing: &'static str,
    },
    /// A setting is not a number of seconds.
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

//! Settings: Icinga Web's files, libpq's environment variables, and the defaults.
//!
//! `config.ini` names the address to listen on and a resource; `resources.ini` says how to reach that database. Both belong to
//! Icinga Web and are only read. [`Config::load`] checks everything that can be checked without connecting, so that the rest of
//! the daemon can rely on it.

mod admin;
mod daemon;
mod database;
mod error;
pub mod ini;
mod passfile;
mod secret;
mod setting;
#[cfg(test)]
mod tests;
mod tls;

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

pub use admin::AdminAddress;
pub(crate) use admin::NoAdminAddress;
pub use daemon::Daemon;
pub(crate) use daemon::{Host, Kinds, Limits, Listen, Tuning};
pub use database::Database;
pub(crate) use database::{DatabaseHost, Endpoint};
pub use error::Error;
pub use secret::Secret;
pub use setting::{Env, Place};
pub(crate) use tls::{SslMode, Tls};

use ini::IniFile;
use setting::{Section, variable};

/// Icinga Web's default configuration directory.
const DEFAULT_DIRECTORY: &str = "/etc/icingaweb2";

/// All settings, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// `[daemon]` of `config.ini`.
    pub daemon: Daemon,
    /// The resource that `[database]` of `config.ini` names.
    pub database: Database,
}

/// The result of [`Config::load`].
#[derive(Debug)]
pub struct Loaded {
    /// The settings.
    pub config: Config,
    /// Warnings for the log, one line each: settings without effect, and an admin address that other machines reach.
    pub warnings: Vec<String>,
}

/// Icinga Web's configuration directory: `flag`, else `$ICINGAWEB_CONFIGDIR`, else `/etc/icingaweb2`.
pub fn directory(flag: Option<PathBuf>, env: Env<'_>) -> PathBuf {
    flag.or_else(|| variable(env, "ICINGAWEB_CONFIGDIR").map(|dir| dir.value.into()))
        .unwrap_or_else(|| DEFAULT_DIRECTORY.into())
}

impl Config {
    /// Reads `modules/notifications/config.ini` and `resources.ini` below `dir`. `env` returns libpq's variables (`PG…`), `HOME`
    /// and `USER`.
    ///
    /// # Errors
    ///
    /// Every error has to be corrected by an administrator; none is worth a retry.
    pub fn load(dir: &Path, env: Env<'_>) -> Result<Loaded, Error> {
        let mut warnings = Vec::new();

        let file = dir.join("modules/notifications/config.ini");
        let ini = read(&file)?;
        let section = |name| Section {
            file: &file,
            ini: &ini,
            name,
            env,
        };
        let daemon = Daemon::read(&section("daemon"), &mut warnings)?;
        let Some(resource) = section("database").key("resource") else {
            return Err(Error::NoResource { file });
        };

        let file = dir.join("resources.ini");
        let ini = read(&file)?;
        if !ini.has_section(&resource.value) {
            let sections = ini.sections().map(str::to_owned).collect();
            let resource = resource.value;
            return Err(Error::UnknownResource {
                file,
                resource,
                sections,
            });
        }
        let section = Section {
            file: &file,
            ini: &ini,
            name: &resource.value,
            env,
        };
        let database = Database::read(&section, &mut warnings)?;

        Ok(Loaded {
            config: Self { daemon, database },
            warnings,
        })
    }

    /// The effective settings as (`section.key`, value), always the same keys in the same order. A password is shown as `***`, an
    /// absent setting as an empty value.
    pub fn settings(&self) -> Vec<(String, String)> {
        let mut settings = self.daemon.settings();
        settings.extend(self.database.settings());
        settings
    }
}

fn read(path: &Path) -> Result<IniFile, Error> {
    let file = path.to_owned();
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(reason) => {
            return Err(match reason.kind() {
                ErrorKind::NotFound => Error::Missing { file },
                ErrorKind::PermissionDenied => Error::PermissionDenied { file },
                ErrorKind::IsADirectory => Error::Directory { file },
                _ => Error::Unreadable { file, reason },
            });
        }
    };
    match str::from_utf8(&bytes) {
        Ok(text) => ini::parse(text).map_err(|reason| Error::Syntax { file, reason }),
        Err(error) => {
            let valid = &bytes[..error.valid_up_to()];
            let line = 1 + valid.iter().filter(|byte| **byte == b'\n').count();
            Err(Error::NotUtf8 { file, line })
        }
    }
}

//! Reads the settings from real files in temporary directories; the environment is a list.

mod daemon;
mod directory;
mod files;
mod password_file;
mod resource;
mod settings;
mod tls;

use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;

use super::*;
use crate::config::Limits;
use crate::config::daemon::Kinds;

const RESOURCE: &str = "[database]\nresource = \"notifications\"\n";

/// Icinga Web's configuration directory, and an environment.
struct Setup {
    dir: TempDir,
    env: Vec<(String, String)>,
}

impl Setup {
    /// `config` and `resources` are the contents of the two files.
    fn new(config: &str, resources: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("modules/notifications")).unwrap();
        fs::write(dir.path().join("modules/notifications/config.ini"), config).unwrap();
        fs::write(dir.path().join("resources.ini"), resources).unwrap();
        Self {
            dir,
            env: Vec::new(),
        }
    }

    /// `keys` are those of `[daemon]`, with a complete database.
    fn daemon(keys: &str) -> Self {
        let config = format!("[daemon]\n{keys}\n{RESOURCE}");
        Self::new(&config, "[notifications]\ndb = \"pgsql\"\n")
    }

    /// `keys` are those of the PostgreSQL resource, after its first two lines.
    fn resource(keys: &str) -> Self {
        Self::new(RESOURCE, &format!("[notifications]\ndb = pgsql\n{keys}\n"))
    }

    fn env(mut self, name: &str, value: impl Into<String>) -> Self {
        self.env.push((name.to_owned(), value.into()));
        self
    }

    /// Another file in the directory, with its path.
    fn file(&self, name: &str, content: &[u8], mode: u32) -> PathBuf {
        let path = self.dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    /// Adds keys to the resource that name files of this setup as `DIR/…`.
    fn with_keys(self, keys: &str) -> Self {
        let path = self.dir.path().join("resources.ini");
        let keys = keys.replace("DIR", self.dir.path().to_str().unwrap());
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text + &keys + "\n").unwrap();
        self
    }

    /// Makes this setup's directory the home directory.
    fn at_home(self) -> Self {
        let home = self.dir.path().to_str().unwrap().to_owned();
        self.env("HOME", home)
    }

    fn load(&self) -> Result<Loaded, Error> {
        let variable = |name: &str| {
            let found = self.env.iter().rev().find(|(key, _)| key == name);
            found.map(|(_, value)| value.clone())
        };
        Config::load(self.dir.path(), &variable)
    }

    fn config(&self) -> Config {
        let loaded = self.load().unwrap();
        assert_eq!(loaded.warnings, [""; 0]);
        loaded.config
    }

    fn database(&self) -> Database {
        self.config().database
    }

    /// The error's one line, with the directory shown as `DIR`.
    fn error(&self) -> String {
        let error = self.load().unwrap_err();
        let text = error.to_string();
        assert!(!text.contains('\n'), "more than one line: {text}");
        text.replace(self.dir.path().to_str().unwrap(), "DIR")
    }
}

fn endpoints(database: &Database) -> Vec<(String, u16)> {
    let pair = |host: &DatabaseHost| (host.endpoint.to_string(), host.port);
    database.hosts.iter().map(pair).collect()
}

fn passwords(database: &Database) -> Vec<Option<&str>> {
    let hosts = database.hosts.iter();
    hosts
        .map(|host| host.password.as_ref().map(Secret::expose))
        .collect()
}

//! The source of a setting: a key of a section or an environment variable.
//!
//! All lookups use this module, so that an empty value means absent everywhere, and every error can name the place.

use std::fmt;
use std::path::{Path, PathBuf};

use super::ini::IniFile;

/// The environment as a function, so that tests do not change the process's own.
pub type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The place where an administrator changes a setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A key of a configuration file.
    Key {
        /// The file.
        file: PathBuf,
        /// Counted from 1.
        line: usize,
        /// The section's name.
        section: String,
        /// The key's name.
        key: &'static str,
    },
    /// An environment variable.
    Variable(&'static str),
    /// A file that libpq uses by default.
    File(PathBuf),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key {
                file,
                line,
                section,
                key,
            } => {
                let (file, section) = (file.display(), section.escape_debug());
                write!(f, "{file}, line {line}, [{section}] {key}")
            }
            Self::Variable(name) => write!(f, "environment variable {name}"),
            Self::File(path) => write!(f, "{}", path.display()),
        }
    }
}

/// A value that is not empty, with its place.
// No Debug: the value may be a password.
pub(super) struct Setting {
    pub(super) value: String,
    pub(super) place: Place,
}

/// An environment variable. As in libpq, an empty one counts as unset.
pub(super) fn variable(env: Env<'_>, name: &'static str) -> Option<Setting> {
    let value = env(name).filter(|value| !value.is_empty())?;
    Some(Setting {
        value,
        place: Place::Variable(name),
    })
}

/// A section of a file, and the environment as its fallback.
pub(super) struct Section<'a> {
    pub(super) file: &'a Path,
    pub(super) ini: &'a IniFile,
    pub(super) name: &'a str,
    pub(super) env: Env<'a>,
}

impl Section<'_> {
    pub(super) fn key(&self, key: &'static str) -> Option<Setting> {
        let entry = self.ini.entry(self.name, key)?;
        let value = entry.value().filter(|value| !value.is_empty())?.to_owned();
        let place = Place::Key {
            file: self.file.to_owned(),
            line: entry.line(),
            section: self.name.to_owned(),
            key,
        };
        Some(Setting { value, place })
    }

    pub(super) fn variable(&self, name: &'static str) -> Option<Setting> {
        variable(self.env, name)
    }

    pub(super) fn key_or_variable(&self, key: &'static str, name: &'static str) -> Option<Setting> {
        self.key(key).or_else(|| self.variable(name))
    }
}

/// Whether `text` can be a host name in DNS or `/etc/hosts` (RFC 1123, section 2.1, and underscores, which container networks
/// use). A name with a numeric last label is a mistyped address.
pub(super) fn is_host_name(text: &str) -> bool {
    let name = text.strip_suffix('.').unwrap_or(text);
    let label_is_valid = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    let last = name.rsplit('.').next().unwrap_or_default();
    name.len() <= 253
        && name.split('.').all(label_is_valid)
        && !last.bytes().all(|b| b.is_ascii_digit())
}

/// Parses a port number: digits only; `u16::from_str` accepts a sign.
pub(super) fn port(text: &str) -> Option<u16> {
    text.bytes()
        .all(|b| b.is_ascii_digit())
        .then(|| text.parse().ok())?
}

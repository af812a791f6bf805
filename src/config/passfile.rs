//! libpq's password file, `~/.pgpass`: the last place where a database password is looked up.
//!
//! Format and rules: PostgreSQL documentation, "The Password File". Implemented here because tokio-postgres does not read it, and
//! no maintained crate does.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::setting::{Env, variable};
use super::{Secret, ini};

/// The lines of a password file.
#[derive(Default)]
pub(super) struct PasswordFile(Vec<Line>);

struct Line {
    // Host, port, database and user; `None` matches anything.
    fields: [Option<String>; 4],
    password: String,
}

impl PasswordFile {
    /// Reads the file that the environment names, or libpq's default. A file that must not be used causes a warning and counts as
    /// empty, as in libpq: the server may not require a password.
    pub(super) fn read(env: Env<'_>, warnings: &mut Vec<String>) -> Self {
        let named = variable(env, "PGPASSFILE").map(|name| PathBuf::from(name.value));
        let default = || variable(env, "HOME").map(|home| Path::new(&home.value).join(".pgpass"));
        let Some(path) = named.clone().or_else(default) else {
            return Self::default();
        };
        let problem = match read_private(&path) {
            Ok(text) => return Self(text.lines().filter_map(parse_line).collect()),
            // The usual case.
            Err(Problem::Io(ErrorKind::NotFound)) if named.is_none() => return Self::default(),
            Err(Problem::Io(kind)) => kind.to_string(),
            Err(Problem::NotAFile) => "not a plain file".to_owned(),
            Err(Problem::Exposed) => {
                "other users have access to it, change its mode to 0600".to_owned()
            }
        };
        warnings.push(format!(
            "password file {} is ignored: {problem}",
            path.display()
        ));
        Self::default()
    }

    /// The password of the first line that matches, unless it is empty.
    pub(super) fn password(&self, wanted: [&str; 4]) -> Option<Secret> {
        let matches = |line: &&Line| {
            let mut pairs = line.fields.iter().zip(wanted);
            pairs.all(|(field, wanted)| field.as_ref().is_none_or(|field| field == wanted))
        };
        let line = self.0.iter().find(matches)?;
        (!line.password.is_empty()).then(|| Secret::new(line.password.as_str()))
    }
}

enum Problem {
    Io(ErrorKind),
    NotAFile,
    Exposed,
}

fn read_private(path: &Path) -> Result<String, Problem> {
    let io = |error: std::io::Error| Problem::Io(error.kind());
    let metadata = fs::metadata(path).map_err(io)?;
    if !metadata.is_file() {
        return Err(Problem::NotAFile);
    }
    // libpq's test, src/interfaces/libpq/fe-connect.c: S_IRWXG | S_IRWXO.
    if metadata.permissions().mode() & 0o077 != 0 {
        return Err(Problem::Exposed);
    }
    fs::read_to_string(path).map_err(io)
}

fn parse_line(line: &str) -> Option<Line> {
    if line.starts_with('#') {
        return None;
    }
    let mut fields = [const { None }; 4];
    let mut rest = line;
    for field in &mut fields {
        let (raw, after) = split_field(rest)?;
        *field = (raw != "*").then(|| ini::drop_escapes(raw));
        rest = after;
    }
    Some(Line {
        fields,
        password: ini::drop_escapes(rest),
    })
}

/// Splits at the first colon without a backslash before it.
fn split_field(text: &str) -> Option<(&str, &str)> {
    let mut escaped = false;
    for (at, character) in text.char_indices() {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            ':' => return Some((&text[..at], &text[at + 1..])),
            _ => {}
        }
    }
    None
}

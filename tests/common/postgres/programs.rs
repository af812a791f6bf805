//! The server's programs.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The directory with initdb and pg_ctl: the one in the environment variable `PG_BINDIR`, which tests/postgres-majors.sh sets to
/// test another major version; else pg_config's; else the newest of Debian's.
pub(super) fn server_programs() -> PathBuf {
    let has_programs = |directory: &PathBuf| {
        directory.join("initdb").exists() && directory.join("pg_ctl").exists()
    };
    if let Some(named) = std::env::var_os("PG_BINDIR").map(PathBuf::from) {
        // Otherwise another server would be taken for the requested one.
        assert!(
            named.is_absolute() && has_programs(&named),
            "PG_BINDIR is {}: it must be the absolute path of a directory with initdb and pg_ctl",
            named.display()
        );
        return named;
    }
    [pg_config_bindir().ok(), newest_debian_bindir().ok()]
        .into_iter()
        .flatten()
        .find(has_programs)
        .expect(
            "PostgreSQL's server programs (initdb, pg_ctl) were not found: install the server (Debian: postgresql, \
             Fedora: postgresql-server and postgresql-contrib for citext), or name their directory in PG_BINDIR",
        )
}

/// The psql beside the server's programs; else Debian's newest; else the one in PATH. There Debian has a Perl script that
/// searches the newest, which takes longer than most tests' statements.
pub(super) fn psql(beside: &Path) -> PathBuf {
    let newest = newest_debian_bindir().unwrap_or_default();
    [beside.join("psql"), newest.join("psql")]
        .into_iter()
        .find(|psql| psql.is_absolute() && psql.exists())
        .unwrap_or_else(|| PathBuf::from("psql"))
}

fn pg_config_bindir() -> io::Result<PathBuf> {
    let output = Command::new("pg_config").arg("--bindir").output()?;
    Ok(PathBuf::from(
        String::from_utf8_lossy(&output.stdout).trim(),
    ))
}

/// Debian has a directory per major version, and none of them in PATH.
fn newest_debian_bindir() -> io::Result<PathBuf> {
    let mut versions: Vec<u32> = std::fs::read_dir("/usr/lib/postgresql")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    versions.sort_unstable();
    let newest = versions.pop().ok_or(io::ErrorKind::NotFound)?;
    Ok(PathBuf::from(format!("/usr/lib/postgresql/{newest}/bin")))
}

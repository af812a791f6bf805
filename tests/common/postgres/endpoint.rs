//! The location of a server, and how to run its programs.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use super::{PASSWORD, SUPERUSER, without_pg_environment};

/// The location of a server, and how to run its programs.
pub(super) struct Endpoint {
    pub(super) directory: PathBuf,
    pub(super) programs: PathBuf,
    /// Root must not run PostgreSQL; then its user does.
    pub(super) through_runuser: bool,
    pub(super) port: AtomicU32,
}

impl Endpoint {
    pub(super) fn data(&self) -> PathBuf {
        self.directory.join("data")
    }

    pub(super) fn port(&self) -> u16 {
        u16::try_from(self.port.load(Ordering::Relaxed)).expect("stored from a u16")
    }

    /// A command that runs one of the server's programs as a user that the server accepts.
    pub(super) fn server_command(&self, program: &str) -> Command {
        let program = self.programs.join(program);
        let mut command = if self.through_runuser {
            let mut command = Command::new("runuser");
            command.args(["-u", SUPERUSER, "--"]).arg(program);
            command
        } else {
            Command::new(program)
        };
        // That user may not have access to the working directory.
        command.current_dir(&self.directory).stdin(Stdio::null());
        without_pg_environment(&mut command);
        command
    }

    /// Gives the directory to the server's user.
    pub(super) fn own_directory(&self) {
        if self.through_runuser {
            let status = Command::new("chown")
                .arg(SUPERUSER)
                .arg(&self.directory)
                .status()
                .expect("chown runs");
            assert!(
                status.success(),
                "root may not run PostgreSQL, and there is no user {SUPERUSER} to run it: \
                 install the package postgresql, or run the tests as another user"
            );
        }
    }

    /// Turns the data directory into a standby's.
    pub(super) fn copy(&self, primary: &Self) {
        let output = self
            .server_command("pg_basebackup")
            .arg("-D")
            .arg(self.data())
            .arg("-h")
            .arg(&primary.directory)
            .args(["-p", &primary.port().to_string(), "-U", SUPERUSER])
            .args(["--write-recovery-conf", "--checkpoint=fast", "--no-sync"])
            .output()
            .expect("pg_basebackup runs");
        assert!(
            output.status.success(),
            "pg_basebackup failed: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        // Of a repeated setting, the last one counts.
        let file = self.data().join("postgresql.auto.conf");
        let mut settings = std::fs::read_to_string(&file).expect("the primary's configuration");
        writeln!(
            settings,
            "unix_socket_directories = '{}'",
            self.directory.display()
        )
        .expect("a String takes it");
        std::fs::write(file, settings).expect("the configuration is written");
    }

    pub(super) fn initialize(&self) {
        let password = self.directory.join("password");
        std::fs::write(&password, PASSWORD).expect("the password file is written");
        let output = self
            .server_command("initdb")
            .arg("-D")
            .arg(self.data())
            .arg(format!("--username={SUPERUSER}"))
            .arg("--pwfile")
            .arg(&password)
            .args([
                "--auth-local=trust",
                "--auth-host=scram-sha-256",
                "--encoding=UTF8",
                "--locale=C",
                "--no-sync",
            ])
            .output()
            .expect("initdb runs");
        assert!(
            output.status.success(),
            "initdb failed: {}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        // A directory that is removed in a minute needs no durability.
        let settings = format!(
            "listen_addresses = '127.0.0.1'\n\
             unix_socket_directories = '{}'\n\
             max_connections = 200\n\
             shared_buffers = 32MB\n\
             fsync = off\n\
             synchronous_commit = off\n\
             full_page_writes = off\n",
            self.directory.display()
        );
        let file = self.data().join("postgresql.auto.conf");
        std::fs::write(file, settings).expect("the configuration is written");
    }
}

//! The real daemon, with its own configuration on a free port.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tempfile::TempDir;

use super::wait::{TIMEOUT, eventually_blocking};

/// A running daemon. Killed when dropped; its log is printed if the test fails.
pub(crate) struct Daemon {
    child: Child,
    log: Arc<Log>,
    pub(crate) config: ConfigDir,
    /// The address that it listens on.
    pub(crate) address: String,
}

#[derive(Default)]
struct Log {
    lines: Mutex<(Vec<String>, bool)>,
    grown: Condvar,
}

impl Log {
    /// The lines, and whether there will be more. Available also after a failed assertion on them: the log is printed.
    fn lines(&self) -> MutexGuard<'_, (Vec<String>, bool)> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A configuration directory like Icinga Web's.
pub(crate) struct ConfigDir(TempDir);

impl ConfigDir {
    /// A directory with `config.ini` and `resources.ini`. `resource` is what follows `[icinga_notifications]` in the latter.
    pub(crate) fn new(daemon: &str, resource: &str) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let module = dir.path().join("modules/notifications");
        std::fs::create_dir_all(&module).expect("a directory");
        std::fs::write(
            module.join("config.ini"),
            format!("[daemon]\n{daemon}\n[database]\nresource = \"icinga_notifications\"\n"),
        )
        .expect("config.ini");
        std::fs::write(
            dir.path().join("resources.ini"),
            format!("[icinga_notifications]\ntype = \"db\"\ndb = \"pgsql\"\n{resource}\n"),
        )
        .expect("resources.ini");
        Self(dir)
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    /// The binary with this configuration, and without anything of the caller's environment that could affect it.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_icinga-desktop-bridge"));
        command
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", self.path())
            .arg("--config-dir")
            .arg(self.path())
            .args(arguments);
        command
    }
}

impl Daemon {
    /// Starts the daemon on a free port of 127.0.0.1 and waits until it is ready. `resource` says how to reach the database.
    pub(crate) fn start(resource: &str) -> Self {
        let daemon = Self::launch(ConfigDir::new("host = 127.0.0.1\nport = 0", resource));
        daemon.wait_for_log("ready: ");
        daemon
    }

    /// Starts the daemon and waits until it listens.
    pub(crate) fn launch(config: ConfigDir) -> Self {
        Self::launch_with(config, &["run", "--verbose"])
    }

    /// Starts the daemon with a hard limit on open files and waits until it listens.
    pub(crate) fn launch_limited(config: ConfigDir, files: u32) -> Self {
        let command = config.command(&["run", "--verbose"]);
        let mut limited = Command::new("prlimit");
        limited
            .arg(format!("--nofile={files}"))
            .arg(command.get_program())
            .args(command.get_args());
        Self::spawn(config, limited)
    }

    /// Starts the daemon with these arguments and waits until it listens.
    pub(crate) fn launch_with(config: ConfigDir, arguments: &[&str]) -> Self {
        let command = config.command(arguments);
        Self::spawn(config, command)
    }

    /// Starts the daemon by a command that the test has prepared and waits until it listens.
    pub(crate) fn spawn(config: ConfigDir, mut command: Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let stderr = child.stderr.take().expect("piped");
        let log = Arc::new(Log::default());
        let writer = Arc::clone(&log);
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                writer.lines().0.push(line);
                writer.grown.notify_all();
            }
            writer.lines().1 = true;
            writer.grown.notify_all();
        });
        let mut daemon = Self {
            child,
            log,
            config,
            address: String::new(),
        };
        let line = daemon.wait_for_log("listening on ");
        daemon.address = line
            .rsplit("listening on ")
            .next()
            .expect("an address")
            .trim()
            .to_owned();
        daemon
    }

    /// Waits for a log line that contains `text`, from the start of the log.
    pub(crate) fn wait_for_log(&self, text: &str) -> String {
        self.wait_for_nth_log(text, 1)
    }

    /// Waits for the `n`th log line that contains `text`.
    pub(crate) fn wait_for_nth_log(&self, text: &str, n: usize) -> String {
        let deadline = Instant::now() + TIMEOUT;
        let mut guard = self.log.lines();
        loop {
            if let Some(line) = guard.0.iter().filter(|line| line.contains(text)).nth(n - 1) {
                return line.clone();
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(
                !left.is_zero() && !guard.1,
                "no log line with {text:?} (for the {n}th time)"
            );
            guard = self
                .log
                .grown
                .wait_timeout(guard, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// The log so far.
    pub(crate) fn log(&self) -> String {
        self.log.lines().0.join("\n")
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal by name, for example `TERM`.
    pub(crate) fn signal(&self, name: &str) {
        let status = Command::new("kill")
            .args([&format!("-{name}"), &self.child.id().to_string()])
            .status()
            .expect("kill");
        assert!(status.success(), "kill -{name}");
    }

    /// Waits for the end.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        eventually_blocking(TIMEOUT, || {
            let ended = self.child.try_wait().expect("wait");
            ended.ok_or("the daemon does not end")
        })
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- the daemon's log ---\n{}\n---", self.log());
        }
    }
}

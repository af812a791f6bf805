//! A machine with its own systemd: it has the Debian packages installed here, but no account, no configuration and no Icinga of
//! this host. What it writes is discarded, and its only network is a loopback interface.
//!
//! systemd-nspawn boots it on an overlay of this host's root. It needs root, but no systemd here. As with the private PostgreSQL,
//! a guardian shell stops it when the test process ends, in any way.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{self, Receiver, TryRecvError};
use std::time::Duration;

use super::guardian::Guardian;
use super::wait::eventually_blocking;

/// How long something that must happen may take, including a watchdog and a boot on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(60);

/// A booted machine, powered off when dropped.
pub(crate) struct Machine {
    _guardian: Guardian,
    root: PathBuf,
    /// The pid of its PID 1 on this host.
    leader: String,
}

/// Boots it, waits, and stops it.
const GUARDIAN: &str = include_str!("systemd/guardian.sh");

/// Removes what the host's administrator has created.
const FRESH: &str = include_str!("systemd/fresh.sh");

impl Machine {
    /// Boots a machine and waits for that.
    ///
    /// # Panics
    ///
    /// If that is not possible; the message says why.
    pub(crate) fn boot() -> Self {
        Self::boot_with(Path::new(""), Path::new("/"))
    }

    /// Like [`Machine::boot`], but with the packages of the system in that directory instead of this host's.
    pub(crate) fn boot_system(root: &Path) -> Self {
        Self::boot_with(Path::new(""), root)
    }

    /// Like [`Machine::boot`], on a host that also has the files below `leftovers`.
    pub(crate) fn boot_on_host_with(leftovers: &Path) -> Self {
        assert!(leftovers.is_dir(), "{}", leftovers.display());
        Self::boot_with(leftovers, Path::new("/"))
    }

    fn boot_with(leftovers: &Path, system: &Path) -> Self {
        assert!(
            rustix::process::geteuid().is_root(),
            "a machine is booted by root only: run the tests of packages as root"
        );
        // Removed by the guardian, once nothing is mounted in it any more.
        let directory = tempfile::Builder::new()
            .prefix("icinga-desktop-machine-")
            .tempdir()
            .expect("a temporary directory")
            .keep();
        let mut guardian = Guardian::start(GUARDIAN, |shell| {
            shell
                .arg(&directory)
                .arg(FRESH)
                .arg(leftovers)
                .arg(system)
                .stdout(Stdio::piped())
                // Why there is no machine.
                .stderr(Stdio::inherit());
        });
        let mut leader = String::new();
        BufReader::new(guardian.stdout())
            .read_line(&mut leader)
            .expect("what the guardian says");
        assert!(
            !leader.is_empty(),
            "no machine, for the reason above; it needs systemd-nspawn (apt-get install systemd-container)"
        );
        Self {
            _guardian: guardian,
            root: directory.join("root"),
            leader: leader.trim().to_owned(),
        }
    }

    /// A command inside.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command
            .args(["-t", &self.leader, "-m", "-u", "-i", "-n", "-p", "-C", "--"])
            .arg(program)
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("LC_ALL", "C.UTF-8")
            .env("SYSTEMD_COLORS", "0")
            .stdin(Stdio::null());
        command
    }

    /// Runs a shell script inside, whether it succeeds or not.
    pub(crate) fn attempt(&self, script: &str) -> Output {
        self.command("sh")
            .args(["-euc", script])
            .output()
            .expect("nsenter runs")
    }

    /// Runs a shell script inside, which must succeed, and returns its output.
    pub(crate) fn run(&self, script: &str) -> String {
        let output = self.attempt(script);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
        assert!(
            output.status.success(),
            "{script}\n{}\n{}\n{}",
            output.status,
            text(&output.stdout),
            text(&output.stderr)
        );
        text(&output.stdout)
    }

    /// Runs a script until its output fits.
    pub(crate) fn wait_until(&self, script: &str, fits: impl Fn(&str) -> bool) -> String {
        eventually_blocking(TIMEOUT, || {
            let printed = self.run(script);
            if fits(&printed) {
                Ok(printed)
            } else {
                Err(format!("{script} prints {printed:?}"))
            }
        })
    }

    /// A property of a unit.
    pub(crate) fn show(&self, unit: &str, property: &str) -> String {
        self.run(&format!(
            "systemctl show --value --property={property} {unit}"
        ))
    }

    /// Writes a file inside, readable by all.
    pub(crate) fn write(&self, path: &str, text: &str) {
        self.run(&format!("mkdir -p \"$(dirname {path})\""));
        let mut tee = self
            .command("tee")
            .arg(path)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("nsenter runs");
        let mut input = tee.stdin.take().expect("piped");
        input.write_all(text.as_bytes()).expect("tee reads");
        drop(input);
        assert!(tee.wait().expect("tee").success(), "{path}");
    }

    /// Copies a file of this machine into `/root` there and returns its path there.
    pub(crate) fn put(&self, file: &Path) -> String {
        let name = file.file_name().expect("a file");
        fs::copy(file, self.root.join("root").join(name)).expect("a copy");
        format!("/root/{}", name.display())
    }

    /// Copies files and directories of the sources into a directory there.
    pub(crate) fn put_tree(&self, paths: &[&str], directory: &str) {
        let target = self.root.join(directory.trim_start_matches('/'));
        fs::create_dir_all(&target).expect("a directory");
        let status = Command::new("cp")
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .args(["--recursive", "--parents"])
            .args(paths)
            .arg(&target)
            .status();
        assert!(status.expect("cp runs").success(), "{paths:?}");
    }

    /// What was written to its disk since the boot: files, and new directories. Relative to its root.
    pub(crate) fn written(&self) -> BTreeSet<PathBuf> {
        let upper = self.root.with_file_name("layers").join("writes");
        let fresh = self.root.with_file_name("fresh");
        let mut written = BTreeSet::new();
        let mut directories = vec![upper.clone()];
        while let Some(directory) = directories.pop() {
            for entry in fs::read_dir(&directory).expect("a directory") {
                let entry = entry.expect("an entry");
                let (path, kind) = (entry.path(), entry.file_type().expect("a type"));
                let file = path.strip_prefix(&upper).expect("below it").to_owned();
                // A device represents a removed file; a directory may be there only for its files.
                if kind.is_dir() {
                    directories.push(path.clone());
                }
                let is_only_passed = kind.is_dir() && fresh.join(&file).is_dir();
                if !kind.is_char_device() && !is_only_passed {
                    written.insert(file);
                }
            }
        }
        written
    }

    /// Starts a command whose output is read line by line.
    pub(crate) fn spawn(&self, mut command: Command) -> Lines {
        let mut child = command.stdout(Stdio::piped()).spawn().expect("it starts");
        let output = child.stdout.take().expect("piped");
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Lines { child, lines }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let journal =
                self.attempt("journalctl --no-pager -n 80 -u 'icinga*' -o short-monotonic");
            eprintln!(
                "--- the journal ---\n{}---",
                String::from_utf8_lossy(&journal.stdout)
            );
        }
    }
}

/// A running command, ended when dropped.
pub(crate) struct Lines {
    child: Child,
    lines: Receiver<String>,
}

impl Lines {
    /// Skips lines until one begins like this.
    #[track_caller]
    pub(crate) fn wait_for(&self, start: &str) -> String {
        eventually_blocking(TIMEOUT, || {
            loop {
                match self.lines.try_recv() {
                    Ok(line) if line.starts_with(start) => return Ok(line),
                    Ok(_) => {}
                    Err(TryRecvError::Empty) => {
                        return Err(format!("no line begins with {start:?}"));
                    }
                    Err(TryRecvError::Disconnected) => {
                        panic!("the end, and no line that begins with {start:?}")
                    }
                }
            }
        })
    }

    /// All lines until the end.
    #[track_caller]
    pub(crate) fn rest(&self) -> Vec<String> {
        let mut rest = Vec::new();
        eventually_blocking(TIMEOUT, || {
            loop {
                match self.lines.try_recv() {
                    Ok(line) => rest.push(line),
                    Err(TryRecvError::Empty) => return Err("a stream that goes on"),
                    Err(TryRecvError::Disconnected) => return Ok(()),
                }
            }
        });
        rest
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

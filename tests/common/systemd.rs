//! A machine with a systemd of its own: everything that is installed here is there, but what it writes is forgotten, none of
//! the services enabled here start, and its only network is a loopback of its own.
//!
//! systemd-nspawn boots it on an overlay of this machine's root. It needs root, but no systemd here. As with the private
//! PostgreSQL, a guardian shell takes it down when the test process ends, however that ends.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::FileTypeExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

/// How long something that must happen may take; a watchdog and a boot on a busy machine are in it.
const PATIENCE: Duration = Duration::from_secs(60);

/// A booted machine, powered off when dropped.
pub(crate) struct Machine {
    guardian: Child,
    lifeline: Option<ChildStdin>,
    root: PathBuf,
    /// PID 1 of it, as it is called here.
    leader: String,
}

/// Boots in directory `$1`, prints the leader's process id, waits for the end of its input, and takes it all down.
const GUARDIAN: &str = r#"
set -u
state=$1
root=$state/root
group=$(basename "$state")
trap '' HUP INT TERM

# Where nspawn may put its groups: with the old hierarchies beside the new one there are two such places.
hierarchies=
for hierarchy in /sys/fs/cgroup/systemd /sys/fs/cgroup/unified /sys/fs/cgroup; do
    [ -e "$hierarchy/cgroup.procs" ] && hierarchies="$hierarchies $hierarchy"
done

down() {
    if [ -n "${nspawn-}" ]; then
        # SIGRTMIN+4 asks for a power-off; 100 looks later it is no longer asked.
        [ -z "${leader-}" ] || kill -38 "$leader" 2>/dev/null
        looks=0
        while kill -0 "$nspawn" 2>/dev/null && [ $looks -lt 100 ]; do sleep 0.1; looks=$((looks + 1)); done
        [ -z "${leader-}" ] || kill -KILL "$leader" 2>/dev/null
        kill -KILL "$nspawn" 2>/dev/null
        wait "$nspawn" 2>/dev/null
    fi
    for mount in "$root" "$state/writes"; do
        looks=0
        while mountpoint -q "$mount" && ! umount "$mount" 2>/dev/null && [ $looks -lt 50 ]; do
            sleep 0.1; looks=$((looks + 1))
        done
    done
    for hierarchy in $hierarchies; do
        [ ! -d "$hierarchy/$group" ] || find "$hierarchy/$group" -depth -type d -exec rmdir {} + 2>/dev/null
    done
    rm -rf --one-file-system "$state"
}
failed() { echo "$1" >&2; cat "$state/console" >&2 2>/dev/null; down; exit 1; }

mkdir "$root" "$state/writes"
mount -t tmpfs -o mode=755 tmpfs "$state/writes" || failed "cannot mount a tmpfs"
mkdir "$state/writes/upper" "$state/writes/work"
mount -t overlay -o "lowerdir=/,upperdir=$state/writes/upper,workdir=$state/writes/work" overlay "$root" ||
    failed "cannot mount an overlay"
# Only what a test starts is to run in it; images of containers forbid packages to start anything.
rm -rf "$root"/etc/systemd/system/*.wants/* "$root"/etc/rc?.d/S* "$root"/var/log/journal "$root"/usr/sbin/policy-rc.d
: >"$root/etc/machine-id"

for hierarchy in $hierarchies; do mkdir -p "$hierarchy/$group"; done
setsid sh -c 'for group in "$@"; do echo $$ >"$group/cgroup.procs"; done
    exec systemd-nspawn --quiet --register=no --keep-unit --private-network --console=pipe -D "$0" --boot' \
    "$root" $(for hierarchy in $hierarchies; do echo "$hierarchy/$group"; done) \
    </dev/null >"$state/console" 2>&1 &
nspawn=$!

looks=0
until leader=$(tr -d ' ' <"/proc/$nspawn/task/$nspawn/children" 2>/dev/null) && [ -n "$leader" ] &&
    nsenter -t "$leader" -m -p -n -i -u -C systemctl is-system-running 2>/dev/null | grep -qE '^(running|degraded)$'; do
    kill -0 "$nspawn" 2>/dev/null || failed "systemd-nspawn has ended"
    looks=$((looks + 1))
    [ $looks -lt 600 ] || failed "systemd does not boot"
    sleep 0.1
done
echo "$leader"
cat >/dev/null
down
"#;

impl Machine {
    /// Boots a machine and waits until it has.
    ///
    /// # Panics
    ///
    /// If that is not possible; the message says why.
    pub(crate) fn boot() -> Self {
        // Removed by the guardian, once nothing is mounted in it any more.
        let directory = tempfile::Builder::new()
            .prefix("icinga-desktop-machine-")
            .tempdir()
            .expect("a temporary directory")
            .keep();
        let mut guardian = Command::new("sh")
            .args(["-c", GUARDIAN, "guardian"])
            .arg(&directory)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // A signal to the test's process group is not for the guardian.
            .process_group(0)
            .spawn()
            .expect("sh runs");
        let lifeline = guardian.stdin.take();
        let mut leader = String::new();
        BufReader::new(guardian.stdout.take().expect("piped"))
            .read_line(&mut leader)
            .expect("what the guardian says");
        assert!(
            !leader.is_empty(),
            "no machine: these tests need root and systemd-nspawn (apt-get install systemd-container)"
        );
        Self {
            guardian,
            lifeline,
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

    /// Runs a shell script inside, whatever comes of it.
    pub(crate) fn attempt(&self, script: &str) -> Output {
        self.command("sh")
            .args(["-euc", script])
            .output()
            .expect("nsenter runs")
    }

    /// Runs a shell script inside, which must succeed, and returns what it printed.
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

    /// Runs a script until what it prints fits.
    pub(crate) fn wait_until(&self, script: &str, fits: impl Fn(&str) -> bool) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let printed = self.run(script);
            if fits(&printed) {
                return printed;
            }
            assert!(
                Instant::now() < deadline,
                "{script} goes on printing {printed:?}"
            );
            std::thread::sleep(Duration::from_millis(100));
        }
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

    /// What was written to its disk since it was made: files, and directories that are not here. Relative to its root.
    pub(crate) fn written(&self) -> BTreeSet<PathBuf> {
        let upper = self.root.with_file_name("writes").join("upper");
        let mut written = BTreeSet::new();
        let mut directories = vec![upper.clone()];
        while let Some(directory) = directories.pop() {
            for entry in fs::read_dir(&directory).expect("a directory") {
                let entry = entry.expect("an entry");
                let (path, kind) = (entry.path(), entry.file_type().expect("a type"));
                let file = path.strip_prefix(&upper).expect("below it").to_owned();
                // A device stands for something that was removed; a directory may be there for its files only.
                if kind.is_dir() {
                    directories.push(path.clone());
                }
                let is_only_passed = kind.is_dir() && Path::new("/").join(&file).is_dir();
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
        drop(self.lifeline.take());
        let _ = self.guardian.wait();
    }
}

/// A running command, ended when dropped.
pub(crate) struct Lines {
    child: Child,
    lines: Receiver<String>,
}

impl Lines {
    /// The next line, or `None` at the end.
    pub(crate) fn next(&self) -> Option<String> {
        match self.lines.recv_timeout(PATIENCE) {
            Ok(line) => Some(line),
            Err(mpsc::RecvTimeoutError::Disconnected) => None,
            Err(mpsc::RecvTimeoutError::Timeout) => panic!("neither a line nor the end"),
        }
    }

    /// Skips lines until one begins so.
    pub(crate) fn wait_for(&self, start: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let line = self
                .next()
                .unwrap_or_else(|| panic!("the end, and no line that begins with {start:?}"));
            if line.starts_with(start) {
                return line;
            }
            assert!(
                Instant::now() < deadline,
                "lines, but none that begins with {start:?}"
            );
        }
    }

    /// All lines until the end.
    pub(crate) fn rest(&self) -> Vec<String> {
        std::iter::from_fn(|| self.next()).collect()
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

//! A server that ends with the test process, even if that is killed, and its directory with it.

use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::guardian::Guardian;
use super::wait::{TIMEOUT, eventually_blocking};

/// A running server in its own directory. It ends when this is dropped or the process ends, in any way.
pub(crate) struct Guarded {
    _guardian: Guardian,
    log: PathBuf,
}

/// Runs the arguments after the directory until standard input closes, which only the test process keeps open. Then it asks the
/// server to end, which frees its shared memory, and kills its workers: Apache would wait ten seconds for those with open
/// streams.
const GUARDIAN: &str = r#"
    trap : HUP INT TERM
    directory=$1; shift
    "$@" &
    cat > /dev/null
    workers=$(cat "/proc/$!/task/$!/children")
    kill -TERM $!
    [ -z "$workers" ] || kill -KILL $workers
    wait $!
    rm -rf "$directory"
"#;

/// A directory for a server's files that its workers may also read. [`Guarded::start`] removes it in the end.
pub(crate) fn directory() -> PathBuf {
    use std::os::unix::fs::PermissionsExt as _;
    let directory = tempfile::Builder::new()
        .prefix("icinga-desktop-test-")
        .permissions(std::fs::Permissions::from_mode(0o755))
        .tempdir()
        .expect("a temporary directory");
    directory.keep()
}

impl Guarded {
    /// Checks the configuration with `command` and the argument `-t`, starts the server, and waits until it accepts at `address`.
    /// It logs to the file `log` in `directory`; its check warns only if something is wrong with the shipped files.
    pub(crate) fn start(directory: &Path, command: &[&str], address: &str) -> Self {
        let check = Command::new(command[0])
            .args(&command[1..])
            .arg("-t")
            .output()
            .unwrap_or_else(|error| panic!("{}: {error}; apt-get install it", command[0]));
        let said = String::from_utf8_lossy(&check.stderr);
        assert!(
            check.status.success() && !said.to_lowercase().contains("warn"),
            "{said}"
        );
        Self::run(directory, command, address)
    }

    /// Starts the server without checking its configuration.
    pub(crate) fn run(directory: &Path, command: &[&str], address: &str) -> Self {
        let guardian = Guardian::start(GUARDIAN, |shell| {
            shell
                .arg(directory)
                .args(command)
                // Its files are removed with the directory.
                .env("HOME", directory)
                .env("TMPDIR", directory);
        });
        let server = Self {
            _guardian: guardian,
            log: directory.join("log"),
        };
        eventually_blocking(TIMEOUT, || {
            TcpStream::connect(address).map_err(|error| {
                let (program, log) = (command[0], server.log());
                format!("{program} at {address}: {error}\n{log}")
            })
        });
        server
    }

    fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_else(|error| format!("no log: {error}"))
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the server's log ---\n{}\n---", self.log());
        }
    }
}

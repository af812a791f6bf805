//! Ends a server with the test process, however that ends.

use std::os::unix::process::CommandExt as _;
use std::process::{Child, ChildStdin, Command, Stdio};

use super::endpoint::Endpoint;

/// Holds a shell's standard input; when that closes, the shell stops the server and removes its directory.
pub(super) struct Guardian {
    shell: Child,
    lifeline: Option<ChildStdin>,
}

impl Guardian {
    /// Arguments: the directory, then the command that stops the server in it.
    const SCRIPT: &str = r#"
        trap '' HUP INT TERM
        directory=$1; shift
        cat > /dev/null
        if [ -e "$directory/data/postmaster.pid" ]; then
            # A test may have been killed while the server was frozen, and a stopped process cannot end.
            pid=$(head -n 1 "$directory/data/postmaster.pid")
            kill -CONT "$pid" $(cat "/proc/$pid/task/$pid/children")
            "$@"
        fi
        rm -rf "$directory"
    "#;

    pub(super) fn start(endpoint: &Endpoint) -> Self {
        let mut stop = endpoint.server_command("pg_ctl");
        stop.arg("-D")
            .arg(endpoint.data())
            .args(["-m", "immediate", "-w", "stop"]);
        let mut shell = Command::new("sh")
            .args(["-c", Self::SCRIPT, "guardian"])
            .arg(&endpoint.directory)
            .arg(stop.get_program())
            .args(stop.get_args())
            .current_dir("/")
            .stdin(Stdio::piped())
            // Whoever reads the test's output must not have to wait for the guardian.
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // A signal to the test's process group is not for the guardian.
            .process_group(0)
            .spawn()
            .expect("sh runs");
        let lifeline = shell.stdin.take();
        Self { shell, lifeline }
    }
}

impl Drop for Guardian {
    fn drop(&mut self) {
        drop(self.lifeline.take());
        // Nothing to be done about a failure here, and the test has its result.
        let _ = self.shell.wait();
    }
}

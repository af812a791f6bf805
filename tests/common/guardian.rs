//! Ends a server with the test process, however that ends: a shell that waits for the end of its standard input, which only the
//! test process keeps open.

use std::os::unix::process::CommandExt as _;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// A waiting shell. Dropping it ends what it guards, and waits for that.
pub(crate) struct Guardian {
    shell: Child,
    lifeline: Option<ChildStdin>,
}

impl Guardian {
    /// Starts a shell with `script`; `with` adds its arguments.
    pub(crate) fn start(script: &str, with: impl FnOnce(&mut Command)) -> Self {
        let mut command = Command::new("sh");
        command
            .args(["-c", script, "guardian"])
            .current_dir("/")
            .stdin(Stdio::piped())
            // Readers of the test's output must not have to wait for the guardian.
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // A signal to the test's process group must not reach the guardian.
            .process_group(0);
        with(&mut command);
        let mut shell = command.spawn().expect("sh runs");
        let lifeline = shell.stdin.take();
        Self { shell, lifeline }
    }

    /// Its output, if it is piped.
    pub(crate) fn stdout(&mut self) -> ChildStdout {
        self.shell.stdout.take().expect("piped")
    }
}

impl Drop for Guardian {
    fn drop(&mut self) {
        drop(self.lifeline.take());
        // A failure here cannot be handled, and the test has its result.
        let _ = self.shell.wait();
    }
}

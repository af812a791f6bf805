//! What ends a server with the test process, however that ends: a shell that waits for the end of its standard input, which
//! only the test process holds open.

use std::os::unix::process::CommandExt as _;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// A waiting shell. Dropping it lets it take down what it guards, and waits until it has.
pub(crate) struct Guardian {
    shell: Child,
    lifeline: Option<ChildStdin>,
}

impl Guardian {
    /// Starts a shell with `script`, to which `with` gives its arguments.
    pub(crate) fn start(script: &str, with: impl FnOnce(&mut Command)) -> Self {
        let mut command = Command::new("sh");
        command
            .args(["-c", script, "guardian"])
            .current_dir("/")
            .stdin(Stdio::piped())
            // Whoever reads the test's output must not have to wait for the guardian.
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // A signal to the test's process group is not for the guardian.
            .process_group(0);
        with(&mut command);
        let mut shell = command.spawn().expect("sh runs");
        let lifeline = shell.stdin.take();
        Self { shell, lifeline }
    }

    /// What it prints, if it was told to.
    pub(crate) fn stdout(&mut self) -> ChildStdout {
        self.shell.stdout.take().expect("piped")
    }
}

impl Drop for Guardian {
    fn drop(&mut self) {
        drop(self.lifeline.take());
        // Nothing to be done about a failure here, and the test has its result.
        let _ = self.shell.wait();
    }
}

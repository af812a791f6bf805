//! The programs that the page puts into trouble: the daemon, nginx and PostgreSQL, each a real process.

use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tokio::net::{TcpListener as Listener, TcpStream};
use tokio::process::Command;
use tokio::sync::{Mutex, Notify, watch};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, timeout_at};

use crate::health::Health;

/// Time from a daemon's end to the next start, as with a service manager.
const RESTART: Duration = Duration::from_secs(3);

/// How long PostgreSQL stays stopped.
pub(crate) const OUTAGE: Duration = Duration::from_secs(10);

/// How long a program may take to start on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(30);

/// The shipped file for nginx.
const SHIPPED: &str = include_str!("../../packaging/nginx/icinga-desktop-bridge.conf");

/// The port of the daemon in [`SHIPPED`].
const DAEMON_PORT: u16 = 9001;

/// A program that is restarted when it ends, and ends with this.
pub(crate) struct Supervised {
    kill: Arc<Notify>,
    health: watch::Receiver<Health>,
    task: AbortHandle,
}

impl Supervised {
    /// Starts the program.
    pub(crate) fn start(mut command: Command) -> Self {
        let kill = Arc::new(Notify::new());
        let (state, health) = watch::channel(Health::default());
        let killed = Arc::clone(&kill);
        let task = tokio::spawn(async move {
            loop {
                if let Ok(mut child) = command.spawn() {
                    let ended = tokio::select! {
                        ended = child.wait() => ended.map(drop),
                        () = killed.notified() => child.kill().await,
                    };
                    // Without a start there is nothing to restart.
                    if ended.is_err() {
                        break;
                    }
                }
                Health::fails(&state);
                Health::recovers(&state, RESTART).await;
            }
        });
        let task = task.abort_handle();
        Self { kill, health, task }
    }

    /// Kills the program, without any chance to clean up.
    pub(crate) fn kill(&self) {
        self.kill.notify_one();
    }

    /// Whether it runs.
    pub(crate) fn health(&self) -> watch::Receiver<Health> {
        self.health.clone()
    }
}

impl Drop for Supervised {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The private PostgreSQL, started by `packaging/demo.sh`.
pub(crate) struct Postgres {
    data: PathBuf,
    log: PathBuf,
    health: watch::Sender<Health>,
    /// Held while it is being stopped or started.
    changing: Mutex<()>,
}

impl Postgres {
    /// The server of the demo in this directory.
    pub(crate) fn new(directory: &Path) -> Self {
        Self {
            data: directory.join("data"),
            log: directory.join("postgres.log"),
            health: watch::Sender::default(),
            changing: Mutex::new(()),
        }
    }

    /// Whether it runs.
    pub(crate) fn health(&self) -> watch::Receiver<Health> {
        self.health.subscribe()
    }

    /// Stops the server, unless it is stopped already, and starts it some time later.
    pub(crate) async fn outage(&self) -> Result<()> {
        if !Health::fails(&self.health) {
            return Ok(());
        }
        self.pg_ctl(&["-m", "fast", "stop"]).await?;
        sleep(OUTAGE).await;
        self.pg_ctl(&["start"]).await?;
        Health::recovers(&self.health, Duration::ZERO).await;
        Ok(())
    }

    /// Waits until it is neither being stopped nor started, and keeps it that way.
    pub(crate) async fn leave(&self) {
        std::mem::forget(self.changing.lock().await);
    }

    async fn pg_ctl(&self, arguments: &[&str]) -> Result<()> {
        let _changing = self.changing.lock().await;
        // PostgreSQL refuses to run as root, so root runs it as its own user.
        let mut command = if rustix::process::geteuid().is_root() {
            let mut command = Command::new("runuser");
            command.args(["-u", "postgres", "--", "pg_ctl"]);
            command
        } else {
            Command::new("pg_ctl")
        };
        let status = command
            .arg("-D")
            .arg(&self.data)
            .arg("-l")
            .arg(&self.log)
            .args(["-s", "-w"])
            .args(arguments)
            .stdin(Stdio::null())
            .process_group(0)
            .status()
            .await
            .context("pg_ctl")?;
        ensure!(status.success(), "pg_ctl {arguments:?} failed");
        Ok(())
    }
}

/// Writes the daemon's part of the configuration, and returns the port that it will use: the one in the shipped file for nginx,
/// or the next free one.
pub(crate) fn configure_daemon(directory: &Path) -> Result<u16> {
    let port = free_port(DAEMON_PORT)?;
    let ini = format!(
        "[daemon]\nhost = \"127.0.0.1\"\nport = \"{port}\"\n\n[database]\nresource = \"notifications\"\n"
    );
    let file = directory.join("icingaweb2/modules/notifications/config.ini");
    fs::write(&file, ini).with_context(|| file.display().to_string())?;
    Ok(port)
}

/// The daemon.
pub(crate) fn daemon(directory: &Path, program: &Path) -> Result<Command> {
    let mut command = Command::new(program);
    command
        .arg("run")
        .arg("--config-dir")
        .arg(directory.join("icingaweb2"));
    logged(command, &directory.join("daemon.log"))
}

/// Writes nginx's configuration, which includes the shipped file, and returns the port that it will use.
pub(crate) fn configure_nginx(directory: &Path, daemon_port: u16, pages: &Listener) -> Result<u16> {
    let port = free_port(daemon_port + 1)?;
    let pages = pages.local_addr()?;
    let root = directory.join("nginx");
    fs::create_dir(&root)?;
    // The address is changed as its header says; no change is needed if that port is free.
    let shipped = SHIPPED.replace(
        &format!("127.0.0.1:{DAEMON_PORT}"),
        &format!("127.0.0.1:{daemon_port}"),
    );
    fs::write(root.join("icinga-desktop-bridge.conf"), shipped)?;
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .iter()
        .map(|name| format!("    {name}_temp_path {name};\n"))
        .collect();
    let config = format!(
        "daemon off;\n\
         # One process, which ends as one.\n\
         master_process off;\n\
         pid pid;\n\
         events {{}}\n\
         http {{\n    \
             access_log off;\n\
             {temporary}    \
             server {{\n        \
                 listen 127.0.0.1:{port};\n        \
                 include icinga-desktop-bridge.conf;\n        \
                 location / {{\n            \
                     proxy_pass http://{pages};\n            \
                     proxy_http_version 1.1;\n            \
                     proxy_set_header Connection \"\";\n            \
                     proxy_set_header Host $http_host;\n            \
                     proxy_buffering off;\n        \
                 }}\n    \
             }}\n\
         }}\n"
    );
    fs::write(root.join("nginx.conf"), config)?;
    Ok(port)
}

/// The reverse proxy.
pub(crate) fn nginx(directory: &Path) -> Result<Command> {
    let mut command = Command::new("nginx");
    command
        .args(["-e", "stderr", "-c", "nginx.conf", "-p"])
        .arg(directory.join("nginx"));
    logged(command, &directory.join("nginx.log"))
}

/// Waits until something accepts connections there.
pub(crate) async fn accepts(port: u16) -> Result<()> {
    let deadline = Instant::now() + TIMEOUT;
    timeout_at(deadline, async {
        while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            sleep(Duration::from_millis(20)).await;
        }
    })
    .await
    .with_context(|| format!("nothing accepts connections at 127.0.0.1:{port}"))
}

/// With a log, killed when its handle is dropped, and without the terminal's signals: only this program handles Ctrl-C.
fn logged(mut command: Command, log: &Path) -> Result<Command> {
    let log = File::options().create(true).append(true).open(log)?;
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .process_group(0)
        .kill_on_drop(true);
    Ok(command)
}

/// The first free port from this one on. Below those that the system assigns to connections, so that no other program takes it
/// while its program restarts.
fn free_port(from: u16) -> Result<u16> {
    (from..from + 100)
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .with_context(|| format!("no free port from {from} on"))
}

//! The demo as a page: three signed-in desktops behind a real nginx, buttons that write what Icinga writes, and buttons that
//! make trouble. `packaging/demo.sh` prepares the database and starts this program:
//!
//!     demo DIRECTORY DAEMON
//!
//! A browser's connection comes in at `front`, which can cut alice's network, and goes on to nginx. From there its stream goes
//! to the daemon, and everything else to `web`. `icinga` writes to the database, `facts` reads what was acknowledged.

mod facts;
mod front;
mod health;
mod icinga;
mod processes;
mod web;

use std::io::{self, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{broadcast, mpsc};

use facts::Facts;
use front::Front;
use icinga::Icinga;
use processes::{Postgres, Supervised};
use web::Web;

/// How many messages pages may lag behind: a storm notifies three users of 200 incidents.
const WRITTEN: usize = 4096;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let arguments: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [directory, daemon] = arguments.as_slice() else {
        bail!("usage: demo DIRECTORY DAEMON; sh packaging/demo.sh starts it")
    };
    let ended = ended()?;
    let postgres = Arc::new(Postgres::new(directory));
    tokio::select! {
        result = run(directory, daemon, Arc::clone(&postgres)) => result?,
        () = ended => {}
    }
    // The daemon and nginx end with this process, and demo.sh stops PostgreSQL.
    postgres.leave().await;
    Ok(())
}

async fn run(directory: &Path, daemon: &Path, postgres: Arc<Postgres>) -> Result<()> {
    let pages = TcpListener::bind(("127.0.0.1", 0)).await?;
    let (front, port) = Front::bind().await.context("no free port")?;

    let daemon_port = processes::configure_daemon(directory)?;
    let nginx_port = processes::configure_nginx(directory, daemon_port, &pages)?;
    let daemon = Supervised::start(processes::daemon(directory, daemon)?);
    let _nginx = Supervised::start(processes::nginx(directory)?);
    for (port, program) in [(daemon_port, "the daemon"), (nginx_port, "nginx")] {
        processes::accepts(port)
            .await
            .with_context(|| format!("{program} does not start"))?;
    }

    let (written, _) = broadcast::channel(WRITTEN);
    let (clicks, queue) = mpsc::unbounded_channel();
    let icinga = Icinga::new(directory, written.clone());
    let facts = Facts {
        database: icinga.database(),
        daemon: daemon.health(),
        postgres: postgres.health(),
        network: front.network().health(),
    };
    let web = Web {
        host: format!("demo.localhost:{port}"),
        facts: facts.watch(),
        database: icinga.database(),
        written,
        clicks,
        daemon,
        postgres,
        network: front.network(),
    };
    show(port)?;
    tokio::join!(icinga.run(queue), front.run(nginx_port), web.run(pages));
    Ok(())
}

/// Prints the page's address, and opens it where there is a display.
fn show(port: u16) -> io::Result<()> {
    let address = format!("http://demo.localhost:{port}/");
    let mut stdout = io::stdout();
    writeln!(stdout, "\nThe demo is at {address}")?;
    let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    if set("DISPLAY") || set("WAYLAND_DISPLAY") {
        // Without such a program, the address is printed.
        let _ = Command::new("xdg-open")
            .arg(&address)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn();
    } else if set("SSH_CONNECTION") {
        writeln!(
            stdout,
            "From your own machine: ssh -L {port}:127.0.0.1:{port} …"
        )?;
    }
    writeln!(stdout, "Ctrl-C ends it.")
}

/// From now on, waits for a signal to end the demo.
fn ended() -> io::Result<impl Future<Output = ()>> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    })
}

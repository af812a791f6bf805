//! The daemon from start to stop: the order in which it is built, what ends it, and its exit code.

mod capacity;
mod exit;
mod open;
mod ready;
mod reload;
mod start;
mod status;
mod stop;
mod tasks;
mod wait;

use log::info;

use self::open::Opened;
use self::start::Daemon;
use crate::config::{self, Config, Loaded};

pub use exit::Exit;

/// Runs the daemon until a signal or a failure ends it. SIGHUP makes it `load` its configuration again.
pub async fn run<L>(config: Config, load: L) -> Exit
where
    L: Fn() -> Result<Loaded, config::Error> + Send + 'static,
{
    let opened = match Opened::open(&config).await {
        Ok(opened) => opened,
        Err(error) => return error.give_up(),
    };
    let mut daemon = Daemon::start(opened, config, load);
    let exit = daemon.wait().await;
    daemon.stop().await;
    if exit == Exit::Stopped {
        info!("stopped");
    }
    exit
}

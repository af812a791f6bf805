//! SIGHUP.

use log::{error, info, warn};
use tokio::signal::unix::Signal;
use tokio::sync::watch;

use crate::config::{self, Config, Loaded, Tuning};
use crate::hub::Hub;
use crate::systemd;

/// Applies the configuration anew at each SIGHUP, as far as that is possible while streams are open.
pub(super) async fn reload<L>(
    mut hangup: Signal,
    config: Config,
    load: L,
    tune: watch::Sender<Tuning>,
    hub: Hub,
) where
    L: Fn() -> Result<Loaded, config::Error> + Send + 'static,
{
    while hangup.recv().await.is_some() {
        systemd::reloading();
        match load() {
            Ok(Loaded {
                config: mut new,
                warnings,
            }) => {
                for warning in warnings {
                    warn!("{warning}");
                }
                tune.send_replace(new.daemon.tuning);
                hub.settings_changed();
                info!(
                    "configuration reloaded: settings for keep-alives, replays, kinds of notifications and session age \
                     applied"
                );
                new.daemon.tuning = config.daemon.tuning;
                if new != config {
                    warn!(
                        "other settings have changed as well, where to listen or the database: they take effect \
                         at a restart"
                    );
                }
            }
            Err(error) => {
                error!("not reloaded, the settings stay as they were: {error}");
            }
        }
        systemd::ready();
    }
}

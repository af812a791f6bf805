//! Reloads the configuration on SIGHUP.

use log::{error, info, warn};
use tokio::signal::unix::Signal;
use tokio::sync::watch;

use crate::config::{self, Config, Loaded, Tuning};
use crate::hub::Hub;
use crate::systemd;

/// Applies the settings that can change while streams are open, at each SIGHUP.
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
                        "other settings have also changed, the addresses to listen on or the database: they take effect \
                         after a restart"
                    );
                }
            }
            Err(error) => {
                error!("not reloaded, the settings are unchanged: {error}");
            }
        }
        systemd::ready();
    }
}

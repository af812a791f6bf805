//! Keeps the status text of `systemctl status` up to date.

use std::time::Duration;

use sd_notify::NotifyState;
use tokio::sync::watch;
use tokio::time::sleep;

use crate::hub::Hub;
use crate::systemd::notify;

/// Time between two updates of the status text.
const STATUS_INTERVAL: Duration = Duration::from_secs(5);

/// Keeps the status text of `systemctl status` up to date.
pub(super) async fn report(hub: Hub, listening: watch::Receiver<bool>) {
    let mut shown = String::new();
    loop {
        let now = status(hub.streams(), hub.contacts().len(), *listening.borrow());
        if now != shown {
            notify(&[NotifyState::Status(&now)]);
            shown = now;
        }
        sleep(STATUS_INTERVAL).await;
    }
}

fn status(streams: usize, users: usize, listening: bool) -> String {
    let plural = |count| if count == 1 { "" } else { "s" };
    let text = format!(
        "{streams} stream{} of {users} user{}",
        plural(streams),
        plural(users)
    );
    if listening {
        text
    } else {
        format!("{text}; waiting for the database")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_has_counts_and_the_problem() {
        assert_eq!(status(312, 57, true), "312 streams of 57 users");
        assert_eq!(
            status(1, 1, false),
            "1 stream of 1 user; waiting for the database"
        );
    }
}

//! The interface to systemd: state notifications and the sockets that it passes. Without systemd, nothing here has an effect.

use std::io;
use std::net::TcpListener;
use std::os::unix::net::UnixListener;

use listenfd::ListenFd;
use log::debug;
use sd_notify::NotifyState;

/// A listening socket that systemd passed (`sd_listen_fds(3)`).
#[derive(Debug)]
pub(crate) enum Passed {
    /// `ListenStream=` with an address.
    Tcp(TcpListener),
    /// `ListenStream=` with a path.
    Unix(UnixListener),
}

/// Takes the sockets that systemd passed; none without a socket unit. Only the first call returns them.
///
/// # Errors
///
/// If one of them is not a listening stream socket.
pub(crate) fn sockets() -> io::Result<Vec<Passed>> {
    let mut passed = ListenFd::from_env();
    let mut sockets = Vec::new();
    for index in 0..passed.len() {
        if let Ok(Some(socket)) = passed.take_tcp_listener(index) {
            sockets.push(Passed::Tcp(socket));
        } else if let Some(socket) = passed.take_unix_listener(index)? {
            sockets.push(Passed::Unix(socket));
        }
    }
    Ok(sockets)
}

/// Reports that the daemon is ready.
pub(crate) fn ready() {
    notify(&[NotifyState::Ready]);
}

/// Feeds the watchdog.
pub(crate) fn alive() {
    notify(&[NotifyState::Watchdog]);
}

/// Reports that the configuration is being reloaded; [`ready`] ends the reload.
pub(crate) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => notify(&[NotifyState::Reloading, now]),
        Err(error) => debug!("cannot notify systemd of a reload: {error}"),
    }
}

/// Reports that the daemon is stopping.
pub(crate) fn stopping() {
    notify(&[
        NotifyState::Stopping,
        NotifyState::Status("stopping: ending streams"),
    ]);
}

/// Sends one datagram to `$NOTIFY_SOCKET`, if that is set (`sd_notify(3)`).
pub(crate) fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        debug!("cannot notify systemd: {error}");
    }
}

//! The listening sockets, from `[daemon] host` and `port` or from systemd.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::future;
use log::{error, info, warn};
use socket2::{Domain, Protocol, SockRef, Socket as RawSocket, TcpKeepalive, Type};
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio_util::either::Either;

use super::Socket;
use crate::config::{AdminAddress, Daemon, Host, Listen};
use crate::observe::Throttle;
use crate::systemd::{self, Passed};

/// Connections that the kernel queues while the accept loop is busy. The kernel caps it at `net.core.somaxconn`, 4096 by default.
const BACKLOG: i32 = 4096;

/// A peer that vanished is noticed after one probe at this idle time and two more.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
/// Time between those probes.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
/// Sent data must be acknowledged within this time (`TCP_USER_TIMEOUT`, tcp(7)).
const USER_TIMEOUT: Duration = Duration::from_secs(60);

/// Pause after the operating system refused to accept a connection, for example for lack of file descriptors: the next one would
/// fail in the same microsecond.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The listening sockets.
#[derive(Debug)]
pub(crate) struct Listeners {
    sockets: Vec<Accepting>,
    /// The path of a Unix socket that we created and have to remove.
    path: Option<PathBuf>,
    refused: Throttle,
}

#[derive(Debug)]
enum Accepting {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// There is no socket to listen on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BindError {
    /// No socket could be bound.
    #[error("cannot listen on {failed}; check [daemon] {keys}, and which program listens there")]
    Bind {
        /// The addresses, and why each could not be bound.
        failed: String,
        /// The keys of the address in `config.ini`.
        keys: &'static str,
    },
    /// The socket from systemd cannot be used.
    #[error("cannot use the socket that systemd passed: {0}; it has to be one of ListenStream=")]
    Passed(io::Error),
}

impl Listeners {
    fn new(sockets: Vec<Accepting>) -> Self {
        Self {
            sockets,
            path: None,
            refused: Throttle::default(),
        }
    }

    /// Uses the sockets from systemd if there are any; otherwise binds the addresses of `daemon`. Logs each address.
    ///
    /// # Errors
    ///
    /// If no address could be bound, or a socket from systemd is not a listening stream socket.
    pub(crate) async fn open(daemon: &Daemon) -> Result<Self, BindError> {
        let passed = systemd::sockets().map_err(BindError::Passed)?;
        if passed.is_empty() {
            return Self::bind(daemon).await;
        }
        let mut sockets = Vec::new();
        for socket in passed {
            let accepting = match socket {
                Passed::Tcp(socket) => Accepting::from_tcp(socket),
                Passed::Unix(socket) => Accepting::from_unix(socket),
            }
            .map_err(BindError::Passed)?;
            info!("listening on {accepting}, a socket from systemd");
            sockets.push(accepting);
        }
        let is_named = |socket: &Accepting| daemon.listen.iter().any(|listen| socket.is(listen));
        let is_passed = |listen: &Listen| sockets.iter().any(|socket| socket.is(listen));
        if !sockets.iter().all(is_named) || !daemon.listen.iter().all(is_passed) {
            warn!(
                "[daemon] says to listen on {}, but systemd's socket unit decides, so that is not used; make them the same, or \
                 disable icinga-notifications-web.socket",
                daemon.addresses()
            );
        }
        Ok(Self::new(sockets))
    }

    /// Binds all addresses of `daemon` that are free, so that proxies configured for one of the default ports are served while
    /// another program uses the other.
    async fn bind(daemon: &Daemon) -> Result<Self, BindError> {
        let mut listeners = Self::new(Vec::new());
        let mut failed = Vec::new();
        for listen in &daemon.listen {
            match bind(listen).await {
                Ok(sockets) => {
                    for socket in &sockets {
                        info!("listening on {socket}");
                    }
                    listeners.sockets.extend(sockets);
                    if let Host::Socket(path) = &listen.host {
                        listeners.path = Some(path.clone());
                    }
                }
                Err(error) => failed.push(format!("{listen}: {error}")),
            }
        }
        let failed = failed.join(", nor on ");
        if listeners.sockets.is_empty() {
            return Err(BindError::Bind {
                failed,
                keys: "host and port",
            });
        }
        if !failed.is_empty() {
            let served: Vec<_> = listeners.sockets.iter().map(Accepting::to_string).collect();
            warn!(
                "cannot listen on {failed}; serving {} only. If the proxy uses the address that is taken: stop the program that \
                 listens there, for example the PHP daemon, and restart this service. Otherwise: set only the other address in \
                 [daemon] host and port",
                served.join(" and ")
            );
        }
        Ok(listeners)
    }

    /// Binds the admin address, and logs it.
    ///
    /// # Errors
    ///
    /// If it could not be bound.
    pub(crate) async fn bind_admin(address: &AdminAddress) -> Result<Self, BindError> {
        let bound = match address {
            AdminAddress::Tcp(address) => bind_tcp(*address).map(|socket| (socket, None)),
            AdminAddress::Socket(path) => {
                (bind_unix(path).await).map(|socket| (Accepting::Unix(socket), Some(path.clone())))
            }
        };
        let (listener, path) = bound.map_err(|error| BindError::Bind {
            failed: format!("{address}: {error}"),
            keys: "admin",
        })?;
        let scheme = if path.is_some() { "unix:" } else { "http://" };
        info!("health and metrics on {scheme}{listener}");
        let mut listeners = Self::new(vec![listener]);
        listeners.path = path;
        Ok(listeners)
    }

    /// Returns the next connection. Failures are logged, and accepting continues.
    pub(crate) async fn accept(&mut self) -> Socket {
        loop {
            match self.try_accept().await {
                Ok(socket) => return socket,
                // The client disconnected while it waited.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    if let Some(more) = self.refused.take() {
                        error!(
                            "cannot accept a connection: {error}{more}; check the limit on open files"
                        );
                    }
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    async fn try_accept(&self) -> io::Result<Socket> {
        let accepts = (self.sockets.iter()).map(|socket| Box::pin(socket.accept()));
        future::select_all(accepts).await.0
    }
}

impl Drop for Listeners {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            let _ = std::fs::remove_file(path);
        }
    }
}

impl Accepting {
    fn from_tcp(socket: std::net::TcpListener) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        if let Err(error) = configure(SockRef::from(&socket)) {
            warn!("connections will not be configured: {error}");
        }
        TcpListener::from_std(socket).map(Self::Tcp)
    }

    fn from_unix(socket: std::os::unix::net::UnixListener) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        UnixListener::from_std(socket).map(Self::Unix)
    }

    async fn accept(&self) -> io::Result<Socket> {
        match self {
            Self::Tcp(socket) => Ok(Either::Left(socket.accept().await?.0)),
            Self::Unix(socket) => Ok(Either::Right(socket.accept().await?.0)),
        }
    }

    /// Whether this socket has the address `listen`, without resolving names.
    fn is(&self, listen: &Listen) -> bool {
        match (self, &listen.host) {
            (Self::Unix(socket), Host::Socket(path)) => {
                (socket.local_addr()).is_ok_and(|address| address.as_pathname() == Some(path))
            }
            (Self::Tcp(socket), host) => socket.local_addr().is_ok_and(|address| {
                let same_host = match host {
                    Host::Any => address.ip().is_unspecified(),
                    Host::Address(ip) => address.ip() == *ip,
                    Host::Name(_) => true,
                    Host::Socket(_) => false,
                };
                same_host && address.port() == listen.port
            }),
            _ => false,
        }
    }
}

impl fmt::Display for Accepting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(socket) => match socket.local_addr() {
                Ok(address) => address.fmt(f),
                Err(error) => write!(f, "an unknown address ({error})"),
            },
            Self::Unix(socket) => {
                let address = socket.local_addr().ok();
                match address.as_ref().and_then(|address| address.as_pathname()) {
                    Some(path) => path.display().fmt(f),
                    None => f.write_str("a Unix socket without a name"),
                }
            }
        }
    }
}

/// Options of the listening sockets. On Linux, accepted connections inherit them.
fn configure(socket: SockRef<'_>) -> io::Result<()> {
    // An event is one small write, and has to be sent at once.
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(
        &TcpKeepalive::new()
            .with_time(KEEPALIVE_IDLE)
            .with_interval(KEEPALIVE_INTERVAL)
            .with_retries(3),
    )?;
    socket.set_tcp_user_timeout(Some(USER_TIMEOUT))
}

/// Binds an address. A name with several addresses has several sockets.
async fn bind(listen: &Listen) -> io::Result<Vec<Accepting>> {
    let port = listen.port;
    Ok(match &listen.host {
        Host::Socket(path) => vec![Accepting::Unix(bind_unix(path).await?)],
        Host::Any => vec![bind_any(port)?],
        Host::Address(ip) => vec![bind_tcp(SocketAddr::new(*ip, port))?],
        Host::Name(name) => bind_name(name, port).await?,
    })
}

/// IPv6 and IPv4 in one socket, or only IPv4 on a machine without IPv6.
fn bind_any(port: u16) -> io::Result<Accepting> {
    match bind_tcp(SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port)) {
        Err(error) if !has_ipv6() => {
            warn!("no IPv6 on this machine ({error}): listening on 0.0.0.0 instead of [::]");
            bind_tcp(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port))
        }
        other => other,
    }
}

/// Whether IPv6 sockets can be bound at all; there are several ways to disable IPv6.
fn has_ipv6() -> bool {
    std::net::UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)).is_ok()
}

fn bind_tcp(address: SocketAddr) -> io::Result<Accepting> {
    let domain = Domain::for_address(address);
    let socket = RawSocket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
    if address.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED) {
        // Independent of the sysctl net.ipv6.bindv6only.
        socket.set_only_v6(false)?;
    }
    // A restarted daemon must not wait until the connections of the old one time out.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Accepting::from_tcp(socket.into())
}

/// Binds all addresses of a name; `localhost` has two on most machines.
async fn bind_name(name: &str, port: u16) -> io::Result<Vec<Accepting>> {
    let addresses: Vec<SocketAddr> = tokio::net::lookup_host((name, port)).await?.collect();
    let mut listeners = Vec::new();
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for (index, address) in addresses.iter().enumerate() {
        if addresses[..index].contains(address) {
            continue;
        }
        match bind_tcp(*address) {
            Ok(listener) => listeners.push(listener),
            Err(error) => {
                warn!("cannot listen on {address}: {error}");
                last = error;
            }
        }
    }
    if listeners.is_empty() {
        Err(last)
    } else {
        Ok(listeners)
    }
}

/// A Unix socket that every user can connect to, because the proxy or monitoring is another user: a stream is protected by its
/// session, and the admin listener shows no user and no incident. A stale socket is replaced.
async fn bind_unix(path: &Path) -> io::Result<UnixListener> {
    match UnixStream::connect(path).await {
        Ok(_) => return Err(io::ErrorKind::AddrInUse.into()),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path)?;
        }
        Err(_) => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o666))?;
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpStream;

    use super::*;

    #[tokio::test]
    async fn connections_notice_a_peer_that_is_gone_and_send_at_once() {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let listening = bind_tcp(address).unwrap();
        let Accepting::Tcp(socket) = &listening else {
            panic!("{listening} is no TCP socket");
        };
        let _client = TcpStream::connect(socket.local_addr().unwrap()).await;
        let Ok(Either::Left(accepted)) = listening.accept().await else {
            panic!("no connection");
        };
        let accepted = SockRef::from(&accepted);
        assert!(accepted.tcp_nodelay().unwrap());
        assert!(accepted.keepalive().unwrap());
        assert_eq!(accepted.tcp_keepalive_time().unwrap(), KEEPALIVE_IDLE);
        let interval = accepted.tcp_keepalive_interval().unwrap();
        assert_eq!(interval, KEEPALIVE_INTERVAL);
        assert_eq!(accepted.tcp_keepalive_retries().unwrap(), 3);
        let timeout = accepted.tcp_user_timeout().unwrap();
        assert_eq!(timeout, Some(USER_TIMEOUT));
    }
}

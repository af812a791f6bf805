//! Where connections come from: the sockets that `[daemon] host` and `port` name.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::future;
use log::{debug, error, info, warn};
use socket2::{Domain, Protocol, SockRef, Socket as RawSocket, TcpKeepalive, Type};
use tokio::net::{TcpListener, UnixListener, UnixStream};

use super::socket::Socket;
use crate::burst::Burst;
use crate::config::{Daemon, Host};

/// Connections that the kernel queues while the accept loop is busy; it caps this at
/// `net.core.somaxconn`, 4096 by default.
const BACKLOG: i32 = 4096;

/// A peer that vanished without a word is noticed after one probe at this age and two more.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
/// Time between those probes.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
/// What was sent must be acknowledged within this time (`TCP_USER_TIMEOUT`, tcp(7)).
const USER_TIMEOUT: Duration = Duration::from_secs(60);

/// Pause after the operating system refused a connection, for example for want of file descriptors:
/// it would refuse the next one in the same microsecond.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The listening sockets.
#[derive(Debug)]
pub struct Listener {
    tcp: Vec<TcpListener>,
    unix: Option<(UnixListener, PathBuf)>,
    refused: Burst,
}

/// A socket that could not be bound.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {source}; check [daemon] {keys}, and who else listens there")]
pub struct Error {
    address: String,
    /// What names the address in `config.ini`.
    keys: &'static str,
    source: io::Error,
}

impl Listener {
    /// Binds what `daemon` names and logs each address.
    ///
    /// # Errors
    ///
    /// If nothing could be bound.
    pub async fn bind(daemon: &Daemon) -> Result<Self, Error> {
        let port = daemon.port;
        let failed = |address: String| {
            move |source| Error {
                address,
                keys: "host and port",
                source,
            }
        };
        let tcp = match &daemon.host {
            Host::Socket(path) => {
                let listener = bind_unix(path)
                    .await
                    .map_err(failed(path.display().to_string()))?;
                info!("listening on {}", path.display());
                return Ok(Self {
                    tcp: vec![],
                    unix: Some((listener, path.clone())),
                    refused: Burst::default(),
                });
            }
            Host::Any => vec![bind_any(port).map_err(failed(format!("[::]:{port}")))?],
            Host::Address(ip) => {
                let address = SocketAddr::new(*ip, port);
                vec![bind_tcp(address).map_err(failed(address.to_string()))?]
            }
            Host::Name(name) => bind_name(name, port)
                .await
                .map_err(failed(format!("{name}:{port}")))?,
        };
        for listener in &tcp {
            if let Ok(address) = listener.local_addr() {
                info!("listening on {address}");
            }
        }
        Ok(Self {
            tcp,
            unix: None,
            refused: Burst::default(),
        })
    }

    /// Binds the address where monitoring asks, and logs it.
    ///
    /// # Errors
    ///
    /// If it could not be bound.
    pub fn bind_admin(address: SocketAddr) -> Result<Self, Error> {
        let listener = bind_tcp(address).map_err(|source| Error {
            address: address.to_string(),
            keys: "admin",
            source,
        })?;
        if let Ok(address) = listener.local_addr() {
            info!("health and metrics on http://{address}");
        }
        Ok(Self {
            tcp: vec![listener],
            unix: None,
            refused: Burst::default(),
        })
    }

    /// The next connection. Failures are logged and survived.
    pub(crate) async fn accept(&mut self) -> Socket {
        loop {
            match self.try_accept().await {
                Ok(socket) => return socket,
                // The client gave up while it waited.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    if let Some(more) = self.refused.take() {
                        error!(
                            "cannot accept a connection: {error}{more}; see the limit on open files"
                        );
                    }
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    async fn try_accept(&self) -> io::Result<Socket> {
        if let Some((listener, _)) = &self.unix {
            let (stream, _) = listener.accept().await?;
            return Ok(Socket::Unix(stream));
        }
        let accepts = self.tcp.iter().map(|listener| Box::pin(listener.accept()));
        let (accepted, ..) = future::select_all(accepts).await;
        let (stream, _) = accepted?;
        if let Err(error) = configure(SockRef::from(&stream)) {
            debug!("a connection could not be configured: {error}");
        }
        Ok(Socket::Tcp(stream))
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Some((_, path)) = &self.unix {
            let _ = std::fs::remove_file(path);
        }
    }
}

fn configure(socket: SockRef<'_>) -> io::Result<()> {
    // An event is one small write, and wanted at once.
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(
        &TcpKeepalive::new()
            .with_time(KEEPALIVE_IDLE)
            .with_interval(KEEPALIVE_INTERVAL)
            .with_retries(3),
    )?;
    socket.set_tcp_user_timeout(Some(USER_TIMEOUT))
}

/// IPv6 and IPv4 in one socket, or IPv4 where the machine has no IPv6.
fn bind_any(port: u16) -> io::Result<TcpListener> {
    match bind_tcp(SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port)) {
        Err(error) if !has_ipv6() => {
            warn!("no IPv6 on this machine ({error}): listening on 0.0.0.0 instead of [::]");
            bind_tcp(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port))
        }
        other => other,
    }
}

/// Whether the machine lets IPv6 sockets be bound at all, whichever way it was switched off.
fn has_ipv6() -> bool {
    std::net::UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)).is_ok()
}

fn bind_tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let domain = Domain::for_address(address);
    let socket = RawSocket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
    if address.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED) {
        // Whatever the sysctl net.ipv6.bindv6only says.
        socket.set_only_v6(false)?;
    }
    // A restarted daemon must not wait for the old one's connections to time out.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Every address of a name that can be bound; `localhost` is two of them on most machines.
async fn bind_name(name: &str, port: u16) -> io::Result<Vec<TcpListener>> {
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

/// A Unix socket that the proxy, another user, may connect to: what protects a stream is its session,
/// not who connects. A socket that nobody listens on any more is replaced.
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

//! The listener for browsers: forwards their connections to nginx, and drops alice's data while her network is cut.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::sleep;

use crate::health::Health;

/// The first port to try.
const PORT: u16 = 8080;

/// How long alice's network stays cut.
const CUT: Duration = Duration::from_secs(10);

/// The maximum size of a request's header.
const HEADER: usize = 16 * 1024;

/// The listeners for browsers.
pub(crate) struct Front {
    listeners: Vec<TcpListener>,
    network: Arc<Network>,
}

/// Whether bytes from and to alice's browser pass.
pub(crate) struct Network(watch::Sender<Health>);

impl Network {
    /// Whether they pass.
    pub(crate) fn health(&self) -> watch::Receiver<Health> {
        self.0.subscribe()
    }

    /// Cuts it, unless it is cut already, and connects it some time later.
    pub(crate) async fn outage(&self) {
        if Health::fails(&self.0) {
            Health::recovers(&self.0, CUT).await;
        }
    }
}

impl Front {
    /// Listens on a free port of the loopback interface, over IPv4 and, if available, IPv6, which browsers try first.
    pub(crate) async fn bind() -> io::Result<(Self, u16)> {
        let mut port = PORT;
        let listeners = loop {
            match listen(port).await {
                Err(error) if error.kind() == io::ErrorKind::AddrInUse && port < PORT + 100 => {
                    port += 1;
                }
                listeners => break listeners?,
            }
        };
        let network = Arc::new(Network(watch::Sender::default()));
        Ok((Self { listeners, network }, port))
    }

    /// Alice's network.
    pub(crate) fn network(&self) -> Arc<Network> {
        Arc::clone(&self.network)
    }

    /// Forwards connections to nginx.
    pub(crate) async fn run(self, nginx: u16) {
        let accepting = self.listeners.into_iter().map(|listener| {
            let network = Arc::clone(&self.network);
            async move {
                loop {
                    match listener.accept().await {
                        Ok((browser, _)) => {
                            tokio::spawn(pass(browser, nginx, network.health()));
                        }
                        // For example without file descriptors: browsers retry.
                        Err(_) => sleep(Duration::from_millis(100)).await,
                    }
                }
            }
        });
        futures::future::join_all(accepting).await;
    }
}

async fn listen(port: u16) -> io::Result<Vec<TcpListener>> {
    let mut listeners = vec![TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?];
    match TcpListener::bind((Ipv6Addr::LOCALHOST, port)).await {
        Ok(listener) => listeners.push(listener),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => return Err(error),
        Err(_) => {}
    }
    Ok(listeners)
}

/// Forwards a browser's connection. One of alice's that is open during a cut is silent until the cut ends, without a FIN, and
/// then breaks, as for a laptop that leaves a network and returns in another one. Data on its way is lost.
async fn pass(mut browser: TcpStream, nginx: u16, mut network: watch::Receiver<Health>) {
    let Ok(header) = first_header(&mut browser).await else {
        return;
    };
    let Ok(mut server) = TcpStream::connect((Ipv4Addr::LOCALHOST, nginx)).await else {
        return;
    };
    let copying = async {
        server.write_all(&header).await?;
        copy_bidirectional(&mut browser, &mut server).await
    };
    let cut = async {
        if is_alices(&header) {
            drop(network.wait_for(|health| !health.up).await);
        } else {
            std::future::pending().await
        }
    };
    tokio::select! {
        // It may be cut already.
        biased;
        () = cut => {}
        _ = copying => return,
    }
    // With both connections still open.
    let _ = network.wait_for(|health| health.up).await;
}

/// The first request's header, and what came with it.
async fn first_header(browser: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut header = Vec::new();
    while !header.windows(4).any(|end| end == b"\r\n\r\n") {
        if header.len() > HEADER || browser.read_buf(&mut header).await? == 0 {
            return Err(io::ErrorKind::InvalidData.into());
        }
    }
    Ok(header)
}

/// Whether a request is for alice's desktop, and so all others of its connection: browsers have separate connections for each
/// host.
fn is_alices(header: &[u8]) -> bool {
    let header = String::from_utf8_lossy(header).to_ascii_lowercase();
    header.contains("\r\nhost: alice.")
}

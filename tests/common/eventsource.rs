//! A tab with an EventSource, over HTTP/1.1 or HTTP/2 with TLS: what ends it for good, when it reconnects, and what it sends is
//! as observed in real browsers.

use std::convert::Infallible;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use openssl::ssl::{SslConnector, SslMethod};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_openssl::SslStream;

use super::apache::Apache;
use super::nginx::Nginx;
use super::sse::{AGENT, Block, EVENT_TIMEOUT};
use super::wait::TIMEOUT;

/// What Icinga Web's clients subscribe to.
const PATH: &str = "/icingaweb2/notifications/v1/subscribe";

/// When a tab reconnects without a `retry:`: Chromium's choice.
const DEFAULT_RETRY: Duration = Duration::from_secs(3);

/// A reverse proxy, or the daemon itself, and how to connect to it.
#[derive(Clone, Debug)]
pub(crate) struct Site {
    address: String,
    user_agent: String,
    /// Whether the browser sends `Last-Event-ID`: Firefox does, and any other without a service worker.
    names: bool,
    /// The certificate to trust; then HTTP/2 over TLS, else HTTP/1.1.
    http2: Option<PathBuf>,
    /// The browser's address.
    client: Option<IpAddr>,
}

impl Nginx {
    /// Over HTTP/1.1, and over HTTP/2.
    pub(crate) fn sites(&self) -> [Site; 2] {
        Site::both(&self.address, &self.tls_address, &self.certificate.file)
    }
}

impl Apache {
    /// Over HTTP/1.1, and over HTTP/2.
    pub(crate) fn sites(&self) -> [Site; 2] {
        Site::both(&self.address, &self.tls_address, &self.certificate.file)
    }
}

impl Site {
    /// The daemon itself, and a browser with this user agent that sends `Last-Event-ID`.
    pub(crate) fn daemon(address: &str, user_agent: &str) -> Self {
        Self {
            address: address.to_owned(),
            user_agent: user_agent.to_owned(),
            names: true,
            http2: None,
            client: None,
        }
    }

    /// The same with a browser that does not send `Last-Event-ID`: Chromium with Icinga Web's service worker.
    pub(crate) fn unnamed(self) -> Self {
        Self {
            names: false,
            ..self
        }
    }

    /// The same with a browser that sends `Last-Event-ID`.
    pub(crate) fn naming(self) -> Self {
        Self {
            names: true,
            ..self
        }
    }

    /// The same from a browser at this address.
    pub(crate) fn from(&self, client: IpAddr) -> Self {
        Self {
            client: Some(client),
            ..self.clone()
        }
    }

    async fn connect(&self) -> std::io::Result<TcpStream> {
        let Some(client) = self.client else {
            return TcpStream::connect(&self.address).await;
        };
        let socket = TcpSocket::new_v4()?;
        socket.bind((client, 0).into())?;
        let address = self.address.parse().map_err(std::io::Error::other)?;
        socket.connect(address).await
    }

    /// The address of Icinga Web for a browser.
    pub(crate) fn url(&self) -> String {
        let scheme = if self.http2.is_some() {
            "https"
        } else {
            "http"
        };
        format!("{scheme}://{}/icingaweb2/", self.address)
    }

    fn both(address: &str, tls_address: &str, certificate: &std::path::Path) -> [Self; 2] {
        [
            Self::daemon(address, AGENT).unnamed(),
            Self {
                http2: Some(certificate.to_owned()),
                ..Self::daemon(tls_address, AGENT).unnamed()
            },
        ]
    }
}

/// A connection of a browser to a proxy.
pub(crate) struct Connection {
    sender: Sender,
    driver: JoinHandle<()>,
}

enum Sender {
    Http1(http1::SendRequest<Empty<Bytes>>),
    Http2(http2::SendRequest<Empty<Bytes>>),
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Connection {
    pub(crate) async fn to(site: &Site) -> Self {
        let socket = site.connect().await;
        Self::over(socket.expect("the proxy accepts"), site).await
    }

    async fn over(socket: TcpStream, site: &Site) -> Self {
        let Some(certificate) = &site.http2 else {
            let (sender, connection) = http1::handshake(TokioIo::new(socket))
                .await
                .expect("a client");
            return Self {
                sender: Sender::Http1(sender),
                driver: tokio::spawn(async { drop(connection.await) }),
            };
        };
        let mut connector = SslConnector::builder(SslMethod::tls_client()).expect("OpenSSL");
        connector.set_ca_file(certificate).expect("a certificate");
        connector.set_alpn_protos(b"\x02h2").expect("a protocol");
        let ssl = connector
            .build()
            .configure()
            .and_then(|connector| connector.into_ssl("localhost"))
            .expect("OpenSSL");
        let mut stream = SslStream::new(ssl, socket).expect("OpenSSL");
        std::pin::Pin::new(&mut stream)
            .connect()
            .await
            .expect("the proxy speaks TLS");
        assert_eq!(
            stream.ssl().selected_alpn_protocol(),
            Some(&b"h2"[..]),
            "no HTTP/2"
        );
        let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .expect("HTTP/2");
        Self {
            sender: Sender::Http2(sender),
            driver: tokio::spawn(async { drop(connection.await) }),
        }
    }

    /// Whether it stays open when a stream is left: over HTTP/1.1 it closes.
    pub(crate) fn outlives_streams(&self) -> bool {
        matches!(self.sender, Sender::Http2(_))
    }

    /// Opens a stream.
    pub(crate) async fn subscribe(&mut self, session_id: &str) -> Response<Incoming> {
        self.ask(session_id, AGENT, None).await
    }

    async fn ask(
        &mut self,
        session_id: &str,
        user_agent: &str,
        last_event_id: Option<&str>,
    ) -> Response<Incoming> {
        let request = |uri: &str| {
            let request = Request::get(uri)
                .header("accept", "text/event-stream")
                .header("user-agent", user_agent)
                .header("cookie", format!("a=1; Icingaweb2={session_id}; b=2"));
            match last_event_id {
                Some(id) => request.header("last-event-id", id),
                None => request,
            }
        };
        let answer = async {
            match &mut self.sender {
                Sender::Http1(sender) => {
                    let request = request(PATH).header("host", "localhost");
                    sender.ready().await?;
                    sender
                        .send_request(request.body(Empty::new()).expect("a request"))
                        .await
                }
                Sender::Http2(sender) => {
                    let request = request(&format!("https://localhost{PATH}"));
                    sender.ready().await?;
                    sender
                        .send_request(request.body(Empty::new()).expect("a request"))
                        .await
                }
            }
        };
        timeout(TIMEOUT, answer)
            .await
            .expect("an answer in time")
            .expect("an answer")
    }
}

/// What happens to a tab.
#[derive(Debug)]
enum Heard {
    Block(Block),
    /// The stream has ended; the tab reconnects.
    Ended,
    /// The tab will not reconnect.
    Dead(String),
}

/// A tab that is open until dropped. It runs in a separate thread, so that it reconnects in time while the test waits for
/// something else.
pub(crate) struct EventSource {
    heard: mpsc::UnboundedReceiver<Heard>,
    _open: oneshot::Sender<Infallible>,
    /// How often one of its streams has ended, of those that were read.
    pub(crate) ended: u32,
}

impl EventSource {
    /// Opens a tab, and waits until the daemon has accepted it.
    pub(crate) async fn open(site: &Site, session_id: &str) -> Self {
        let mut tab = Self::start(site, session_id, None);
        tab.is_let_in().await;
        tab
    }

    /// Opens a tab like [`Self::open`] that has read up to `last_event_id` before.
    pub(crate) async fn resume(site: &Site, session_id: &str, last_event_id: &str) -> Self {
        let mut tab = Self::start(site, session_id, Some(last_event_id.to_owned()));
        tab.is_let_in().await;
        tab
    }

    /// Opens a tab, and waits until it is accepted, however often it is asked to come back later before.
    pub(crate) async fn open_at_last(site: &Site, session_id: &str) -> Self {
        let mut tab = Self::start(site, session_id, None);
        tab.wait_for(Block::is_mark).await;
        tab
    }

    fn start(site: &Site, session_id: &str, last_event_id: Option<String>) -> Self {
        let (sender, heard) = mpsc::unbounded_channel();
        let (site, session_id) = (site.clone(), session_id.to_owned());
        let (open, closed) = oneshot::channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            runtime.block_on(async {
                tokio::select! {
                    reason = run(&site, &session_id, last_event_id, &sender) => {
                        let _ = sender.send(Heard::Dead(format!("{reason}, at {site:?}")));
                    }
                    _ = closed => {}
                }
            });
        });
        Self {
            heard,
            _open: open,
            ended: 0,
        }
    }

    async fn is_let_in(&mut self) {
        let tab = self;
        let first = tab.block().await;
        assert_eq!(first.raw, ":\nretry: 3000\n\n");
        assert!(tab.block().await.is_mark());
    }

    /// The next event; the tab may have reconnected for it.
    pub(crate) async fn event(&mut self) -> Block {
        self.wait_for(Block::is_event).await
    }

    /// Waits for the end of a stream. Returns what arrived until then.
    pub(crate) async fn end(&mut self) -> Vec<Block> {
        let mut blocks = Vec::new();
        loop {
            match self.next().await {
                Heard::Block(block) => blocks.push(block),
                Heard::Ended => return blocks,
                Heard::Dead(reason) => panic!("the tab is dead: {reason}"),
            }
        }
    }

    /// Waits until the tab is refused for good. Returns what arrived until then.
    pub(crate) async fn refused(&mut self) -> Vec<Block> {
        let mut blocks = Vec::new();
        loop {
            match self.next().await {
                Heard::Block(block) => blocks.push(block),
                Heard::Ended => {}
                Heard::Dead(reason) => {
                    assert!(reason.contains("204"), "{reason}");
                    return blocks;
                }
            }
        }
    }

    /// Waits until the proxy has reported that the daemon is unreachable.
    pub(crate) async fn refused_by_proxy(&mut self) {
        self.wait_for(|block| {
            block
                .raw
                .starts_with(": the proxy cannot reach the daemon\n")
        })
        .await;
    }

    async fn wait_for(&mut self, fits: impl Fn(&Block) -> bool) -> Block {
        let waiting = async {
            loop {
                let block = self.block().await;
                if fits(&block) {
                    return block;
                }
            }
        };
        timeout(EVENT_TIMEOUT, waiting)
            .await
            .expect("what is waited for in time, not only comments")
    }

    async fn next(&mut self) -> Heard {
        let heard = timeout(TIMEOUT, self.heard.recv()).await;
        heard
            .expect("something in time")
            .expect("a tab says why it dies")
    }

    /// The next block, comments included.
    pub(crate) async fn block(&mut self) -> Block {
        loop {
            match self.next().await {
                Heard::Block(block) => return block,
                Heard::Ended => self.ended += 1,
                Heard::Dead(reason) => panic!("the tab is dead: {reason}"),
            }
        }
    }
}

/// Follows one stream after the other, and retries connections that fail. Returns why there is no further stream.
async fn run(
    site: &Site,
    session_id: &str,
    mut last_event_id: Option<String>,
    heard: &mpsc::UnboundedSender<Heard>,
) -> String {
    let mut retry = DEFAULT_RETRY;
    loop {
        let Ok(socket) = site.connect().await else {
            tokio::time::sleep(retry).await;
            continue;
        };
        let mut connection = Connection::over(socket, site).await;
        let named: Option<&String> = last_event_id.as_ref().filter(|_| site.names);
        let asked = connection.ask(session_id, &site.user_agent, named.map(String::as_str));
        let mut answer = asked.await;
        let kind = answer.headers().get("content-type");
        let is_stream = kind.is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"));
        if answer.status() != StatusCode::OK || !is_stream {
            return format!("answered {answer:?}");
        }
        let mut text = Vec::new();
        while let Some(frame) = answer.frame().await {
            match frame {
                // The worker does not pass that on: the tab waits forever.
                Err(error) => return format!("not a clean end: {error}"),
                Ok(frame) => text.extend(frame.into_data().unwrap_or_default()),
            }
            while let Some(end) = text.windows(2).position(|two| two == b"\n\n") {
                let block = block(text.drain(..end + 2).collect());
                if let Some(milliseconds) = block.retry {
                    retry = Duration::from_millis(milliseconds);
                }
                if block.id.is_some() && block.data.is_some() {
                    last_event_id.clone_from(&block.id);
                }
                let _ = heard.send(Heard::Block(block));
            }
        }
        let _ = heard.send(Heard::Ended);
        tokio::time::sleep(retry).await;
    }
}

fn block(bytes: Vec<u8>) -> Block {
    let raw = String::from_utf8(bytes).expect("text");
    let mut block = Block::default();
    raw.trim_end_matches('\n')
        .split('\n')
        .for_each(|line| block.add(line));
    Block { raw, ..block }
}

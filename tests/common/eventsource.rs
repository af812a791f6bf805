//! A tab with an EventSource, over HTTP/1.1 or HTTP/2 with TLS: what ends it for good, when it comes back, and what it
//! never sends, is as seen in a real browser behind Icinga Web's service worker.

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use openssl::ssl::{SslConnector, SslMethod};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_openssl::SslStream;

use super::apache::Apache;
use super::nginx::Nginx;
use super::sse::{AGENT, Block, EVENT_PATIENCE};
use super::wait::PATIENCE;

/// What Icinga Web's clients subscribe to.
const PATH: &str = "/icingaweb2/notifications/v1/subscribe";

/// When a tab comes back that was not told: Chromium's choice.
const DEFAULT_RETRY: Duration = Duration::from_secs(3);

/// A reverse proxy, and the protocol to speak with it.
#[derive(Clone, Debug)]
pub(crate) struct Site {
    address: String,
    /// The certificate to trust; then HTTP/2 over TLS, else HTTP/1.1.
    http2: Option<PathBuf>,
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
    /// Where a browser finds Icinga Web.
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
            Self {
                address: address.to_owned(),
                http2: None,
            },
            Self {
                address: tls_address.to_owned(),
                http2: Some(certificate.to_owned()),
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
        let socket = TcpStream::connect(&site.address)
            .await
            .expect("the proxy accepts");
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

    /// Whether it stays when a stream is left: over HTTP/1.1 it closes.
    pub(crate) fn outlives_streams(&self) -> bool {
        matches!(self.sender, Sender::Http2(_))
    }

    /// Opens a stream.
    pub(crate) async fn subscribe(&mut self, session_id: &str) -> Response<Incoming> {
        let request = |uri: &str| {
            Request::get(uri)
                .header("accept", "text/event-stream")
                .header("user-agent", AGENT)
                .header("cookie", format!("a=1; Icingaweb2={session_id}; b=2"))
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
        timeout(PATIENCE, answer)
            .await
            .expect("an answer in time")
            .expect("an answer")
    }
}

/// What happens to a tab.
#[derive(Debug)]
enum Heard {
    Block(Block),
    /// The stream has ended; the tab comes back.
    Ended,
    /// The tab will never come back.
    Dead(String),
}

/// A tab that is open until dropped.
pub(crate) struct EventSource {
    heard: mpsc::UnboundedReceiver<Heard>,
    task: JoinHandle<()>,
    /// How often a stream of it has ended, of those that were looked at.
    pub(crate) ended: u32,
}

impl Drop for EventSource {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl EventSource {
    /// Opens a tab, and waits until the daemon has let it in.
    pub(crate) async fn open(site: &Site, session_id: &str) -> Self {
        let (sender, heard) = mpsc::unbounded_channel();
        let (site, session_id) = (site.clone(), session_id.to_owned());
        let task = tokio::spawn(async move {
            let reason = run(&site, &session_id, &sender).await;
            let _ = sender.send(Heard::Dead(format!("{reason}, at {site:?}")));
        });
        let mut tab = Self {
            heard,
            task,
            ended: 0,
        };
        let first = tab.block().await;
        assert_eq!(first.raw, ":\nretry: 3000\n\n");
        tab
    }

    /// The next event; the tab may have come back for it.
    pub(crate) async fn event(&mut self) -> Block {
        self.wait_for(|block| block.data.is_some()).await
    }

    /// Waits until the proxy has told it that the daemon is away.
    pub(crate) async fn told_away(&mut self) {
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
        timeout(EVENT_PATIENCE, waiting)
            .await
            .expect("what is waited for in time, not only comments")
    }

    /// The next block, comments included.
    async fn block(&mut self) -> Block {
        loop {
            let heard = timeout(PATIENCE, self.heard.recv())
                .await
                .expect("a block in time")
                .expect("a tab says why it dies");
            match heard {
                Heard::Block(block) => return block,
                Heard::Ended => self.ended += 1,
                Heard::Dead(reason) => panic!("the tab is dead: {reason}"),
            }
        }
    }
}

/// Follows one stream after the other. Returns why there will be no further one.
async fn run(site: &Site, session_id: &str, heard: &mpsc::UnboundedSender<Heard>) -> String {
    let mut retry = DEFAULT_RETRY;
    loop {
        let mut connection = Connection::to(site).await;
        let mut answer = connection.subscribe(session_id).await;
        let kind = answer.headers().get("content-type");
        let is_stream = kind.is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"));
        if answer.status() != StatusCode::OK || !is_stream {
            return format!("answered {answer:?}");
        }
        let mut text = Vec::new();
        while let Some(frame) = answer.frame().await {
            match frame {
                // The worker does not pass that on: the tab waits for ever.
                Err(error) => return format!("not a clean end: {error}"),
                Ok(frame) => text.extend(frame.into_data().unwrap_or_default()),
            }
            while let Some(end) = text.windows(2).position(|two| two == b"\n\n") {
                let block = block(text.drain(..end + 2).collect());
                if let Some(milliseconds) = block.retry {
                    retry = Duration::from_millis(milliseconds);
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

//! `check --url`: follows a real stream, through the reverse proxy, as a signed-in browser does.

use std::fmt;
use std::io::{self, Write};
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, CONTENT_TYPE, COOKIE, HOST, LOCATION, USER_AGENT};
use hyper::{HeaderMap, Request, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use openssl::ssl::{SslConnector, SslMethod};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_openssl::SslStream;
use warp::http::HeaderValue;

use super::Checks;
use crate::auth::{Credentials, Refusal};
use crate::config::Secret;
use crate::database::Session;
use crate::database::describe;

/// How long connecting may take, TLS included.
const CONNECT: Duration = Duration::from_secs(10);

/// How long the head and the first bytes may take: the daemon writes both at once.
const FIRST: Duration = Duration::from_secs(5);

/// How much later than the daemon writes it a comment may arrive.
const LATE: Duration = Duration::from_secs(5);

/// What may arrive without a blank line, in bytes. An event has less than 20,000.
const BLOCK_LIMIT: usize = 64 * 1024;

/// What the shipped files of the proxies let them say while the daemon is away.
const AWAY: &[u8] = b": the proxy cannot reach the daemon\n";

/// What to do when the proxy does not reach the daemon.
const NOT_REACHED: &str = "the proxy does not reach the daemon: see that it runs, and that the address in the proxy's \
     configuration is that of [daemon] host and port";

/// What to do when bytes come late.
const UNBUFFER: &str = "if the proxy is nginx, it needs proxy_buffering off, and no proxy_ignore_headers with \
     X-Accel-Buffering; if it is Apache, flushpackets=on; another proxy in front of it must pass on each byte at once, too";

/// Where browsers find Icinga Web: `http://` or `https://`, a host, perhaps a port, and the path it is mounted at.
#[derive(Debug, Clone)]
pub struct Address(Uri);

impl Address {
    /// Reads it from a command line.
    ///
    /// # Errors
    ///
    /// What is wrong, for whoever typed it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let uri: Uri = text.trim_end_matches('/').parse().map_err(|_| EXPECTED)?;
        let fine = matches!(uri.scheme_str(), Some("http" | "https"))
            && (uri.authority()).is_some_and(|authority| !authority.as_str().contains('@'))
            && uri.query().is_none();
        if fine {
            Ok(Self(uri))
        } else {
            Err(EXPECTED.to_owned())
        }
    }

    fn is_encrypted(&self) -> bool {
        self.0.scheme_str() == Some("https")
    }

    /// Without the brackets around an IPv6 address.
    fn host(&self) -> &str {
        let host = self.0.host().unwrap_or_default();
        host.trim_start_matches('[').trim_end_matches(']')
    }

    fn port(&self) -> u16 {
        let default = if self.is_encrypted() { 443 } else { 80 };
        self.0.port_u16().unwrap_or(default)
    }

    fn authority(&self) -> &str {
        self.0
            .authority()
            .map_or("", |authority| authority.as_str())
    }

    /// The path of the stream.
    fn path(&self) -> String {
        let base = self.0.path().trim_end_matches('/');
        format!("{base}/notifications/v1/subscribe")
    }
}

/// What an [`Address`] looks like.
const EXPECTED: &str = "expected an address such as https://monitoring.example.com/icingaweb2";

/// A browser to stand in for.
#[derive(Debug)]
pub struct Visit {
    /// Where browsers find Icinga Web.
    pub address: Address,
    /// The value of the browser's cookie.
    pub cookie: Secret,
    /// What the browser calls itself; `None` is what it called itself when it signed in.
    pub user_agent: Option<String>,
}

/// Something is amiss: what to do about it.
type Problem = String;

impl<W: Write> Checks<'_, W> {
    /// Follows a stream for as long as the daemon may be silent, `keep_alive`, and a little longer.
    pub(super) async fn follow(
        &mut self,
        visit: &Visit,
        session: &Session,
        keep_alive: Duration,
    ) -> io::Result<()> {
        let headers = match sign_in(visit, session).await {
            Ok((headers, contact_id)) => {
                self.report("sign-in", Ok(format!("of contact {contact_id}")))?;
                headers
            }
            Err(problem) => return self.report("sign-in", Err(problem)),
        };
        let (socket, how) = match connect(&visit.address).await {
            Ok(connected) => connected,
            Err(problem) => return self.report("proxy", Err(problem)),
        };
        self.report("proxy", Ok(how))?;
        let asked = Instant::now();
        let answer = match ask(socket, &visit.address, headers).await {
            Ok(answer) => answer,
            Err(problem) => return self.report("answer", Err(problem)),
        };
        self.report("answer", Ok("an event stream".to_owned()))?;
        let mut stream = Stream {
            body: answer.into_body(),
            text: Vec::new(),
        };
        let first = stream.first(asked).await;
        let came = first.is_ok();
        let at_once = first.map(|()| format!("at once, after {:.1?}", asked.elapsed()));
        self.report("first bytes", at_once)?;
        if !came {
            return Ok(());
        }
        let mut events = 0;
        writeln!(
            self.out,
            "      the daemon breaks a silence after {keep_alive:?}: waiting for that"
        )?;
        let silence = stream.silence(keep_alive, &mut events).await;
        self.report("silence", silence)?;
        if events > 0 {
            writeln!(
                self.out,
                "note  events that came to this check in place of a tab of the browser: {events}; look at Icinga Web"
            )?;
        }
        Ok(())
    }
}

/// The headers of a browser that the daemon lets in, and its contact.
async fn sign_in(visit: &Visit, session: &Session) -> Result<(HeaderMap, i64), Problem> {
    let malformed = || refused(Refusal::Malformed);
    let mut headers = HeaderMap::new();
    let mut cookie = HeaderValue::from_str(&format!("Icingaweb2={}", visit.cookie.expose()))
        .map_err(|_| malformed())?;
    cookie.set_sensitive(true);
    headers.insert(COOKIE, cookie);
    let user_agent = match &visit.user_agent {
        Some(user_agent) => user_agent.clone(),
        None => Credentials::read(&headers)
            .map_err(refused)?
            .signed_in_as(session)
            .await
            .map_err(|error| describe(&error))?
            .ok_or_else(|| refused(Refusal::UnknownSession))?,
    };
    let user_agent = HeaderValue::from_bytes(user_agent.as_bytes()).map_err(|_| malformed())?;
    headers.insert(USER_AGENT, user_agent);
    let credentials = Credentials::read(&headers).map_err(refused)?;
    let sign_in = credentials
        .sign_in(session)
        .await
        .map_err(|error| describe(&error))?
        .map_err(refused)?;
    Ok((headers, sign_in.contact_id))
}

fn refused(refusal: Refusal) -> Problem {
    let advice = match refusal {
        Refusal::NoCookie | Refusal::Malformed | Refusal::UnknownSession => {
            "sign in to Icinga Web, and take the value of the cookie Icingaweb2 from the browser"
        }
        Refusal::UserAgent => {
            "leave --user-agent out: then it is the one that the browser signed in with"
        }
        Refusal::Superseded => {
            "sign in again; of browsers with the same user and user agent, the last one counts"
        }
        Refusal::NoContact => {
            "in Icinga Web, give a contact of Icinga Notifications this user's name"
        }
    };
    format!("{refusal}; {advice}")
}

/// Any connection.
trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// A connection to the proxy, and what can be said about it.
async fn connect(address: &Address) -> Result<(Box<dyn Io>, String), Problem> {
    let (host, port) = (address.host(), address.port());
    let to = format!("{host} port {port}");
    let connecting = async {
        let socket = TcpStream::connect((host, port))
            .await
            .map_err(|error| format!("cannot connect to {to}: {error}"))?;
        if !address.is_encrypted() {
            let how = format!("{to}, not encrypted: session ids can be read on the way");
            return Ok((Box::new(socket) as Box<dyn Io>, how));
        }
        let (stream, version) = encrypt(socket, host).await.map_err(|error| {
            format!(
                "no TLS with {to}: {error}; the certificate has to be valid for that name, and of an authority that this \
                 machine knows, or that is in the file that the environment variable SSL_CERT_FILE names"
            )
        })?;
        let how = format!("{to}, {version}, valid certificate");
        Ok((Box::new(stream) as Box<dyn Io>, how))
    };
    timeout(CONNECT, connecting)
        .await
        .unwrap_or_else(|_| Err(format!("no connection to {to} within {CONNECT:?}")))
}

/// What went wrong with TLS.
struct TlsError(String);

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<openssl::error::ErrorStack> for TlsError {
    fn from(error: openssl::error::ErrorStack) -> Self {
        Self(error.to_string())
    }
}

async fn encrypt(
    socket: TcpStream,
    host: &str,
) -> Result<(SslStream<TcpStream>, &'static str), TlsError> {
    let mut connector = SslConnector::builder(SslMethod::tls_client())?;
    // The first byte is the name's length.
    connector.set_alpn_protos(b"\x08http/1.1")?;
    let ssl = connector.build().configure()?.into_ssl(host)?;
    let mut stream = SslStream::new(ssl, socket)?;
    if let Err(error) = Pin::new(&mut stream).connect().await {
        let verified = stream.ssl().verify_result();
        return Err(TlsError(
            if verified == openssl::x509::X509VerifyResult::OK {
                error.to_string()
            } else {
                verified.error_string().to_owned()
            },
        ));
    }
    let version = stream.ssl().version_str();
    Ok((stream, version))
}

/// Asks for the stream. Any answer but a stream is a problem.
async fn ask(
    socket: Box<dyn Io>,
    address: &Address,
    headers: HeaderMap,
) -> Result<Response<Incoming>, Problem> {
    let asking = async {
        let (mut sender, connection) = http1::handshake(TokioIo::new(socket)).await?;
        // It ends with the answer's body.
        tokio::spawn(connection);
        let mut request = Request::new(Empty::<Bytes>::new());
        *request.uri_mut() = address.path().parse().unwrap_or_default();
        *request.headers_mut() = headers;
        request
            .headers_mut()
            .insert(ACCEPT, HeaderValue::from_static("text/event-stream"));
        if let Ok(host) = HeaderValue::from_str(address.authority()) {
            request.headers_mut().insert(HOST, host);
        }
        sender.send_request(request).await
    };
    let answer = timeout(FIRST, asking)
        .await
        .map_err(|_| {
            format!(
                "none within {FIRST:?}: it is held back, or the daemon does not answer; {UNBUFFER}"
            )
        })?
        .map_err(|error: hyper::Error| format!("the connection failed: {error}"))?;
    judge(&answer)?;
    Ok(answer)
}

/// Whether that is an event stream, and if not, why.
fn judge(answer: &Response<Incoming>) -> Result<(), Problem> {
    let text = |name| {
        let value = answer.headers().get(name);
        value
            .and_then(|value: &HeaderValue| value.to_str().ok())
            .unwrap_or_default()
    };
    let status = answer.status();
    let advice = match status {
        StatusCode::OK if text(CONTENT_TYPE).starts_with("text/event-stream") => return Ok(()),
        StatusCode::OK => {
            return Err(format!(
                "a page ({}), not an event stream: the request went to Icinga Web or another site; include the shipped file in \
                 this server or virtual host, before other locations, with the path of --url in place of /icingaweb2",
                text(CONTENT_TYPE)
            ));
        }
        StatusCode::NO_CONTENT => {
            "not let in, although the sign-in is fine: either two tabs of this browser have streams already (close one), or \
             the proxy does not pass on the cookie or the user agent"
                .to_owned()
        }
        StatusCode::NOT_FOUND => {
            "nothing there: see that --url is where Icinga Web is mounted, and that the shipped file names the same path"
                .to_owned()
        }
        StatusCode::BAD_REQUEST => {
            "the daemon does not speak that version of the protocol: the proxy has to set the header \
             X-Icinga-Notifications-Protocol-Version to the number in the path, 1"
                .to_owned()
        }
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            "the proxy lets nobody through to the daemon: look at its access rules for this path".to_owned()
        }
        StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT => {
            format!(
                "{NOT_REACHED}. Browsers that meet this status stay silent until their page is reloaded: include the shipped \
                 file, which answers them something else"
            )
        }
        status if status.is_redirection() => format!(
            "redirected to {}: give the address that browsers use",
            text(LOCATION)
        ),
        _ => "not from the daemon: look at the log of the proxy".to_owned(),
    };
    Err(format!("status {}: {advice}", status.as_u16()))
}

/// A stream that is being read.
struct Stream {
    body: Incoming,
    /// What does not end with a blank line yet.
    text: Vec<u8>,
}

impl Stream {
    /// The next block, its blank line included; `None` at the end, be it clean or not.
    async fn block(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Some(end) = self.text.windows(2).position(|two| two == b"\n\n") {
                return Some(self.text.drain(..end + 2).collect());
            }
            if self.text.len() > BLOCK_LIMIT {
                return None;
            }
            let frame = self.body.frame().await?.ok()?;
            self.text.extend(frame.into_data().unwrap_or_default());
        }
    }

    /// Reads the block that each stream begins with.
    async fn first(&mut self, asked: Instant) -> Result<(), Problem> {
        let block = timeout_at(asked + FIRST, self.block())
            .await
            .map_err(|_| format!("none within {FIRST:?}: they are held back; {UNBUFFER}"))?;
        match block {
            Some(block) if block.starts_with(AWAY) => Err(NOT_REACHED.to_owned()),
            Some(block) if block.starts_with(b":\n") => Ok(()),
            Some(block) if block.starts_with(b"retry:") => Err(
                "the daemon tells browsers to come back later: it is stopping, full, or without its database; its log says \
                 which"
                    .to_owned(),
            ),
            Some(_) => Err("not those of the daemon: something else answers here".to_owned()),
            None => Err("the stream ended before them: look at the logs of the proxy and the daemon".to_owned()),
        }
    }

    /// Waits until the daemon has broken a silence, and counts the `events` that come meanwhile.
    async fn silence(&mut self, keep_alive: Duration, events: &mut u32) -> Result<String, Problem> {
        let patience = keep_alive + LATE;
        let begin = Instant::now();
        let mut last = begin;
        // A busy stream shows as well that it is not cut.
        while begin.elapsed() < 2 * patience {
            let block = timeout_at(last + patience, self.block()).await.map_err(|_| {
                format!(
                    "nothing came for {patience:?}, although the daemon writes after {keep_alive:?}: it is held back, or the \
                     daemon hangs; {UNBUFFER}"
                )
            })?;
            let silent = last.elapsed();
            last = Instant::now();
            match block {
                None => {
                    return Err(format!(
                        "the stream was cut after {silent:.1?} of silence: the proxy has to bear more than the \
                         {keep_alive:?} after which the daemon writes (nginx: proxy_read_timeout 60s; Apache: timeout=30 behind \
                         ProxyPassMatch), or [daemon] keep_alive_seconds has to be less than the proxy bears"
                    ));
                }
                Some(block) if is_event(&block) => *events += 1,
                Some(block) if block.starts_with(b"retry:") => {
                    return Err(
                        "the daemon ended the stream: it is stopping, or the sign-in has ended; its log says which".to_owned(),
                    );
                }
                // Less is the probe that follows an event or a further tab.
                Some(_) if silent > keep_alive / 2 => {
                    return Ok(format!("broken after {silent:.1?}, the stream goes on"));
                }
                Some(_) => {}
            }
        }
        Ok("none: the stream is busy, and goes on".to_owned())
    }
}

fn is_event(block: &[u8]) -> bool {
    block
        .split(|byte| *byte == b'\n')
        .any(|line| line.starts_with(b"data:"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_what_browsers_use() {
        for (text, host, port, path) in [
            (
                "https://a.example/icingaweb2",
                "a.example",
                443,
                "/icingaweb2",
            ),
            (
                "https://a.example/icingaweb2/",
                "a.example",
                443,
                "/icingaweb2",
            ),
            ("http://a.example", "a.example", 80, ""),
            ("http://[::1]:8080/a/b", "::1", 8080, "/a/b"),
        ] {
            let address = Address::parse(text).unwrap();
            assert_eq!((address.host(), address.port()), (host, port), "{text}");
            assert_eq!(address.path(), format!("{path}/notifications/v1/subscribe"));
        }
        for text in [
            "",
            "a.example",
            "/icingaweb2",
            "ftp://a.example",
            "https://",
            "https://user:secret@a.example/",
            "https://a.example/?a=b",
            "https://a example/",
        ] {
            assert!(Address::parse(text).is_err(), "{text}");
        }
    }
}

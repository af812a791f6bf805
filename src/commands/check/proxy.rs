//! Connects through the reverse proxy and requests the stream.

use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, CONTENT_TYPE, HOST, HeaderValue, LOCATION};
use hyper::{HeaderMap, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use openssl::error::ErrorStack;
use openssl::ssl::{SslConnector, SslMethod};
use openssl::x509::X509VerifyResult;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_openssl::SslStream;
use tokio_util::either::Either;

use super::address::Address;
use crate::commands::Problem;

/// The advice if the proxy cannot reach the daemon.
pub(super) const NOT_REACHED: &str = "the proxy cannot reach the daemon: check that it runs, and that its log has the address of the \
     proxy's configuration as one that it listens on; by default these are 127.0.0.1:9001 and 127.0.0.1:5664";

/// The advice if bytes arrive late.
pub(super) const UNBUFFER: &str = "nginx needs proxy_buffering off, and no proxy_ignore_headers with X-Accel-Buffering; Apache needs \
     flushpackets=on; any other proxy in front of it must forward each byte at once, too";

/// How long the head and the first bytes may take: the daemon writes both at once.
pub(super) const FIRST: Duration = Duration::from_secs(5);

/// How long connecting may take, including TLS.
const CONNECT: Duration = Duration::from_secs(10);

/// A connection to the proxy, encrypted or not.
pub(super) type Connection = Either<TcpStream, SslStream<TcpStream>>;

/// Connects to the proxy. Also returns a description of the connection.
pub(super) async fn connect(address: &Address) -> Result<(Connection, String), Problem> {
    let (host, port) = (address.host(), address.port());
    let to = format!("{host} port {port}");
    let connecting = async {
        let socket = TcpStream::connect((host, port))
            .await
            .map_err(|error| format!("cannot connect to {to}: {error}"))?;
        if !address.is_encrypted() {
            let how = format!("{to}, not encrypted: session ids can be read by others");
            return Ok((Either::Left(socket), how));
        }
        let (stream, version) = encrypt(socket, host).await.map_err(|error| {
            format!(
                "no TLS with {to}: {error}; the certificate must be valid for that name, and signed by an authority known to \
                 this machine or listed in the file of the environment variable SSL_CERT_FILE"
            )
        })?;
        let how = format!("{to}, {version}, valid certificate");
        Ok((Either::Right(stream), how))
    };
    timeout(CONNECT, connecting)
        .await
        .unwrap_or_else(|_| Err(format!("no connection to {to} within {CONNECT:?}").into()))
}

/// Why TLS failed.
#[derive(Debug, thiserror::Error)]
enum TlsError {
    /// The certificate is not valid.
    #[error("{}", .0.error_string())]
    Certificate(X509VerifyResult),
    /// The handshake failed for another reason.
    #[error(transparent)]
    Handshake(#[from] openssl::ssl::Error),
    /// OpenSSL could not be set up.
    #[error(transparent)]
    SetUp(#[from] ErrorStack),
}

async fn encrypt(
    socket: TcpStream,
    host: &str,
) -> Result<(SslStream<TcpStream>, &'static str), TlsError> {
    let mut connector = SslConnector::builder(SslMethod::tls_client())?;
    // The first byte is the length of the name.
    connector.set_alpn_protos(b"\x08http/1.1")?;
    let ssl = connector.build().configure()?.into_ssl(host)?;
    let mut stream = SslStream::new(ssl, socket)?;
    if let Err(error) = Pin::new(&mut stream).connect().await {
        return Err(match stream.ssl().verify_result() {
            X509VerifyResult::OK => error.into(),
            refused => TlsError::Certificate(refused),
        });
    }
    let version = stream.ssl().version_str();
    Ok((stream, version))
}

/// Requests the stream. Any answer other than a stream is a problem.
pub(super) async fn ask(
    socket: Connection,
    address: &Address,
    headers: HeaderMap,
) -> Result<Response<Incoming>, Problem> {
    let asking = async {
        let (mut sender, connection) = http1::handshake(TokioIo::new(socket)).await?;
        // The task ends with the body of the answer.
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
                "none within {FIRST:?}: the proxy holds it back, or the daemon does not answer; {UNBUFFER}"
            )
        })?
        .map_err(|error: hyper::Error| format!("the connection failed: {error}"))?;
    judge(&answer)?;
    Ok(answer)
}

/// Whether the answer is an event stream, and if not, why.
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
                "a page ({}) instead of an event stream: the request reached Icinga Web or another site; include the shipped file \
                 in this server or virtual host, before other locations, with the path of --url in place of /icingaweb2",
                text(CONTENT_TYPE)
            )
            .into());
        }
        StatusCode::NO_CONTENT => {
            "refused, although the sign-in is valid: the proxy does not forward the cookie or the user agent".to_owned()
        }
        StatusCode::NOT_FOUND => {
            "not found: check that --url is the address of Icinga Web, and that the shipped file names the same path"
                .to_owned()
        }
        StatusCode::BAD_REQUEST => {
            "the daemon does not support that version of the protocol: the proxy has to set the header \
             X-Icinga-Notifications-Protocol-Version to the number in the path, 1"
                .to_owned()
        }
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            "the proxy denies access to the daemon: check its access rules for this path".to_owned()
        }
        StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT => {
            format!(
                "{NOT_REACHED}. Browsers stop reconnecting after this status, until their page is reloaded: include the shipped \
                 file, which answers with another status"
            )
        }
        status if status.is_redirection() => format!(
            "redirected to {}: give the address that browsers use",
            text(LOCATION)
        ),
        _ => "not from the daemon: check the log of the proxy".to_owned(),
    };
    Err(format!("status {}: {advice}", status.as_u16()).into())
}

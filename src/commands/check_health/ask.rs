//! Requests the daemon's report.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http1;
use hyper::header::HOST;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use crate::config::AdminAddress;
use crate::net::Socket;
use crate::observe::Report;

/// How long the request may take: usually milliseconds. Icinga ends a check after a minute.
pub(super) const TIMEOUT: Duration = Duration::from_secs(10);

/// The maximum length of an answer; the daemon's has about 300 bytes.
const LONGEST: usize = 65_536;

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoReport {
    /// No answer in time.
    #[error("no answer within {} seconds", TIMEOUT.as_secs())]
    Silent,
    /// The connection could not be established.
    #[error("no connection: {0}")]
    Unreachable(io::Error),
    /// The connection broke.
    #[error("the connection failed: {0}")]
    Broken(hyper::Error),
    /// The answer is from another program.
    #[error("the answer is not from the daemon: {0}")]
    Foreign(String),
}

impl From<hyper::Error> for NoReport {
    fn from(error: hyper::Error) -> Self {
        if error.is_parse() {
            Self::Foreign(error.to_string())
        } else {
            Self::Broken(error)
        }
    }
}

/// Requests the report from the daemon.
pub(super) async fn ask(address: &AdminAddress) -> Result<Report, NoReport> {
    timeout(TIMEOUT, report(address))
        .await
        .unwrap_or(Err(NoReport::Silent))
}

async fn report(address: &AdminAddress) -> Result<Report, NoReport> {
    let socket = connect(address).await.map_err(NoReport::Unreachable)?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(socket)).await?;
    // The task ends with the body of the answer.
    tokio::spawn(connection);
    let mut request = Request::new(Empty::<Bytes>::new());
    *request.uri_mut() = hyper::Uri::from_static("/health");
    let host = hyper::header::HeaderValue::from_static("localhost");
    request.headers_mut().insert(HOST, host);
    let answer = sender.send_request(request).await?;
    let status = answer.status();
    if status != StatusCode::OK {
        return Err(NoReport::Foreign(format!("status {}", status.as_u16())));
    }
    let body = Limited::new(answer.into_body(), LONGEST).collect().await;
    let bytes = match body {
        Ok(body) => body.to_bytes(),
        Err(error) => match error.downcast::<hyper::Error>() {
            Ok(error) => return Err((*error).into()),
            Err(error) => return Err(NoReport::Foreign(error.to_string())),
        },
    };
    serde_json::from_slice(&bytes).map_err(|error| NoReport::Foreign(error.to_string()))
}

async fn connect(address: &AdminAddress) -> io::Result<Socket> {
    Ok(match address {
        AdminAddress::Tcp(address) => Socket::Left(TcpStream::connect(address).await?),
        AdminAddress::Socket(path) => Socket::Right(UnixStream::connect(path).await?),
    })
}

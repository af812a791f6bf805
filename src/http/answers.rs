//! Answers without state: statuses, short texts, and the head of an event stream.

use std::fmt::Write as _;

use bytes::{Bytes, BytesMut};
use warp::http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use warp::http::response::Parts;
use warp::http::{HeaderValue, StatusCode};
use warp::reply::Response;

use crate::model::event;
use crate::model::returned::Mark;

/// The status that makes an EventSource stop reconnecting.
pub(super) fn no_content() -> Response {
    let mut response = Response::default();
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

pub(super) fn event_stream(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/event-stream; charset=utf-8"),
    );
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    // nginx would otherwise collect 4 or 8 KB before it forwards anything.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

/// 405, for paths with only one method.
pub(super) fn use_get() -> Response {
    let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "Use GET");
    response
        .headers_mut()
        .insert(ALLOW, HeaderValue::from_static("GET"));
    response
}

/// A short text for a person.
pub(super) fn plain(status: StatusCode, text: &str) -> Response {
    let mut response = Response::new(format!("{text}\n").into());
    *response.status_mut() = status;
    response.headers_mut().insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    response
}

/// The head of the answer and the first bytes of its body, with `mark`, so that proxies flush at once. No length and no chunks:
/// the answer ends when the connection closes, which every proxy forwards as a clean end even if the daemon is killed.
pub(super) fn head(parts: &Parts, mark: Mark) -> Bytes {
    let mut head = BytesMut::with_capacity(256);
    // write! cannot fail: BytesMut grows.
    let _ = write!(head, "HTTP/1.1 {}\r\n", parts.status);
    for (name, value) in &parts.headers {
        head.extend_from_slice(name.as_ref());
        head.extend_from_slice(b": ");
        head.extend_from_slice(value.as_bytes());
        head.extend_from_slice(b"\r\n");
    }
    let _ = write!(head, "Connection: close\r\n\r\n:\n");
    head.extend_from_slice(&event::retry(event::RETRY));
    head.extend_from_slice(&event::mark(mark));
    head.freeze()
}

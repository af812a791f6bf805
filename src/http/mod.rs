//! The HTTP side: our own accept loop over hyper, so that there are limits, and so that the
//! connection of a subscriber can be taken back from hyper and handed to its browser's task.
//!
//! [`mod@subscribe`] decides; what it lets in goes through [`crate::hub`] to its browser's task ([`crate::deliver`]), which writes to its
//! streams. hyper is gone by then: an idle stream costs a socket and a few hundred bytes, the
//! answer is close-delimited by nature, and the task sees what the client does.
//!
//! [`admin`] is served on a listener of its own, to monitoring.

pub mod admin;
pub(crate) mod subscribe;

use std::convert::Infallible;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use log::{debug, warn};
use tokio::sync::{Semaphore, oneshot, watch};
use tokio::time::timeout;
use warp::Filter;
use warp::http::header::{CONNECTION, HeaderValue};
use warp::http::response::Parts;
use warp::reply::Response;

pub use subscribe::{State, routes};

use crate::model::event;
use crate::net::{Listeners, Socket};
use crate::observe::Throttle;

/// How long a client may take to send its head, and may stay silent between two requests.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// What a head may take, in bytes: what nginx lets through by default (four buffers of 8 KB) fits
/// twice. Beyond it hyper answers 431.
const HEADER_LIMIT: usize = 64 * 1024;

/// How long requests that were accepted before a stop may take to be answered. They do in milliseconds,
/// unless the database or the client is slow.
const LAST_ANSWERS: Duration = Duration::from_secs(2);

/// Accepts and serves connections. At most `pending` of them at a time are not streams; further ones wait
/// in the kernel's queue.
///
/// Ends when `stop` says so: it accepts no more, and answers those who were accepted, because a proxy whose
/// request is cut says 502 to a browser, which then never comes back.
pub async fn serve<F>(
    mut listener: Listeners,
    pending: u32,
    filter: F,
    mut stop: watch::Receiver<bool>,
) where
    F: Filter<Extract = (Response,), Error = Infallible> + Clone + Send + Sync + 'static,
    F::Future: Send,
{
    let places = pending;
    let pending = Arc::new(Semaphore::new(places as usize));
    let mut full = Throttle::default();
    loop {
        if pending.available_permits() == 0
            && let Some(more) = full.take()
        {
            warn!("a flood of connections: new ones wait until others are through{more}");
        }
        let next = async {
            let permit = Arc::clone(&pending).acquire_owned().await;
            (permit, listener.accept().await)
        };
        let (permit, socket) = tokio::select! {
            next = next => next,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        let connection = connection(socket, filter.clone(), stop.clone());
        tokio::spawn(async move {
            connection.await;
            drop(permit);
        });
    }
    drop(listener);
    if timeout(LAST_ANSWERS, pending.acquire_many(places))
        .await
        .is_err()
    {
        debug!("connections that were not done in time are cut");
    }
}

/// Serves one connection until it closes or becomes a stream; after a `stop` not beyond its next answer.
async fn connection<F>(socket: Socket, filter: F, mut stop: watch::Receiver<bool>)
where
    F: Filter<Extract = (Response,), Error = Infallible> + Clone + Send + Sync + 'static,
    F::Future: Send,
{
    let (sender, mut receiver) = oneshot::channel();
    let sender = Arc::new(Mutex::new(Some(sender)));
    let warp = TowerToHyperService::new(warp::service(filter));
    let requested = Arc::new(AtomicBool::new(false));
    let (request_seen, stopped) = (Arc::clone(&requested), stop.clone());
    let service = service_fn(move |request: Request<Incoming>| {
        request_seen.store(true, Ordering::Relaxed);
        let last = *stopped.borrow();
        let (answer, sender) = (warp.call(request), Arc::clone(&sender));
        // Boxed, so that hyper's connection is Unpin and can be taken apart.
        Box::pin(async move {
            let mut response: Response = answer.await?;
            if last {
                let close = HeaderValue::from_static("close");
                let _ = response.headers_mut().insert(CONNECTION, close);
            }
            match response
                .extensions()
                .get::<subscribe::HandOver>()
                .and_then(subscribe::HandOver::take)
            {
                None => Ok::<_, Infallible>(response),
                Some(place) => {
                    if let Some(sender) = sender.lock().ok().and_then(|mut sender| sender.take()) {
                        let _ = sender.send((response.into_parts().0, place));
                    }
                    // hyper must not answer: the connection is taken from it now.
                    std::future::pending().await
                }
            }
        })
    });
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_header_size(HEADER_LIMIT)
        .serve_connection(TokioIo::new(socket), service);
    let mut stopping = false;
    let (parts, place) = loop {
        tokio::select! {
            result = &mut connection => {
                if let Err(error) = result {
                    debug!("connection: {error}");
                }
                return;
            }
            Ok(handed_over) = &mut receiver => break handed_over,
            _ = stop.wait_for(|stop| *stop), if !stopping => {
                stopping = true;
                // Closes one that is idle between two requests, and one that has a request after its answer. hyper
                // would also close one whose first request is still on its way: that one ends with its answer.
                if requested.load(Ordering::Relaxed) {
                    std::pin::Pin::new(&mut connection).graceful_shutdown();
                }
            }
        }
    };
    // What hyper may have read beyond the request is of a client that pipelines behind an
    // answer that never ends: dropped, like all that follows it.
    let socket = connection.into_parts().io.into_inner();
    place.hand_over(socket, head(&parts));
}

/// The answer's head and the first bytes of its body, so that proxies flush at once. No length and no
/// chunks: the answer ends when the connection closes, which every proxy passes on as a clean end even
/// if the daemon is killed.
fn head(parts: &Parts) -> Bytes {
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
    head.extend_from_slice(&event::retry(event::RETRY_MS));
    head.freeze()
}

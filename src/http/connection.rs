//! One connection, until it closes or becomes a stream.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use log::debug;
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use warp::Filter;
use warp::http::header::{CONNECTION, HeaderValue};
use warp::reply::Response;

use super::answers::head;
use super::hand_over::HandOver;
use crate::model::returned::Mark;
use crate::net::Socket;

/// How long a client may take to send its head, and how long it may be idle between two requests.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// The maximum size of a head, in bytes: twice what nginx accepts by default (four buffers of 8 KB). hyper answers 431 to larger
/// ones.
const HEADER_LIMIT: usize = 64 * 1024;

/// Serves one connection until it closes or becomes a stream. After `stop`, it closes with the next answer.
pub(super) async fn connection<F>(socket: Socket, filter: F, stop: CancellationToken)
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
        let last = stopped.is_cancelled();
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
                .get::<HandOver>()
                .and_then(HandOver::take)
            {
                None => Ok::<_, Infallible>(response),
                Some(handed_over) => {
                    if let Some(sender) = sender.lock().take() {
                        let _ = sender.send((response.into_parts().0, handed_over));
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
    let (parts, (place, returned)) = loop {
        tokio::select! {
            result = &mut connection => {
                if let Err(error) = result {
                    debug!("connection: {error}");
                }
                return;
            }
            Ok(handed_over) = &mut receiver => break handed_over,
            () = stop.cancelled(), if !stopping => {
                stopping = true;
                // Closes a connection that is idle between two requests, or after its current answer. hyper would also close one
                // whose first request is still arriving: that one ends with its answer.
                if requested.load(Ordering::Relaxed) {
                    std::pin::Pin::new(&mut connection).graceful_shutdown();
                }
            }
        }
    };
    // hyper may have read more bytes if the client pipelines. They are dropped, because this answer never ends.
    let socket = connection.into_parts().io.into_inner();
    let mark = Mark::new();
    place.hand_over(socket, head(&parts, mark), mark, returned);
}

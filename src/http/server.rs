//! The accept loop.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use log::{debug, warn};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use warp::Filter;
use warp::reply::Response;

use super::connection::connection;
use crate::net::Listeners;
use crate::observe::Throttle;

/// How long requests accepted before a stop may take to be answered. They take milliseconds, unless the database or the client is
/// slow.
const LAST_ANSWERS: Duration = Duration::from_secs(2);

/// Accepts and serves connections. At most `pending` of them at a time are not streams; more wait in the kernel's queue.
///
/// Ends after `stop`: it accepts no more connections, but answers the accepted ones, because a proxy answers 502 if a request is
/// cut, and browsers stop reconnecting after a 502.
pub(crate) async fn serve<F>(
    mut listener: Listeners,
    pending: u32,
    filter: F,
    stop: CancellationToken,
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
            warn!("a flood of connections: new ones wait until others are finished{more}");
        }
        let next = async {
            let permit = Arc::clone(&pending).acquire_owned().await;
            (permit, listener.accept().await)
        };
        let (permit, socket) = tokio::select! {
            next = next => next,
            () = stop.cancelled() => break,
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
        debug!("closed connections that did not finish in time");
    }
}

//! The status page's stream: the state every second.

use std::convert::Infallible;
use std::future;
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt as _, stream};
use tokio::sync::Semaphore;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use warp::http::header::{CONNECTION, HeaderValue};
use warp::reply::{Reply as _, Response};
use warp::sse::{self, Event};

use crate::http::answers::event_stream;

/// Time between two states: people see that the page lives.
const INTERVAL: Duration = Duration::from_secs(1);

/// Pages at a time that are sent every state, fewer than there are connections: `/metrics` has to be answered beside them.
const PAGES: usize = 8;

/// How long pages beyond them wait for the next state.
const TURN: Duration = Duration::from_secs(5);

/// How soon a page comes back after the end of its stream, which is the daemon's.
const RETRY: Duration = Duration::from_secs(1);

/// The streams that are open.
#[derive(Debug, Clone)]
pub(crate) struct Pages {
    places: Arc<Semaphore>,
    stop: CancellationToken,
}

impl Pages {
    /// None yet. All end when `stop` says so.
    pub(crate) fn new(stop: CancellationToken) -> Self {
        Self {
            places: Arc::new(Semaphore::new(PAGES)),
            stop,
        }
    }

    /// Sends what `state` says, now and every second; only now, and when to come back, if there are too many pages.
    pub(in crate::http) fn open<S>(&self, state: S) -> Response
    where
        S: Fn() -> String + Send + Sync + 'static,
    {
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            let event = Event::default().retry(TURN).data(state());
            let mut only = answer(stream::once(future::ready(event)));
            // It would keep its connection for its next turn.
            (only.headers_mut()).insert(CONNECTION, HeaderValue::from_static("close"));
            return only;
        };
        let mut ticks = interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let states = stream::unfold(
            (ticks, place, state),
            |(mut ticks, place, state)| async move {
                ticks.tick().await;
                let event = Event::default().retry(RETRY).data(state());
                Some((event, (ticks, place, state)))
            },
        );
        answer(states.take_until(self.stop.clone().cancelled_owned()))
    }
}

fn answer(events: impl Stream<Item = Event> + Send + Sync + 'static) -> Response {
    event_stream(sse::reply(events.map(Ok::<_, Infallible>)).into_response())
}

//! The stream of the status page: the state every second.

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

/// Time between two states: people see that the page is live.
const INTERVAL: Duration = Duration::from_secs(1);

/// How many pages receive every state. Fewer than the connections, so that `/metrics` is answered, too.
const PAGES: usize = 8;

/// How long further pages wait for the next state.
const TURN: Duration = Duration::from_secs(5);

/// How soon a page reconnects after the daemon ended its stream.
const RETRY: Duration = Duration::from_secs(1);

/// The open streams.
#[derive(Debug, Clone)]
pub(crate) struct Pages {
    places: Arc<Semaphore>,
    stop: CancellationToken,
}

impl Pages {
    /// No open streams yet. All end after `stop`.
    pub(crate) fn new(stop: CancellationToken) -> Self {
        Self {
            places: Arc::new(Semaphore::new(PAGES)),
            stop,
        }
    }

    /// Sends `state` now and every second. If there are too many pages, sends it only now, with the time to come back.
    pub(in crate::http) fn open<S>(&self, state: S) -> Response
    where
        S: Fn() -> String + Send + Sync + 'static,
    {
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            let event = Event::default().retry(TURN).data(state());
            let mut only = answer(stream::once(future::ready(event)));
            // Otherwise it keeps its connection until its next turn.
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

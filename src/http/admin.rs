//! What monitoring asks, on a listener of its own: is the daemon alive, is it ready, and its metrics.
//!
//! Nobody signs in here, and nothing here names a user, an incident or a session.

use std::convert::Infallible;

use tokio::sync::watch;
use warp::Filter;
use warp::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use warp::http::{HeaderValue, Method, StatusCode};
use warp::path::FullPath;
use warp::reply::{Reply as _, Response};

use super::answers::{plain, use_get};
use crate::database::Queries;
use crate::hub::Hub;
use crate::observe::metrics::{self, Gauges, Metrics};
use crate::observe::{Health, Report};

/// Connections at a time; who monitors needs one or two.
pub(crate) const PENDING: u32 = 16;

/// What the answers are made of.
#[derive(Debug, Clone)]
pub(crate) struct Admin {
    /// Whether the listener hears.
    pub(crate) hears: watch::Receiver<bool>,
    /// The session for events.
    pub(crate) events: Queries,
    /// The session for sign-ins.
    pub(crate) sign_ins: Queries,
    /// What looks have found.
    pub(crate) health: watch::Receiver<Health>,
    /// Whether sign-ins cannot be checked.
    pub(crate) unchecked: watch::Receiver<bool>,
    /// Who is connected.
    pub(crate) hub: Hub,
    /// What was counted.
    pub(crate) metrics: Metrics,
}

impl Admin {
    /// Whether the listener hears, and the query and sign-in sessions are up.
    fn database(&self) -> [bool; 3] {
        [
            *self.hears.borrow(),
            self.events.current().is_some(),
            self.sign_ins.current().is_some(),
        ]
    }

    /// Why the daemon cannot do all its work; `None` if it can.
    fn impediment(&self) -> Option<&'static str> {
        match self.database() {
            [true, true, true] if !self.health.borrow().looked => {
                Some("no look at the table of notifications yet; the log says why")
            }
            [true, true, true] if *self.unchecked.borrow() => {
                Some("sign-ins cannot be checked: browsers are told to come back; the log says why")
            }
            [true, true, true] if !self.health.borrow().missing.is_empty() => {
                Some("triggers are missing or disabled: events come late; the log says which")
            }
            [true, true, true] => None,
            [false, ..] => {
                Some("not listening to the database: events come late; the log says why")
            }
            [_, false, _] => {
                Some("no query session with the database: events come late; the log says why")
            }
            [_, _, false] => Some(
                "no sign-in session with the database: browsers are told to come back; the log says why",
            ),
        }
    }

    fn answer(&self, path: &str, method: &Method) -> Response {
        let response = match path {
            // It came through the accept loop and the runtime.
            "/health/live" => plain(StatusCode::OK, "alive"),
            "/health/ready" => match self.impediment() {
                None => plain(StatusCode::OK, "ready"),
                Some(reason) => plain(StatusCode::SERVICE_UNAVAILABLE, reason),
            },
            "/health" => self.report(),
            "/metrics" => self.metrics(),
            _ => {
                let there =
                    "Not found; there are /health, /health/live, /health/ready and /metrics";
                return plain(StatusCode::NOT_FOUND, there);
            }
        };
        if *method == Method::GET {
            response
        } else {
            use_get()
        }
    }

    fn report(&self) -> Response {
        let database = self.database();
        let report = Report {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            impediment: self.impediment().map(str::to_owned),
            streams: self.hub.streams(),
            streams_limit: self.hub.max_streams(),
            users: self.hub.users(),
            sessions: database.len(),
            sessions_up: database.iter().filter(|up| **up).count(),
            round_age_seconds: self.metrics.round_age(),
            latency_p95_seconds: self.metrics.latency_p95(),
            events_without_receipt: self.metrics.given_up(),
        };
        warp::reply::json(&report).into_response()
    }

    fn metrics(&self) -> Response {
        let gauges = Gauges {
            ready: self.impediment().is_none(),
            streams: self.hub.streams(),
            max_streams: self.hub.max_streams(),
            users: self.hub.users(),
            database: self.database(),
            missing_triggers: self.health.borrow().missing.len(),
        };
        match self.metrics.render(&gauges) {
            Ok(text) => {
                let mut response = Response::new(text.into());
                response.headers_mut().insert(
                    CONTENT_TYPE,
                    HeaderValue::from_static(metrics::CONTENT_TYPE),
                );
                response
            }
            Err(error) => plain(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
        }
    }
}

/// The filter that answers everything.
pub(crate) fn routes(
    admin: Admin,
) -> impl Filter<Extract = (Response,), Error = Infallible> + Clone + Send + Sync + 'static {
    warp::any()
        .map(move || admin.clone())
        .and(warp::path::full())
        .and(warp::method())
        .map(|admin: Admin, path: FullPath, method: Method| {
            let mut response = admin.answer(path.as_str(), &method);
            // The state of this moment is of no use later.
            response
                .headers_mut()
                .insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
            response
        })
}

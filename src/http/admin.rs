//! The admin listener: health and metrics for monitoring, and a status page for people.
//!
//! It requires no sign-in, and shows no user, no incident and no session.

use std::convert::Infallible;
use std::fmt;

use bytes::Bytes;
use tokio::sync::watch;
use warp::Filter;
use warp::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};
use warp::http::{HeaderValue, Method, StatusCode};
use warp::path::FullPath;
use warp::reply::{Reply as _, Response};

use super::answers::{plain, use_get};
use super::status::{Pages, SCRIPT, STYLE, Status};
use crate::database::Queries;
use crate::hub::Hub;
use crate::observe::metrics::{self, Gauges, Metrics};
use crate::observe::{Health, Report};

/// Connections at a time: monitoring needs one or two, and a browser a few more when it loads the page.
pub(crate) const PENDING: u32 = 32;

/// The sources of the answers.
#[derive(Debug, Clone)]
pub(crate) struct Admin {
    /// Whether the listener works.
    pub(crate) listening: watch::Receiver<bool>,
    /// The session for events.
    pub(crate) events: Queries,
    /// The session for sign-ins.
    pub(crate) sign_ins: Queries,
    /// The results of looks.
    pub(crate) health: watch::Receiver<Health>,
    /// Whether sign-in checks are failing.
    pub(crate) unchecked: watch::Receiver<bool>,
    /// The connected browsers.
    pub(crate) hub: Hub,
    /// The counters.
    pub(crate) metrics: Metrics,
    /// The open status pages.
    pub(crate) pages: Pages,
}

impl Admin {
    /// Whether the listener, query and sign-in sessions work.
    fn database(&self) -> [bool; 3] {
        [
            *self.listening.borrow(),
            self.events.current().is_some(),
            self.sign_ins.current().is_some(),
        ]
    }

    /// Why the daemon is not ready; `None` if it is.
    fn not_ready(&self) -> Option<&'static str> {
        match self.database() {
            [true, true, true] if !self.health.borrow().looked => {
                Some("the table of notifications was not read yet; the log says why")
            }
            [true, true, true] if *self.unchecked.borrow() => Some(
                "sign-ins cannot be checked: browsers are asked to come back later; the log says why",
            ),
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
                "no sign-in session with the database: browsers are asked to come back later; the log says why",
            ),
        }
    }

    fn answer(&self, path: &str, method: &Method) -> Response {
        let response = match path {
            // The answer proves that accept loop and runtime work.
            "/health/live" => plain(StatusCode::OK, "alive"),
            "/health/ready" => match self.not_ready() {
                None => plain(StatusCode::OK, "ready"),
                Some(reason) => plain(StatusCode::SERVICE_UNAVAILABLE, reason),
            },
            "/health" => warp::reply::json(&self.report()).into_response(),
            "/metrics" => match self.metrics() {
                Ok(text) => typed(metrics::CONTENT_TYPE, text),
                Err(error) => plain(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
            },
            "/" => typed("text/html; charset=utf-8", self.status().page()),
            "/status.css" => typed("text/css; charset=utf-8", STYLE),
            "/status.js" => typed("text/javascript; charset=utf-8", SCRIPT),
            "/live" => {
                let admin = self.clone();
                self.pages.open(move || admin.status().main())
            }
            _ => {
                let there =
                    "Not found; available: /, /health, /health/live, /health/ready and /metrics";
                return plain(StatusCode::NOT_FOUND, there);
            }
        };
        if *method == Method::GET {
            response
        } else {
            use_get()
        }
    }

    /// The data of the status page.
    fn status(&self) -> Status {
        Status {
            report: self.report(),
            database: self.database(),
            missing_triggers: self.health.borrow().missing.clone(),
            running_for: self.metrics.age(),
            // Never fails in practice; otherwise the page has no figures.
            metrics: self.metrics().unwrap_or_default(),
        }
    }

    fn report(&self) -> Report {
        let database = self.database();
        Report {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            not_ready: self.not_ready().map(str::to_owned),
            streams: self.hub.streams(),
            streams_limit: self.hub.max_streams(),
            users: self.hub.users(),
            sessions: database.len(),
            sessions_up: database.iter().filter(|up| **up).count(),
            round_age_seconds: self.metrics.round_age(),
            latency_p95_seconds: self.metrics.latency_p95(),
            events_without_receipt: self.metrics.given_up(),
        }
    }

    fn metrics(&self) -> Result<String, fmt::Error> {
        let gauges = Gauges {
            ready: self.not_ready().is_none(),
            streams: self.hub.streams(),
            max_streams: self.hub.max_streams(),
            users: self.hub.users(),
            database: self.database(),
            missing_triggers: self.health.borrow().missing.len(),
        };
        self.metrics.render(&gauges)
    }
}

fn typed(content_type: &'static str, body: impl Into<Bytes>) -> Response {
    let mut response = Response::new(body.into().into());
    (response.headers_mut()).insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// Headers of every answer. The current state must not be cached, and the page neither loads from other sites nor can be embedded
/// in them.
const HEADERS: [(HeaderName, &str); 4] = [
    (CACHE_CONTROL, "no-store"),
    (
        CONTENT_SECURITY_POLICY,
        "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'",
    ),
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (REFERRER_POLICY, "no-referrer"),
];

/// The filter that answers all requests.
pub(crate) fn routes(
    admin: Admin,
) -> impl Filter<Extract = (Response,), Error = Infallible> + Clone + Send + Sync + 'static {
    warp::any()
        .map(move || admin.clone())
        .and(warp::path::full())
        .and(warp::method())
        .map(|admin: Admin, path: FullPath, method: Method| {
            let mut response = admin.answer(path.as_str(), &method);
            for (name, value) in HEADERS {
                (response.headers_mut()).insert(name, HeaderValue::from_static(value));
            }
            response
        })
}

//! The one route, `GET <base>/notifications/v1/subscribe`, and its answers.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use log::{debug, warn};
use parking_lot::Mutex;
use rand::RngExt;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinError;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;
use warp::Filter;
use warp::http::header::{HeaderValue, USER_AGENT};
use warp::http::{HeaderMap, Method, StatusCode};
use warp::path::FullPath;
use warp::reply::Response;

use super::answers::{event_stream, no_content, plain, use_get};
use super::hand_over::HandOver;
use crate::auth::{Credentials, Rechecks, SignInError};
use crate::config::Tuning;
use crate::database::{Queries, QueryError, Session};
use crate::deliver::{Pace, Replayer, browser};
use crate::hub::{Full, Hub, Place, Recheck};
use crate::model::browser::{AgentKey, BrowserKey};
use crate::model::event;
use crate::model::explanation::{Other, Why};
use crate::model::ids::HistoryId;
use crate::model::position::Position;
use crate::model::returned::{ClientKey, LastEventId, Returned};
use crate::model::sign_in::{Refusal, SignIn};
use crate::model::timeline::Epoch;
use crate::observe::Throttle;
use crate::observe::metrics::{Metrics, Postponed};

/// The header in which proxies forward the version from the path.
const VERSION_HEADER: &str = "x-icinga-notifications-protocol-version";

/// The supported protocol version.
const VERSION: &str = "1";

/// The `retry` for a browser that could not be served: soon, and random, so that browsers do not reconnect all at once.
const UNAVAILABLE_RETRY: std::ops::Range<Duration> = Duration::from_secs(2)..Duration::from_secs(8);

/// The `retry` for a third tab of a browser, to check whether one of the other two is gone.
const THIRD_RETRY: Duration = Duration::from_secs(30);

/// Sign-in queries at a time: enough to keep the database busy, and few enough to finish soon if each of them reaches the
/// statement timeout.
const MAX_SIGN_INS: usize = 16;

/// How long a sign-in may wait for the database: not longer than a proxy waits for a head.
const TIMEOUT: Duration = Duration::from_secs(10);

/// How long it may take to end a stream in favour of another one: more than a few milliseconds if its client does not read.
const ROOM: Duration = Duration::from_secs(1);

/// The state of the handlers.
#[derive(Debug, Clone)]
pub(crate) struct State {
    queries: Queries,
    browsers: Arc<browser::Shared>,
    /// The browsers' tasks, so that a stop can wait for them.
    tasks: TaskTracker,
    rechecks: Rechecks,
    sign_ins: Arc<Semaphore>,
    full: Arc<Mutex<Throttle>>,
    unreachable: Arc<Mutex<Throttle>>,
}

impl State {
    /// Builds the state of the handlers.
    pub(crate) fn new(
        hub: Hub,
        queries: Queries,
        replayer: Replayer,
        rechecks: Rechecks,
        tuning: watch::Receiver<Tuning>,
        metrics: Metrics,
        tasks: TaskTracker,
    ) -> Self {
        Self {
            queries,
            browsers: Arc::new(browser::Shared {
                hub,
                replayer,
                metrics,
                tuning,
                pace: Pace::new(),
            }),
            tasks,
            rechecks,
            sign_ins: Arc::new(Semaphore::new(MAX_SIGN_INS)),
            full: Arc::default(),
            unreachable: Arc::default(),
        }
    }
}

/// The filter that answers all requests.
pub(crate) fn routes(
    state: State,
) -> impl Filter<Extract = (Response,), Error = Infallible> + Clone + Send + Sync + 'static {
    warp::any()
        .map(move || state.clone())
        .and(warp::path::full())
        .and(warp::method())
        .and(warp::header::headers_cloned())
        .and_then(
            |state: State, path: FullPath, method: Method, headers: HeaderMap| async move {
                Ok::<_, warp::Rejection>(answer(&state, path.as_str(), &method, &headers).await)
            },
        )
        .recover(|rejection: warp::Rejection| async move {
            // No filter above rejects.
            warn!("unexpected rejection: {rejection:?}");
            Ok::<_, Infallible>(plain(StatusCode::INTERNAL_SERVER_ERROR, "Internal error"))
        })
        .unify()
}

async fn answer(state: &State, path: &str, method: &Method, headers: &HeaderMap) -> Response {
    let Some(version) = path_version(path) else {
        return plain(StatusCode::NOT_FOUND, "Not found");
    };
    if *method != Method::GET {
        return use_get();
    }
    let spoken = version == VERSION
        && headers
            .get_all(VERSION_HEADER)
            .iter()
            .all(|header| header.as_bytes() == VERSION.as_bytes());
    if !spoken {
        return plain(
            StatusCode::BAD_REQUEST,
            "Only protocol version 1 is supported",
        );
    }
    subscribe(state, headers).await
}

/// The version in `<base>/notifications/v<version>/subscribe`; `None` for any other path.
fn path_version(path: &str) -> Option<&str> {
    let rest = path.strip_suffix("/subscribe")?;
    let (base, version) = rest.rsplit_once('/')?;
    let number = version.strip_prefix('v')?;
    let numeric = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    (numeric && base.ends_with("/notifications")).then_some(number)
}

/// Why a request gets no stream.
#[derive(Debug, thiserror::Error)]
enum NoStream {
    /// The request is refused.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The browser has two streams that are alive.
    #[error("the browser has two streams")]
    Third,
    /// The sign-in cannot be checked at the moment.
    #[error("the database is unreachable")]
    NoDatabase,
    /// As [`NoStream::NoDatabase`].
    #[error(transparent)]
    Query(QueryError),
    /// As [`NoStream::NoDatabase`].
    #[error(
        "no answer from the database within {TIMEOUT:?}; is it overloaded, or table browser_session locked? \
         pg_stat_activity shows it"
    )]
    NoAnswer,
    /// As [`NoStream::NoDatabase`]: the querying task panicked.
    #[error(transparent)]
    Died(#[from] JoinError),
    /// The daemon has its maximum number of streams.
    #[error("the maximum number of streams is reached")]
    Full,
    /// The daemon is stopping.
    #[error("stopping")]
    Stopping,
}

impl From<SignInError> for NoStream {
    fn from(error: SignInError) -> Self {
        match error {
            SignInError::Refused { why, .. } => Self::Refused(why),
            SignInError::Query(error) => Self::Query(error),
        }
    }
}

impl From<Full> for NoStream {
    fn from(full: Full) -> Self {
        match full {
            Full::Browser => Self::Third,
            Full::Daemon => Self::Full,
            Full::Stopping => Self::Stopping,
            Full::EpochChanged => Self::NoDatabase,
        }
    }
}

async fn subscribe(state: &State, headers: &HeaderMap) -> Response {
    let returned = returned(headers);
    match open(state, headers, &returned).await {
        Ok(place) => {
            let mut response = event_stream(Response::default());
            let hand_over = HandOver::new(place, returned);
            response.extensions_mut().insert(hand_over);
            response
        }
        Err(reason) => answer_refused(state, &reason),
    }
}

/// The parts of a request that can be a receipt.
fn returned(headers: &HeaderMap) -> Returned {
    let last_event_id = headers.get("last-event-id");
    let firefox = |agent: &HeaderValue| agent.as_bytes().windows(8).any(|part| part == b"Firefox/");
    // If several proxies send a header each, the last one is from the nearest proxy. It need not be trustworthy: it is only
    // compared with that of the browser's other requests.
    let mut forwarded_for = headers.get_all("x-forwarded-for").iter();
    Returned {
        at: Instant::now(),
        last_event_id: last_event_id
            .and_then(|id| id.to_str().ok())
            .and_then(LastEventId::parse),
        client: forwarded_for
            .next_back()
            .map(|header| ClientKey::new(header.as_bytes())),
        firefox: headers.get(USER_AGENT).is_some_and(firefox),
    }
}

/// Takes a place for a stream, if the request may have one.
async fn open(state: &State, headers: &HeaderMap, returned: &Returned) -> Result<Place, NoStream> {
    let credentials = Credentials::read(headers)?;
    let hub = &state.browsers.hub;
    // The digests are computed once, although the second attempt below needs them, too.
    let who @ (browser, agent) = (credentials.browser(), credentials.agent());
    hub.returned(browser, agent, returned);
    match enter(state, &credentials, who, returned).await {
        Err(NoStream::Third) => {
            let room = hub.make_room(browser, returned.at);
            match timeout(ROOM, room).await {
                Ok(Ok(())) => enter(state, &credentials, who, returned).await,
                _ => Err(NoStream::Third),
            }
        }
        other => other,
    }
}

/// Takes a place for a browser whose sign-in is known to be valid, or is checked now.
async fn enter(
    state: &State,
    credentials: &Credentials,
    (browser, agent): (BrowserKey, AgentKey),
    returned: &Returned,
) -> Result<Place, NoStream> {
    let hub = &state.browsers.hub;
    if state.rechecks.is_listening()
        && let Some(place) = hub.come_back(browser, agent)
    {
        return Ok(place?);
    }
    let changes = state.rechecks.changes();
    let sign_in = match sign_in(state, credentials, returned.last_event_id).await {
        // While the database is unreachable, nobody can sign out either: the stream continues like those that were not ended.
        Err(unreachable @ (NoStream::NoDatabase | NoStream::Query(QueryError::Lost(_)))) => {
            let place = hub.come_back(browser, agent);
            return place.map_or(Err(unreachable), |place| Ok(place?));
        }
        other => other?,
    };
    let (place, mailbox) = hub.enter(&sign_in).inspect_err(|full| {
        if let Full::Daemon = full {
            let full = Why::Other(Other::Full);
            hub.refused(browser, Some(sign_in.contact_id), full);
        }
    })?;
    if state.rechecks.changes() != changes {
        // The sign-in may have ended after the query, but before there was a stream to end.
        let recheck = Recheck::Contact(sign_in.contact_id);
        hub.invalidate(recheck);
        state.rechecks.check(recheck);
    }
    if let Some(mailbox) = mailbox {
        state
            .tasks
            .spawn(browser::run(mailbox, Arc::clone(&state.browsers)));
    }
    Ok(place)
}

/// Queries whose browser this is, and its position.
async fn sign_in(
    state: &State,
    credentials: &Credentials,
    last_event_id: Option<LastEventId>,
) -> Result<SignIn, NoStream> {
    let session = state.queries.current().ok_or(NoStream::NoDatabase)?;
    let hub = state.browsers.hub.clone();
    let epoch = hub.epoch().ok_or(NoStream::NoDatabase)?;
    let credentials = credentials.clone();
    let asking = async {
        // The accept loop limits how many wait here.
        let permit = Arc::clone(&state.sign_ins).acquire_owned().await;
        // In a separate task: when we stop waiting, the statement is still running, and must keep its permit.
        let asked = tokio::spawn(async move {
            let last_read = last_event_id.and_then(LastEventId::row);
            let answer = ask(&session, &hub, epoch, &credentials, last_read).await;
            drop(permit);
            answer
        });
        Ok(asked.await??)
    };
    timeout(TIMEOUT, asking)
        .await
        .unwrap_or(Err(NoStream::NoAnswer))
}

async fn ask(
    session: &Session,
    hub: &Hub,
    epoch: (Epoch, u64),
    credentials: &Credentials,
    last_read: Option<HistoryId>,
) -> Result<SignIn, SignInError> {
    let (epoch, number) = epoch;
    let authentic = match credentials.sign_in(session).await {
        Err(error) => {
            if let SignInError::Refused { why, contact_id } = error {
                hub.refused(credentials.browser(), contact_id, Why::Refused(why));
            }
            return Err(error);
        }
        Ok(authentic) => authentic,
    };
    let mut sign_in = SignIn {
        contact_id: authentic.contact_id,
        browser: authentic.browser,
        agent: authentic.agent,
        position: authentic.position.map(|stored| stored.within(&epoch)),
        epoch: number,
        signed_in_at_ms: authentic.signed_in_at_ms,
        asked_at: authentic.asked_at,
    };
    if sign_in.position.is_none() && !hub.remembers(sign_in.contact_id, sign_in.browser) {
        let (start, newest) = session.start(sign_in.contact_id, hub.settled()).await?;
        sign_in.position = Some(match last_read {
            // Nothing else is known about this browser, so its own id counts.
            Some(id) if id <= newest => Position::new(id, []),
            _ => start,
        });
    } else if let (Some(position), Some(id)) = (&mut sign_in.position, last_read)
        // Otherwise the id is from before ids restarted.
        && position.time_ms().is_none()
        && id <= hub.newest()
    {
        position.extend([id]);
    }
    Ok(sign_in)
}

/// Logs and counts why there is no stream, and answers the request.
fn answer_refused(state: &State, reason: &NoStream) -> Response {
    let metrics = &state.browsers.metrics;
    let postponed = match reason {
        NoStream::Refused(refusal) => {
            metrics.refuse(*refusal);
            debug!("a browser was refused: {refusal}");
            return no_content();
        }
        NoStream::Third => {
            metrics.postpone(Postponed::ThirdStream);
            debug!("a browser was asked to come back later: {reason}");
            return come_back(THIRD_RETRY);
        }
        NoStream::NoDatabase | NoStream::Query(_) | NoStream::NoAnswer | NoStream::Died(_) => {
            match state.unreachable.lock().take() {
                Some(more) => warn!("browsers are asked to come back later: {reason}{more}"),
                None => debug!("a browser was asked to come back later: {reason}"),
            }
            Postponed::Database
        }
        NoStream::Full => {
            if let Some(more) = state.full.lock().take() {
                warn!(
                    "a browser was asked to come back later: {reason}{more}; raise the limit on open files (with systemd: \
                     LimitNOFILE=)"
                );
            }
            Postponed::Full
        }
        NoStream::Stopping => Postponed::Stopping,
    };
    metrics.postpone(postponed);
    come_back(rand::rng().random_range(UNAVAILABLE_RETRY))
}

/// Asks a browser to come back later. Not with an error status: any other than 200 makes its EventSource stop reconnecting.
fn come_back(after: Duration) -> Response {
    event_stream(Response::new(event::retry(after).into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_may_have_any_base() {
        for base in ["", "/icingaweb2", "/a/b", "/notifications/v1"] {
            assert_eq!(
                path_version(&format!("{base}/notifications/v1/subscribe")),
                Some("1")
            );
        }
        assert_eq!(path_version("/notifications/v23/subscribe"), Some("23"));
    }

    #[test]
    fn other_paths_are_not_ours() {
        for path in [
            "/",
            "*",
            "",
            "/notifications/v1/subscribe/x",
            "/notifications/v1/subscribe/",
            "/notifications/v/subscribe",
            "/notifications/v1x/subscribe",
            "/notifications/subscribe",
            "/xnotifications/v1/subscribe",
            "notifications/v1/subscribe",
        ] {
            assert_eq!(path_version(path), None, "{path}");
        }
    }
}

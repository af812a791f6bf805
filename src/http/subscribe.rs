//! The one route: `GET <base>/notifications/v1/subscribe`, and what else a request may be answered.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use log::{debug, warn};
use parking_lot::Mutex;
use rand::RngExt;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinError;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;
use warp::Filter;
use warp::http::{HeaderMap, Method, StatusCode};
use warp::path::FullPath;
use warp::reply::Response;

use super::answers::{event_stream, no_content, plain, use_get};
use super::hand_over::HandOver;
use crate::auth::{Credentials, Recheck, Rechecks, SignInError, last_event_id};
use crate::config::Tuning;
use crate::database::{Queries, QueryError, Session};
use crate::deliver::{Replayer, browser};
use crate::hub::{Full, Hub, Mailbox, Place};
use crate::model::event;
use crate::model::ids::{ContactId, HistoryId};
use crate::model::position::Position;
use crate::model::sign_in::{Refusal, SignIn};
use crate::model::timeline::Epoch;
use crate::observe::Throttle;
use crate::observe::metrics::{Metrics, Postponed};

/// The header in which the proxies pass on the version that the path names.
const VERSION_HEADER: &str = "x-icinga-notifications-protocol-version";

/// The protocol version that is spoken.
const VERSION: &str = "1";

/// When a browser comes back that could not be served for now, in milliseconds: soon, and not all at
/// once.
const UNAVAILABLE_RETRY_MS: std::ops::Range<u32> = 2000..8000;

/// Sign-ins that are with the database at a time: enough to keep it busy, and few enough to be through
/// soon if each of them runs into the statement timeout.
const MAX_SIGN_INS: usize = 16;

/// How long a sign-in may wait for the database, a third stream for its probe: no longer than a proxy
/// waits for a head.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the handlers need, built once.
#[derive(Debug, Clone)]
pub(crate) struct State {
    queries: Queries,
    browsers: browser::Shared,
    /// The browsers' tasks, so that a stop can wait for them.
    tasks: TaskTracker,
    rechecks: Rechecks,
    sign_ins: Arc<Semaphore>,
    full: Arc<Mutex<Throttle>>,
    away: Arc<Mutex<Throttle>>,
}

impl State {
    /// The handlers' state.
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
            browsers: browser::Shared {
                hub,
                replayer,
                metrics,
                tuning,
            },
            tasks,
            rechecks,
            sign_ins: Arc::new(Semaphore::new(MAX_SIGN_INS)),
            full: Arc::default(),
            away: Arc::default(),
        }
    }
}

/// The filter that answers everything.
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
            // None of the filters above rejects.
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
        return plain(StatusCode::BAD_REQUEST, "Protocol version 1 is spoken here");
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
    /// It may not have one.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Its browser has two that are alive.
    #[error("contact {0}: a third stream of one browser")]
    Third(ContactId),
    /// Whether it may have one cannot be known for now.
    #[error("the database is away")]
    NoDatabase,
    /// As [`NoStream::NoDatabase`].
    #[error(transparent)]
    Query(QueryError),
    /// As [`NoStream::NoDatabase`].
    #[error(
        "no answer from the database within {PATIENCE:?}; is it overloaded, or table browser_session locked? \
         pg_stat_activity shows it"
    )]
    NoAnswer,
    /// As [`NoStream::NoDatabase`]: the task that asked has panicked.
    #[error(transparent)]
    Died(#[from] JoinError),
    /// The daemon has as many streams as it can hold.
    #[error("all places for streams are taken")]
    Full,
    /// The daemon is stopping.
    #[error("stopping")]
    Stopping,
}

impl From<SignInError> for NoStream {
    fn from(error: SignInError) -> Self {
        match error {
            SignInError::Refused(refusal) => Self::Refused(refusal),
            SignInError::Query(error) => Self::Query(error),
        }
    }
}

async fn subscribe(state: &State, headers: &HeaderMap) -> Response {
    match open(state, headers).await {
        Ok(place) => {
            let mut response = event_stream(Response::default());
            response.extensions_mut().insert(HandOver::new(place));
            response
        }
        Err(reason) => turn_away(state, &reason),
    }
}

/// A place among the streams for a request that may have one.
async fn open(state: &State, headers: &HeaderMap) -> Result<Place, NoStream> {
    let credentials = Credentials::read(headers)?;
    let changes = state.rechecks.changes();
    let sign_in = sign_in(state, &credentials, last_event_id(headers)).await?;
    let (place, mailbox) = enter(&state.browsers.hub, &sign_in).await?;
    if state.rechecks.changes() != changes {
        // The sign-in may have ended after the database was asked, and before there was a stream to end.
        let recheck = Recheck::Contact(sign_in.contact_id);
        state.rechecks.check(recheck);
    }
    if let Some(mailbox) = mailbox {
        state
            .tasks
            .spawn(browser::run(mailbox, state.browsers.clone()));
    }
    Ok(place)
}

/// Asks the database whose browser this is, and what it was told already.
async fn sign_in(
    state: &State,
    credentials: &Credentials,
    last_event_id: Option<HistoryId>,
) -> Result<SignIn, NoStream> {
    let session = state.queries.current().ok_or(NoStream::NoDatabase)?;
    let hub = state.browsers.hub.clone();
    let epoch = hub.epoch().ok_or(NoStream::NoDatabase)?;
    let credentials = credentials.clone();
    let asking = async {
        // How many wait here is bounded by the accept loop.
        let permit = Arc::clone(&state.sign_ins).acquire_owned().await;
        // In a task of its own: when we give up waiting, the statement is still with the database, and
        // its permit has to be so, too.
        let asked = tokio::spawn(async move {
            let answer = ask(&session, &hub, epoch, &credentials, last_event_id).await;
            drop(permit);
            answer
        });
        Ok(asked.await??)
    };
    timeout(PATIENCE, asking)
        .await
        .unwrap_or(Err(NoStream::NoAnswer))
}

async fn ask(
    session: &Session,
    hub: &Hub,
    epoch: (Epoch, u64),
    credentials: &Credentials,
    last_event_id: Option<HistoryId>,
) -> Result<SignIn, SignInError> {
    let (epoch, number) = epoch;
    let authentic = credentials.sign_in(session).await?;
    let mut sign_in = SignIn {
        contact_id: authentic.contact_id,
        browser: authentic.browser,
        agent: authentic.agent,
        position: authentic.position.map(|stored| stored.within(&epoch)),
        epoch: number,
        signed_in_at_ms: authentic.signed_in_at_ms,
    };
    if sign_in.position.is_none() && !hub.remembers(sign_in.contact_id, sign_in.browser) {
        let (start, newest) = session.start(sign_in.contact_id, hub.settled()).await?;
        sign_in.position = Some(match last_event_id {
            // Nothing else is known of this browser, so what it says itself counts.
            Some(id) if id <= newest => Position::new(id, []),
            _ => start,
        });
    } else if let (Some(position), Some(id)) = (&mut sign_in.position, last_event_id)
        // Otherwise it is of ids that have started again since.
        && position.time_ms().is_none()
        && id <= hub.newest()
    {
        position.extend([id]);
    }
    Ok(sign_in)
}

/// Takes a place. A browser whose places are taken gets one if a stream of it turns out to be dead:
/// behind Apache that shows only when something is written.
async fn enter(hub: &Hub, sign_in: &SignIn) -> Result<(Place, Option<Mailbox>), NoStream> {
    let entered = match hub.enter(sign_in) {
        Err(Full::Browser(probed)) => {
            // An error means that the task has ended, and its streams with it.
            let _ = timeout(PATIENCE, probed).await;
            hub.enter(sign_in)
        }
        other => other,
    };
    entered.map_err(|full| match full {
        Full::Browser(_) => NoStream::Third(sign_in.contact_id),
        Full::Daemon => NoStream::Full,
        Full::Stopping => NoStream::Stopping,
        Full::Turned => NoStream::NoDatabase,
    })
}

/// Logs and counts why there is no stream, and answers the request.
fn turn_away(state: &State, reason: &NoStream) -> Response {
    let metrics = &state.browsers.metrics;
    let postponed = match reason {
        NoStream::Refused(refusal) => {
            metrics.refuse(*refusal);
            debug!("a browser was refused: {refusal}");
            return no_content();
        }
        NoStream::Third(_) => {
            metrics.refuse_third_stream();
            debug!("{reason}");
            return no_content();
        }
        NoStream::NoDatabase | NoStream::Query(_) | NoStream::NoAnswer | NoStream::Died(_) => {
            match state.away.lock().take() {
                Some(more) => warn!("browsers are told to come back: {reason}{more}"),
                None => debug!("a browser was told to come back: {reason}"),
            }
            Postponed::Database
        }
        NoStream::Full => {
            if let Some(more) = state.full.lock().take() {
                warn!(
                    "a browser was told to come back: {reason}{more}; raise the limit on open files (with systemd: \
                     LimitNOFILE=)"
                );
            }
            Postponed::Full
        }
        NoStream::Stopping => Postponed::Stopping,
    };
    metrics.postpone(postponed);
    // Any other status than 200 would make the browser's EventSource give up for good.
    let retry = rand::rng().random_range(UNAVAILABLE_RETRY_MS);
    event_stream(Response::new(event::retry(retry).into()))
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

//! The one route: `GET <base>/notifications/v1/subscribe`, and what else a request may be answered.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use log::{debug, warn};
use parking_lot::Mutex;
use rand::RngExt;
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;
use warp::Filter;
use warp::http::{HeaderMap, Method, StatusCode};
use warp::path::FullPath;
use warp::reply::Response;

use super::answers::{event_stream, no_content, plain, use_get};
use super::hand_over::HandOver;
use crate::auth::{Credentials, Recheck, Rechecks, last_event_id};
use crate::config::Tuning;
use crate::database::{Queries, Session, describe};
use crate::deliver::{Replayer, browser};
use crate::hub::{Full, Hub, Mailbox, Place};
use crate::model::event;
use crate::model::ids::HistoryId;
use crate::model::position::Position;
use crate::model::sign_in::{Refusal, SignIn};
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
    ) -> Self {
        Self {
            queries,
            browsers: browser::Shared {
                hub,
                replayer,
                metrics,
                tuning,
            },
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

async fn subscribe(state: &State, headers: &HeaderMap) -> Response {
    let credentials = match Credentials::read(headers) {
        Ok(credentials) => credentials,
        Err(refusal) => return refuse(state, refusal),
    };
    let changes = state.rechecks.changes();
    let sign_in = match sign_in(state, &credentials, last_event_id(headers)).await {
        Ok(Ok(sign_in)) => sign_in,
        Ok(Err(refusal)) => return refuse(state, refusal),
        Err(reason) => {
            match state.away.lock().take() {
                Some(more) => warn!("browsers are told to come back: {reason}{more}"),
                None => debug!("a browser was told to come back: {reason}"),
            }
            return unavailable(state, Postponed::Database);
        }
    };
    let (place, mailbox) = match enter(&state.browsers.hub, &sign_in).await {
        Ok(entered) => entered,
        Err(Full::Stopping) => return unavailable(state, Postponed::Stopping),
        Err(Full::Daemon) => {
            if let Some(more) = state.full.lock().take() {
                warn!(
                    "a browser was told to come back: all places for streams are taken{more}; \
                     raise the limit on open files (with systemd: LimitNOFILE=)"
                );
            }
            return unavailable(state, Postponed::Full);
        }
        Err(Full::Browser(_)) => {
            state.browsers.metrics.refuse_third_stream();
            debug!(
                "contact {}: a third stream of one browser",
                sign_in.contact_id
            );
            return no_content();
        }
    };
    if state.rechecks.changes() != changes {
        // The sign-in may have ended after the database was asked, and before there was a stream to end.
        let recheck = Recheck::Contact(sign_in.contact_id);
        state.rechecks.check(recheck);
    }
    if let Some(mailbox) = mailbox {
        tokio::spawn(browser::run(mailbox, state.browsers.clone()));
    }
    let mut response = event_stream(Response::default());
    response.extensions_mut().insert(HandOver::new(place));
    response
}

/// Asks the database whose browser this is, and what it was told already.
///
/// # Errors
///
/// Why that cannot be known for now; a refusal is a successful answer.
async fn sign_in(
    state: &State,
    credentials: &Credentials,
    last_event_id: Option<HistoryId>,
) -> Result<Result<SignIn, Refusal>, String> {
    let session = state.queries.current().ok_or("the database is away")?;
    let hub = state.browsers.hub.clone();
    let credentials = credentials.clone();
    let asking = async {
        // How many wait here is bounded by the accept loop.
        let permit = Arc::clone(&state.sign_ins).acquire_owned().await;
        // In a task of its own: when we give up waiting, the statement is still with the database, and
        // its permit has to be so, too.
        let asked = tokio::spawn(async move {
            let answer = ask(&session, &hub, &credentials, last_event_id).await;
            drop(permit);
            answer
        });
        match asked.await {
            Ok(answer) => answer.map_err(|error| describe(&error)),
            Err(error) => Err(error.to_string()),
        }
    };
    timeout(PATIENCE, asking).await.unwrap_or_else(|_| {
        Err(format!(
            "no answer from the database within {PATIENCE:?}; is it overloaded, or table browser_session locked? \
             pg_stat_activity shows it"
        ))
    })
}

async fn ask(
    session: &Session,
    hub: &Hub,
    credentials: &Credentials,
    last_event_id: Option<HistoryId>,
) -> Result<Result<SignIn, Refusal>, tokio_postgres::Error> {
    let mut sign_in = match credentials.sign_in(session).await? {
        Ok(sign_in) => sign_in,
        Err(refusal) => return Ok(Err(refusal)),
    };
    if sign_in.position.is_none() && !hub.remembers(sign_in.contact_id, sign_in.browser) {
        let (start, newest) = session.start(sign_in.contact_id, hub.settled()).await?;
        sign_in.position = Some(match last_event_id {
            // Nothing else is known of this browser, so what it says itself counts.
            Some(id) if id <= newest => Position::new(id, []),
            _ => start,
        });
    } else if let (Some(position), Some(id)) = (&mut sign_in.position, last_event_id) {
        position.extend([id]);
    }
    Ok(Ok(sign_in))
}

/// Takes a place. A browser whose places are taken gets one if a stream of it turns out to be dead:
/// behind Apache that shows only when something is written.
async fn enter(hub: &Hub, sign_in: &SignIn) -> Result<(Place, Option<Mailbox>), Full> {
    match hub.enter(sign_in) {
        Err(Full::Browser(probed)) => {
            // An error means that the task has ended, and its streams with it.
            let _ = timeout(PATIENCE, probed).await;
            hub.enter(sign_in)
        }
        other => other,
    }
}

fn refuse(state: &State, refusal: Refusal) -> Response {
    state.browsers.metrics.refuse(refusal);
    debug!("a browser was refused: {refusal}");
    no_content()
}

/// A stream that ends at once and makes the browser come back: any other status than 200 would make
/// its EventSource give up for good.
fn unavailable(state: &State, why: Postponed) -> Response {
    state.browsers.metrics.postpone(why);
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

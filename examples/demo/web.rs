//! The pages, the actions of their buttons, and their data.

use std::convert::Infallible;
use std::sync::Arc;

use futures::{Stream, StreamExt as _, future};
use tokio::net::TcpListener;
use tokio::sync::{broadcast, mpsc, watch};
use warp::http::{HeaderValue, Response, StatusCode};
use warp::{Filter, Rejection, sse};

use crate::facts::Seen;
use crate::front::Network;
use crate::icinga::{Click, Database, Written};
use crate::processes::{Postgres, Supervised};

/// The page with the three desktops, and its files: by path, with type.
const FILES: [(&str, &str, &str); 4] = [
    ("demo.js", "text/javascript", include_str!("page/demo.js")),
    ("demo.css", "text/css", include_str!("page/demo.css")),
    (
        "desktop.js",
        "text/javascript",
        include_str!("page/desktop.js"),
    ),
    ("desktop.css", "text/css", include_str!("page/desktop.css")),
];
const DEMO: &str = include_str!("page/demo.html");
const DESKTOP: &str = include_str!("page/desktop.html");

/// The users with a desktop.
const USERS: [&str; 3] = ["alice", "bob", "carol"];

/// The state of the pages.
pub(crate) struct Web {
    /// The page's host and port. The desktops are on subdomains, so that each has its own cookie within the same site.
    pub(crate) host: String,
    pub(crate) facts: watch::Receiver<Seen>,
    pub(crate) database: Database,
    pub(crate) written: broadcast::Sender<Written>,
    pub(crate) clicks: mpsc::UnboundedSender<Click>,
    pub(crate) daemon: Supervised,
    pub(crate) postgres: Arc<Postgres>,
    pub(crate) network: Arc<Network>,
}

impl Web {
    /// Answers requests that come through nginx.
    pub(crate) async fn run(self, listener: TcpListener) {
        let web = Arc::new(self);
        let state = {
            let web = Arc::clone(&web);
            warp::any().map(move || Arc::clone(&web))
        };
        let get = warp::get().and(state.clone());
        let page = get
            .clone()
            .and(warp::path::end())
            .and(warp::header("host"))
            .map(Web::page);
        let file = get
            .clone()
            .and(warp::path::param())
            .and(warp::path::end())
            .and_then(|_, name: String| future::ready(file(&name)));
        let desktop = get
            .clone()
            .and(warp::path("icingaweb2"))
            .and(warp::path::end())
            .and(warp::header("host"))
            .and(warp::header("user-agent"))
            .and(warp::cookie::optional("Icingaweb2"))
            .then(Web::desktop);
        let news = get
            .and(warp::path("news"))
            .and(warp::path::end())
            .map(|web: Arc<Web>| sse::reply(sse::keep_alive().stream(web.news())));
        let click = warp::post()
            .and(state)
            .and(warp::path("click"))
            .and(warp::path::param())
            .and(warp::path::end())
            // No other site's page can send this.
            .and(warp::header::exact("x-demo", "click"))
            .map(|web: Arc<Web>, name: String| web.click(&name));
        let routes = page.or(news).or(desktop).or(click).or(file);
        warp::serve(routes).incoming(listener).run().await;
    }

    /// The page, at the one address whose desktops belong to the same site.
    fn page(web: Arc<Self>, host: String) -> Response<String> {
        if host == web.host {
            return answer(StatusCode::OK, "text/html", DEMO.to_owned());
        }
        let mut elsewhere = answer(StatusCode::TEMPORARY_REDIRECT, "text/plain", String::new());
        if let Ok(location) = format!("http://{}/", web.host).parse() {
            elsewhere.headers_mut().insert("location", location);
        }
        elsewhere
    }

    /// A user's desktop. It signs the browser in, unless it is signed in.
    async fn desktop(
        web: Arc<Self>,
        host: String,
        user_agent: String,
        session_id: Option<String>,
    ) -> Response<String> {
        let user = host
            .strip_suffix(&web.host)
            .and_then(|user| user.strip_suffix('.'))
            .filter(|user| USERS.contains(user));
        let Some(user) = user else {
            let text = "There is no such desktop.\n".to_owned();
            return answer(StatusCode::NOT_FOUND, "text/plain", text);
        };
        let signed_in = web.database.sign_in(user, user_agent.trim(), session_id);
        let cookie = signed_in.await.ok().and_then(|id| {
            let cookie = format!("Icingaweb2={id}; Path=/icingaweb2/; HttpOnly; SameSite=Lax");
            cookie.parse().ok()
        });
        let Some(cookie) = cookie else {
            let text = "Signing in is impossible: PostgreSQL is stopped.\n".to_owned();
            let mut later = answer(StatusCode::SERVICE_UNAVAILABLE, "text/plain", text);
            let seconds = HeaderValue::from_static("1");
            later.headers_mut().insert("refresh", seconds);
            return later;
        };
        let page = DESKTOP.replace("{user}", user);
        let mut desktop = answer(StatusCode::OK, "text/html", page);
        desktop.headers_mut().insert("set-cookie", cookie);
        desktop
    }

    /// The data for the page: the facts, now and when they change, and each row that was written.
    fn news(&self) -> impl Stream<Item = Result<sse::Event, Infallible>> + use<> {
        let mut facts = self.facts.clone();
        facts.mark_changed();
        let facts = futures::stream::unfold(facts, |mut facts| async move {
            facts.changed().await.ok()?;
            let seen = facts.borrow_and_update().clone();
            Some((event("facts", &seen), facts))
        });
        let written = futures::stream::unfold(self.written.subscribe(), |mut written| async move {
            loop {
                match written.recv().await {
                    Ok(row) => return Some((event("written", &row), written)),
                    // The page counts the messages.
                    Err(broadcast::error::RecvError::Lagged(_)) => {}
                    Err(broadcast::error::RecvError::Closed) => return None,
                }
            }
        });
        futures::stream::select(facts, written)
            .filter_map(future::ready)
            .map(Ok)
    }

    /// The action of a button.
    fn click(self: Arc<Self>, name: &str) -> StatusCode {
        match name {
            "kill-daemon" => self.daemon.kill(),
            "stop-postgresql" => {
                tokio::spawn(async move {
                    if let Err(error) = self.postgres.outage().await {
                        eprintln!("{error:#}");
                    }
                });
            }
            "cut-network" => {
                tokio::spawn(async move { self.network.outage().await });
            }
            name => match name.parse() {
                Ok(click) => {
                    // Fails only while the demo ends.
                    let _ = self.clicks.send(click);
                }
                Err(_) => return StatusCode::NOT_FOUND,
            },
        }
        StatusCode::NO_CONTENT
    }
}

/// An event of the page's stream.
fn event(name: &str, data: &impl serde::Serialize) -> Option<sse::Event> {
    sse::Event::default().event(name).json_data(data).ok()
}

fn file(name: &str) -> Result<Response<String>, Rejection> {
    let found = FILES.iter().find(|(path, ..)| *path == name);
    let (_, kind, text) = found.ok_or_else(warp::reject::not_found)?;
    Ok(answer(StatusCode::OK, kind, (*text).to_owned()))
}

/// A text of that type, which browsers do not cache.
fn answer(status: StatusCode, kind: &'static str, text: String) -> Response<String> {
    let mut response = Response::new(text);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert("content-type", HeaderValue::from_static(kind));
    headers.insert("cache-control", HeaderValue::from_static("no-store"));
    response
}

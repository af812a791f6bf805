//! The browser that the check stands in for.

use hyper::HeaderMap;
use hyper::header::{COOKIE, HeaderValue, USER_AGENT};

use super::address::Address;
use super::report::Problem;
use crate::auth::Credentials;
use crate::config::Secret;
use crate::database::{Session, describe};
use crate::model::ids::ContactId;
use crate::model::sign_in::Refusal;

/// A browser to stand in for.
#[derive(Debug)]
pub struct Visit {
    /// Where browsers find Icinga Web.
    pub address: Address,
    /// The value of the browser's cookie.
    pub cookie: Secret,
    /// What the browser calls itself; `None` is what it called itself when it signed in.
    pub user_agent: Option<String>,
}

/// The headers of a browser that the daemon lets in, and its contact.
pub(super) async fn sign_in(
    visit: &Visit,
    session: &Session,
) -> Result<(HeaderMap, ContactId), Problem> {
    let malformed = || refused(Refusal::Malformed);
    let mut headers = HeaderMap::new();
    let mut cookie = HeaderValue::from_str(&format!("Icingaweb2={}", visit.cookie.expose()))
        .map_err(|_| malformed())?;
    cookie.set_sensitive(true);
    headers.insert(COOKIE, cookie);
    let user_agent = match &visit.user_agent {
        Some(user_agent) => user_agent.clone(),
        None => Credentials::read(&headers)
            .map_err(refused)?
            .signed_in_as(session)
            .await
            .map_err(|error| describe(&error))?
            .ok_or_else(|| refused(Refusal::UnknownSession))?,
    };
    let user_agent = HeaderValue::from_bytes(user_agent.as_bytes()).map_err(|_| malformed())?;
    headers.insert(USER_AGENT, user_agent);
    let credentials = Credentials::read(&headers).map_err(refused)?;
    let sign_in = credentials
        .sign_in(session)
        .await
        .map_err(|error| describe(&error))?
        .map_err(refused)?;
    Ok((headers, sign_in.contact_id))
}

fn refused(refusal: Refusal) -> Problem {
    let advice = match refusal {
        Refusal::NoCookie | Refusal::Malformed | Refusal::UnknownSession => {
            "sign in to Icinga Web, and take the value of the cookie Icingaweb2 from the browser"
        }
        Refusal::UserAgent => {
            "leave --user-agent out: then it is the one that the browser signed in with"
        }
        Refusal::Superseded => {
            "sign in again; of browsers with the same user and user agent, the last one counts"
        }
        Refusal::NoContact => {
            "in Icinga Web, give a contact of Icinga Notifications this user's name"
        }
    };
    format!("{refusal}; {advice}")
}

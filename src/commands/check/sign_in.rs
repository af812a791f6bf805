//! The browser that the check acts as.

use hyper::HeaderMap;
use hyper::header::{COOKIE, HeaderValue, USER_AGENT};

use super::address::Address;
use crate::auth::Credentials;
use crate::commands::Problem;
use crate::config::Secret;
use crate::database::Session;
use crate::model::ids::ContactId;
use crate::model::sign_in::Refusal;

/// A browser to act as.
#[derive(Debug)]
pub struct Visit {
    /// The address of Icinga Web as browsers use it.
    pub address: Address,
    /// The value of the browser's cookie.
    pub cookie: Secret,
    /// The user agent; `None` for the one that the browser signed in with.
    pub user_agent: Option<String>,
}

/// The request headers of that browser, and its contact, if the daemon accepts it.
pub(super) async fn sign_in(
    visit: &Visit,
    session: &Session,
) -> Result<(HeaderMap, ContactId), Problem> {
    let mut headers = HeaderMap::new();
    let mut cookie = HeaderValue::from_str(&format!("Icingaweb2={}", visit.cookie.expose()))
        .map_err(|_| Refusal::Malformed)?;
    cookie.set_sensitive(true);
    headers.insert(COOKIE, cookie);
    let user_agent = match &visit.user_agent {
        Some(user_agent) => user_agent.clone(),
        None => Credentials::read(&headers)?
            .signed_in_as(session)
            .await?
            .ok_or(Refusal::UnknownSession)?,
    };
    let user_agent =
        HeaderValue::from_bytes(user_agent.as_bytes()).map_err(|_| Refusal::Malformed)?;
    headers.insert(USER_AGENT, user_agent);
    let sign_in = Credentials::read(&headers)?.sign_in(session).await?;
    Ok((headers, sign_in.contact_id))
}

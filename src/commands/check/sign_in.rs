//! The browser that the check stands in for.

use hyper::HeaderMap;
use hyper::header::{COOKIE, HeaderValue, USER_AGENT};

use super::address::Address;
use crate::auth::Credentials;
use crate::commands::Problem;
use crate::config::Secret;
use crate::database::Session;
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

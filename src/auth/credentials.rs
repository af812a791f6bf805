//! Which contact a request belongs to: cookie → session → contact.
//!
//! A request is authentic if its cookie names a session, its user agent is the one that signed in, and no newer session of the
//! same user and user agent exists. The database is queried only for a request whose cookie and user agent are well-formed.

use std::fmt;
use std::time::Instant;

use percent_encoding::percent_decode_str;
use warp::http::HeaderMap;
use warp::http::header::{COOKIE, USER_AGENT};

use crate::database::{QueryError, Session, StoredPosition};
use crate::model::browser::{AgentKey, BrowserKey};
use crate::model::ids::ContactId;
use crate::model::sign_in::Refusal;

/// The cookie that holds Icinga Web's session id.
const COOKIE_NAME: &str = "Icingaweb2";

/// The lengths of session ids: PHP makes at least 22 characters, and the column holds 256.
const SESSION_ID_LENGTH: std::ops::RangeInclusive<usize> = 22..=256;

/// What Icinga Web stores for a browser that sends no user agent.
const NO_USER_AGENT: &str = "default";

/// Why a browser is not signed in.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SignInError {
    /// It is refused.
    #[error("{why}")]
    Refused {
        /// The reason.
        why: Refusal,
        /// The user's contact, if the session has one.
        contact_id: Option<ContactId>,
    },
    /// The sign-in cannot be checked at the moment.
    #[error(transparent)]
    Query(#[from] QueryError),
}

/// A browser whose sign-in is valid.
#[derive(Debug)]
pub(crate) struct Authentic {
    pub(crate) contact_id: ContactId,
    pub(crate) browser: BrowserKey,
    /// Its user agent.
    pub(crate) agent: AgentKey,
    /// What it has acknowledged, if that was ever stored.
    pub(crate) position: Option<StoredPosition>,
    /// When Icinga Web authenticated it, in milliseconds since the Unix epoch.
    pub(crate) signed_in_at_ms: i64,
    /// When the database was queried.
    pub(crate) asked_at: Instant,
}

/// The session id and the user agent in a request.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    session_id: String,
    user_agent: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(***)")
    }
}

impl From<Refusal> for SignInError {
    fn from(why: Refusal) -> Self {
        Self::Refused {
            why,
            contact_id: None,
        }
    }
}

impl Credentials {
    /// Reads a request's headers.
    ///
    /// # Errors
    ///
    /// [`Refusal::NoCookie`] or [`Refusal::Malformed`].
    pub fn read(headers: &HeaderMap) -> Result<Self, Refusal> {
        Ok(Self {
            session_id: session_id(headers)?,
            user_agent: user_agent(headers)?,
        })
    }

    /// The browser that the request claims to come from.
    pub fn browser(&self) -> BrowserKey {
        BrowserKey::new(&self.session_id)
    }

    /// The request's user agent.
    pub(crate) fn agent(&self) -> AgentKey {
        AgentKey::new(&self.user_agent)
    }

    /// The user agent that the session signed in with; `None` if there is no such session.
    pub(crate) async fn signed_in_as(
        &self,
        session: &Session,
    ) -> Result<Option<String>, QueryError> {
        session.user_agent(&self.session_id).await
    }

    /// Checks the sign-in in the database.
    ///
    /// # Errors
    ///
    /// [`SignInError`].
    pub(crate) async fn sign_in(&self, session: &Session) -> Result<Authentic, SignInError> {
        let browser = self.browser();
        let asked_at = Instant::now();
        let row = session
            .browser_session(&self.session_id, &self.user_agent, &browser)
            .await?
            .ok_or(Refusal::UnknownSession)?;
        let refused = |why| {
            Err(SignInError::Refused {
                why,
                contact_id: row.contact_id,
            })
        };
        let contact_id = match (row.agent_matches, row.newest, row.contact_id) {
            (false, ..) => return refused(Refusal::UserAgent),
            (true, false, _) => return refused(Refusal::Superseded),
            (true, true, None) => return refused(Refusal::NoContact),
            (true, true, Some(contact_id)) => contact_id,
        };
        Ok(Authentic {
            contact_id,
            browser,
            agent: self.agent(),
            position: row.position,
            signed_in_at_ms: row.signed_in_at_ms,
            asked_at,
        })
    }
}

/// The session id in the first cookie of that name, which is the one that PHP uses.
fn session_id(headers: &HeaderMap) -> Result<String, Refusal> {
    let value = headers
        .get_all(COOKIE)
        .iter()
        .flat_map(|header| header.as_bytes().split(|byte| *byte == b';'))
        .map(|pair| pair.trim_ascii())
        .find_map(|pair| {
            pair.strip_prefix(COOKIE_NAME.as_bytes())?
                .strip_prefix(b"=")
        })
        .ok_or(Refusal::NoCookie)?;
    let value = std::str::from_utf8(value).map_err(|_| Refusal::Malformed)?;
    // PHP percent-encodes commas.
    let id = percent_decode_str(value)
        .decode_utf8()
        .map_err(|_| Refusal::Malformed)?;
    let valid = SESSION_ID_LENGTH.contains(&id.len())
        && id
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b',' | b'-'));
    if valid {
        Ok(id.into_owned())
    } else {
        Err(Refusal::Malformed)
    }
}

/// The user agent as Icinga Web stores it: trimmed like PHP's `trim`, with a default if there is none.
fn user_agent(headers: &HeaderMap) -> Result<String, Refusal> {
    let Some(value) = headers.get(USER_AGENT) else {
        return Ok(NO_USER_AGENT.to_owned());
    };
    // If it is not UTF-8, no text column can hold it.
    let value = std::str::from_utf8(value.as_bytes()).map_err(|_| Refusal::Malformed)?;
    let value = value.trim_matches([' ', '\t', '\n', '\r', '\0', '\x0b']);
    Ok(if value.is_empty() {
        NO_USER_AGENT
    } else {
        value
    }
    .to_owned())
}

#[cfg(test)]
mod tests;

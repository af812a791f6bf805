//! Whose browser a request comes from: cookie → session → contact.
//!
//! A request is authentic when its cookie names a session, its user agent is the one that signed in,
//! and no newer session of the same user and user agent exists. Everything that can be judged from
//! the request alone is, before the database is asked.

use std::fmt;

use percent_encoding::percent_decode_str;
use warp::http::HeaderMap;
use warp::http::header::{COOKIE, USER_AGENT};

use crate::database::{QueryError, Session};
use crate::model::browser::{AgentKey, BrowserKey};
use crate::model::ids::HistoryId;
use crate::model::sign_in::{Refusal, SignIn};

/// The cookie that holds Icinga Web's session id.
const COOKIE_NAME: &str = "Icingaweb2";

/// How long session ids are: PHP makes 22 characters or more, and the column holds 256.
const SESSION_ID_LENGTH: std::ops::RangeInclusive<usize> = 22..=256;

/// What Icinga Web stores for a browser that names itself nothing.
const NO_USER_AGENT: &str = "default";

/// Why a browser is not signed in.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SignInError {
    /// It may not be let in.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Whether it may cannot be known for now.
    #[error(transparent)]
    Query(#[from] QueryError),
}

/// What a request says of itself.
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

    /// The browser that the request says to be.
    pub fn browser(&self) -> BrowserKey {
        BrowserKey::new(&self.session_id)
    }

    /// The user agent that the browser signed in with, whatever it calls itself now; `None` if there is no such session.
    pub(crate) async fn signed_in_as(
        &self,
        session: &Session,
    ) -> Result<Option<String>, QueryError> {
        session.user_agent(&self.session_id).await
    }

    /// Asks the database.
    ///
    /// # Errors
    ///
    /// [`SignInError`].
    pub(crate) async fn sign_in(&self, session: &Session) -> Result<SignIn, SignInError> {
        let row = session
            .browser_session(&self.session_id, &self.user_agent)
            .await?
            .ok_or(Refusal::UnknownSession)?;
        let contact_id = match (row.agent_matches, row.newest, row.contact_id) {
            (false, ..) => return Err(Refusal::UserAgent.into()),
            (true, false, _) => return Err(Refusal::Superseded.into()),
            (true, true, None) => return Err(Refusal::NoContact.into()),
            (true, true, Some(contact_id)) => contact_id,
        };
        Ok(SignIn {
            contact_id,
            browser: self.browser(),
            agent: AgentKey::new(&self.user_agent),
            position: row.position,
        })
    }
}

/// The id of the last event that the client has seen. Service workers do not send it, so it is seldom
/// here. Read as text, because what cannot be an id is no reason to refuse the client.
pub fn last_event_id(headers: &HeaderMap) -> Option<HistoryId> {
    let text = headers.get("last-event-id")?.to_str().ok()?;
    text.parse().ok().filter(|id| *id > 0).map(HistoryId)
}

/// The session id of the first cookie of that name, as PHP takes it.
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
    // PHP sends its comma as %2C.
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

/// The user agent as Icinga Web stores it: trimmed as PHP trims, and named if there is none.
fn user_agent(headers: &HeaderMap) -> Result<String, Refusal> {
    let Some(value) = headers.get(USER_AGENT) else {
        return Ok(NO_USER_AGENT.to_owned());
    };
    // Not text, so it cannot be in a text column.
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
mod tests {
    use super::*;
    use warp::http::HeaderValue;

    const ID: &str = "abcdefghijklmnopqrstuv";

    fn headers(cookies: &[&[u8]], user_agent: Option<&[u8]>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for cookie in cookies {
            headers.append(COOKIE, HeaderValue::from_bytes(cookie).unwrap());
        }
        if let Some(value) = user_agent {
            headers.insert(USER_AGENT, HeaderValue::from_bytes(value).unwrap());
        }
        headers
    }

    fn read(cookies: &[&str]) -> Result<String, Refusal> {
        let cookies: Vec<&[u8]> = cookies.iter().map(|cookie| cookie.as_bytes()).collect();
        Credentials::read(&headers(&cookies, None)).map(|credentials| credentials.session_id)
    }

    #[test]
    fn the_cookie_is_found_among_others() {
        let cookie = format!("a=b; Icingaweb2={ID};c=d");
        assert_eq!(read(&[&cookie]).as_deref(), Ok(ID));
        assert_eq!(read(&["x=y", &cookie]).as_deref(), Ok(ID));
        assert_eq!(read(&[&format!("icingaweb2={ID}")]), Err(Refusal::NoCookie));
        assert_eq!(
            read(&[&format!("XIcingaweb2={ID}")]),
            Err(Refusal::NoCookie)
        );
        assert_eq!(read(&[]), Err(Refusal::NoCookie));
    }

    #[test]
    fn of_two_cookies_the_first_counts() {
        let second = ID.to_uppercase();
        let cookie = format!("Icingaweb2={ID}; Icingaweb2={second}");
        assert_eq!(read(&[&cookie]).as_deref(), Ok(ID));
    }

    #[test]
    fn an_encoded_comma_is_a_comma() {
        assert_eq!(
            read(&["Icingaweb2=abcdefghijklmnopqrstu%2C-"]).as_deref(),
            Ok("abcdefghijklmnopqrstu,-")
        );
    }

    #[test]
    fn what_cannot_be_a_session_id_is_malformed() {
        let long = "a".repeat(257);
        for id in [
            "",
            "short",
            "abcdefghijklmnopqrstu'",
            "abcdefghijklmnopqrstuvé",
            &long,
        ] {
            assert_eq!(
                read(&[&format!("Icingaweb2={id}")]),
                Err(Refusal::Malformed),
                "{id}"
            );
        }
        assert!(read(&[&format!("Icingaweb2={}", &long[1..])]).is_ok());
        let raw = headers(&[b"Icingaweb2=\xff"], None);
        assert_eq!(Credentials::read(&raw).unwrap_err(), Refusal::Malformed);
    }

    #[test]
    fn the_user_agent_is_trimmed_and_named() {
        let cookie = format!("Icingaweb2={ID}");
        let agent = |value: Option<&[u8]>| {
            Credentials::read(&headers(&[cookie.as_bytes()], value)).map(|c| c.user_agent)
        };
        assert_eq!(
            agent(Some(b" Mozilla/5.0 \t")).as_deref(),
            Ok("Mozilla/5.0")
        );
        assert_eq!(agent(Some(b"")).as_deref(), Ok("default"));
        assert_eq!(agent(None).as_deref(), Ok("default"));
        assert_eq!(agent(Some("Ünicode".as_bytes())).as_deref(), Ok("Ünicode"));
        assert_eq!(agent(Some(b"\xff")), Err(Refusal::Malformed));
    }

    #[test]
    fn only_positive_integers_are_event_ids() {
        for (value, id) in [
            ("1234", Some(1234)),
            ("9223372036854775807", Some(i64::MAX)),
            ("9223372036854775808", None),
            ("0", None),
            ("-1", None),
            ("1234, 5", None),
            ("", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert("last-event-id", HeaderValue::from_static(value));
            assert_eq!(last_event_id(&headers), id.map(HistoryId), "{value}");
        }
        assert_eq!(last_event_id(&HeaderMap::new()), None);
    }

    #[test]
    fn nothing_secret_is_shown() {
        assert_eq!(format!("{:?}", BrowserKey::new("abc")), "ba7816");
        let credentials =
            Credentials::read(&headers(&[b"Icingaweb2=abcdefghijklmnopqrstuv"], None));
        assert_eq!(format!("{:?}", credentials.unwrap()), "Credentials(***)");
    }
}

//! A problem and what to do about it, for the person who runs the command. All errors of commands end as one.

use std::fmt;

use crate::ask;
use crate::auth::SignInError;
use crate::database::{ConnectError, OpenError, QueryError, installation};
use crate::model::sign_in::Refusal;

/// One line of text.
#[derive(Debug)]
pub(super) struct Problem(String);

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<&str> for Problem {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

macro_rules! from {
    ($($error:ty),*) => {$(
        impl From<$error> for Problem {
            fn from(error: $error) -> Self {
                Self(error.to_string())
            }
        }
    )*};
}

from!(
    String,
    ask::AskError,
    ConnectError,
    OpenError,
    QueryError,
    installation::Error
);

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let advice = match refusal {
            Refusal::NoCookie | Refusal::Malformed | Refusal::UnknownSession => {
                "sign in to Icinga Web, and copy the value of the cookie Icingaweb2 from the browser"
            }
            Refusal::UserAgent => {
                "omit --user-agent: the default is the one that the browser signed in with"
            }
            Refusal::Superseded => {
                "sign in again; only the last sign-in with the same user and user agent counts"
            }
            Refusal::NoContact => {
                "in Icinga Web, give a contact of Icinga Notifications this user's name"
            }
        };
        Self(format!("{refusal}; {advice}"))
    }
}

impl From<SignInError> for Problem {
    fn from(error: SignInError) -> Self {
        match error {
            SignInError::Refused { why, .. } => why.into(),
            SignInError::Query(error) => error.into(),
        }
    }
}

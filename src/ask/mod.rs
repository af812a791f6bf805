//! Questions that commands put to every bridge of a database, and the answers.
//!
//! A question is a row of `icinga_desktop.browser_position`, under a random key that no browser has; NOTIFY only tells
//! the bridges that key. They append their answers to the row, and whoever asked removes it (if that fails,
//! housekeeping does). So only a role that may write what bridges write can ask or answer, although any role
//! may NOTIFY, and nothing but a random number is heard by others. A row with the floor -1 is a question:
//! positions begin at 0.

mod answerer;
mod asker;
mod question;

pub(crate) use answerer::{Answerer, QUEUE};
pub(crate) use asker::{Answers, AskError, TIMEOUT, ask};
pub(crate) use question::Question;

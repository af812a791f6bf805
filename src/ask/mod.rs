//! Questions of commands to every bridge of a database, and the answers.
//!
//! A question is a row of `icinga_desktop.browser_position`, with a random key that no browser has; NOTIFY carries only that key.
//! Bridges append their answers to the row, and the command removes it (if that fails, housekeeping does). So only a role with
//! the bridges' right to write can ask or answer, although any role can NOTIFY, and other roles receive only a random number. A
//! row with the floor -1 is a question: positions start at 0.

mod answerer;
mod asker;
mod question;

pub(crate) use answerer::{Answerer, QUEUE};
pub(crate) use asker::{Answers, AskError, TIMEOUT, ask};
pub(crate) use question::Question;

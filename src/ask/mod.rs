//! Questions that commands put to every bridge of a database, and the answers.

mod asker;

pub use asker::{Answer, Answerer, Answers, Error, PATIENCE, QUEUE, Question, ask};

//! The HTTP side: our own accept loop over hyper, for limits, and so that the connection of a stream can be taken from hyper and
//! handed to its browser's task.
//!
//! [`mod@subscribe`] decides which requests get a stream. Their connections go through [`crate::hub`] to the browser's task
//! ([`crate::deliver`]), which writes the streams. hyper is not involved any more: an idle stream costs a socket and a few
//! hundred bytes, the answer ends when the connection closes, and the task notices when the client leaves.
//!
//! [`admin`] has a listener of its own, for monitoring; [`mod@status`] is its page for people.

pub(crate) mod admin;
mod answers;
mod connection;
mod hand_over;
mod server;
pub(crate) mod status;
mod subscribe;

pub(crate) use server::serve;
pub(crate) use subscribe::{State, routes};

//! The HTTP side: our own accept loop over hyper, so that there are limits, and so that the
//! connection of a subscriber can be taken back from hyper and handed to its browser's task.
//!
//! [`mod@subscribe`] decides; what it lets in goes through [`crate::hub`] to its browser's task ([`crate::deliver`]), which writes to its
//! streams. hyper is gone by then: an idle stream costs a socket and a few hundred bytes, the
//! answer is close-delimited by nature, and the task sees what the client does.
//!
//! [`admin`] is served on a listener of its own, to monitoring; [`mod@status`] is its page for people.

pub(crate) mod admin;
mod answers;
mod connection;
mod hand_over;
mod server;
pub(crate) mod status;
mod subscribe;

pub(crate) use server::serve;
pub(crate) use subscribe::{State, routes};

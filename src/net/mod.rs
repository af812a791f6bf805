//! Sockets: where connections come from.

mod listeners;
mod socket;

pub(crate) use listeners::Listeners;
pub(crate) use socket::Socket;

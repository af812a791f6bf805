//! Sockets: where connections come from.

mod listeners;
mod socket;

pub use listeners::{Error, Listeners};
pub use socket::Socket;

//! Sockets: listening and accepted ones.

mod listeners;

use tokio::net::{TcpStream, UnixStream};
use tokio_util::either::Either;

pub(crate) use listeners::{BindError, Listeners};

/// An accepted connection, TCP or Unix, from the accept loop through hyper to the browser's task.
pub(crate) type Socket = Either<TcpStream, UnixStream>;

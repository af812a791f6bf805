//! The address of the admin listener: health and metrics.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

/// The address of the admin listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AdminAddress {
    /// An IP address and a port.
    Tcp(SocketAddr),
    /// A Unix socket, by its absolute path.
    Socket(PathBuf),
}

/// The error for a text that is not an [`AdminAddress`].
#[derive(Debug, thiserror::Error)]
#[error(
    "give an IP address and a port, e.g. 127.0.0.1:9002 or [::1]:9002, or the absolute path of a Unix socket"
)]
pub struct NoAdminAddress;

impl FromStr for AdminAddress {
    type Err = NoAdminAddress;

    fn from_str(text: &str) -> Result<Self, NoAdminAddress> {
        if text.starts_with('/') {
            return Ok(Self::Socket(PathBuf::from(text)));
        }
        text.parse().map(Self::Tcp).map_err(|_| NoAdminAddress)
    }
}

impl fmt::Display for AdminAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Socket(path) => path.display().fmt(f),
        }
    }
}

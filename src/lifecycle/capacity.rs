//! How many connections the daemon accepts.

use log::{info, warn};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// How many connections the daemon accepts.
pub(super) struct Capacity {
    /// Streams.
    pub(super) streams: usize,
    /// Connections that are not streams, or not yet.
    pub(super) pending: u32,
}

/// File descriptors for everything but connections of clients.
const RESERVED_FILES: usize = 64;

/// The maximum number of connections that are not streams: each request takes at most ten seconds for its head and ten for the
/// sign-in.
const MAX_PENDING: u32 = 4096;

/// Raises the limit on open files as far as possible, and divides it.
pub(super) fn capacity() -> Capacity {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    let current = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(error) => {
            warn!("cannot raise the limit on open files: {error}");
            limit.current
        }
    };
    // Without a limit, memory is the limit.
    let files = current.map_or(1 << 20, |files| {
        usize::try_from(files).unwrap_or(usize::MAX)
    });
    let usable = files.saturating_sub(RESERVED_FILES);
    let pending =
        u32::try_from(usable / 4).map_or(MAX_PENDING, |pending| pending.clamp(1, MAX_PENDING));
    let streams = usable.saturating_sub(pending as usize);
    info!("room for {streams} streams (limit on open files: {files}; with systemd: LimitNOFILE=)");
    Capacity { streams, pending }
}

//! Waiting for what must happen: the only place where tests poll.

use std::fmt::Display;
use std::time::{Duration, Instant};

/// How long something that must happen may take on a busy machine, before the test fails.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(30);

/// Time between two polls.
const PAUSE: Duration = Duration::from_millis(20);

/// Polls until a look returns the result. Until then it returns what it saw instead.
///
/// # Panics
///
/// After [`TIMEOUT`], with what the last look saw.
pub(crate) async fn eventually<T, S: Display>(look: impl AsyncFnMut() -> Result<T, S>) -> T {
    eventually_within(TIMEOUT, look).await
}

/// Like [`eventually`], with another timeout.
///
/// # Panics
///
/// Like [`eventually`].
pub(crate) async fn eventually_within<T, S: Display>(
    limit: Duration,
    mut look: impl AsyncFnMut() -> Result<T, S>,
) -> T {
    let mut seen = None;
    let looking = async {
        loop {
            match look().await {
                Ok(found) => return found,
                Err(instead) => seen = Some(instead),
            }
            tokio::time::sleep(PAUSE).await;
        }
    };
    match tokio::time::timeout(limit, looking).await {
        Ok(found) => found,
        Err(_) => match seen {
            Some(seen) => panic!("not within {limit:?}: {seen}"),
            None => panic!("not within {limit:?}: the first look did not end"),
        },
    }
}

/// Like [`eventually`], without async.
///
/// # Panics
///
/// Like [`eventually`].
#[track_caller]
pub(crate) fn eventually_blocking<T, S: Display>(
    limit: Duration,
    mut look: impl FnMut() -> Result<T, S>,
) -> T {
    let deadline = Instant::now() + limit;
    loop {
        match look() {
            Ok(found) => return found,
            Err(seen) => assert!(Instant::now() < deadline, "not within {limit:?}: {seen}"),
        }
        std::thread::sleep(PAUSE);
    }
}

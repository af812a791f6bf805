//! The daemon's tasks, which never end by themselves.

use log::error;
use tokio::task::{JoinHandle, JoinSet};

use super::Exit;

/// Runs a task and returns its name when it ends.
pub(super) async fn named(name: &'static str, task: impl Future<Output = ()>) -> &'static str {
    task.await;
    name
}

/// Waits until one of `tasks` ends, which is always a failure.
pub(super) async fn first_ended(tasks: &mut JoinSet<&'static str>) -> Exit {
    match tasks.join_next().await {
        Some(Ok(task)) => task_ended(task),
        Some(Err(error)) => task_ended(&error.to_string()),
        None => task_ended("all"),
    }
}

/// Waits until `task` ends, which is a failure unless the daemon stops.
pub(super) async fn ended(name: &str, task: &mut JoinHandle<()>) -> Exit {
    match task.await {
        Ok(()) => task_ended(name),
        Err(error) => task_ended(&error.to_string()),
    }
}

pub(super) fn task_ended(task: &str) -> Exit {
    error!("a task ended unexpectedly ({task}); exiting so that systemd restarts the daemon");
    Exit::Failed
}

#[cfg(test)]
mod tests {
    use futures::{FutureExt as _, future};

    use super::*;

    #[tokio::test]
    async fn the_first_task_that_ends_takes_the_daemon_down() {
        let mut tasks = JoinSet::new();
        let _ = tasks.spawn(named("endless", future::pending()));
        let _ = tasks.spawn(named("brief", future::ready(())));
        assert_eq!(first_ended(&mut tasks).await, Exit::Failed);
    }

    #[tokio::test]
    async fn a_task_that_panics_takes_the_daemon_down() {
        let mut tasks = JoinSet::new();
        let _ = tasks.spawn(named("endless", future::pending()));
        let _ = tasks.spawn(named("clumsy", async { panic!("on purpose") }));
        assert_eq!(first_ended(&mut tasks).await, Exit::Failed);
    }

    #[tokio::test]
    async fn a_task_with_a_handle_takes_the_daemon_down_when_it_ends_or_panics() {
        let mut brief = tokio::spawn(future::ready(()));
        assert_eq!(ended("brief", &mut brief).await, Exit::Failed);
        let mut clumsy = tokio::spawn(async { panic!("on purpose") });
        assert_eq!(ended("clumsy", &mut clumsy).await, Exit::Failed);
        let mut endless = tokio::spawn(future::pending());
        assert!(ended("endless", &mut endless).now_or_never().is_none());
    }
}

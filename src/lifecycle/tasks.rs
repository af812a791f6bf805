//! The daemon's tasks, which never end by themselves.

use log::error;
use tokio::task::JoinSet;

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

pub(super) fn task_ended(task: &str) -> Exit {
    error!("a task ended unexpectedly ({task}); exiting so that systemd restarts the daemon");
    Exit::Failed
}

#[cfg(test)]
mod tests {
    use futures::future;

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
        let _ = tasks.spawn(named("clumsy", async { panic!("as a test wants it") }));
        assert_eq!(first_ended(&mut tasks).await, Exit::Failed);
    }
}

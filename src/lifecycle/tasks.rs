//! Tasks that never end by themselves, and what ends the daemon.

use log::error;
use tokio::signal::unix::Signal;
use tokio::task::JoinSet;

use super::Exit;
use super::open::StartError;
use super::start::Daemon;

/// The signals that end the daemon.
pub(super) struct Ending {
    pub(super) terminate: Signal,
    pub(super) interrupt: Signal,
}

impl Daemon {
    /// Waits for the end: a signal, or a task that ends although none does by itself, but for the keepers when there is
    /// nothing to keep.
    pub(super) async fn wait(&mut self) -> Exit {
        tokio::select! {
            _ = self.ending.terminate.recv() => Exit::Stopped,
            _ = self.ending.interrupt.recv() => Exit::Stopped,
            result = &mut self.keepers => match result {
                Ok((Err(error), _)) => StartError::from(error).give_up(),
                Ok((Ok(()), _)) => died("query sessions"),
                Err(error) => died(&error.to_string()),
            },
            exit = first_death(&mut self.tasks) => exit,
            result = &mut self.server => match result {
                Ok(()) => died("HTTP server"),
                Err(error) => died(&error.to_string()),
            },
        }
    }
}

/// A task that says which one it was when it ends.
pub(super) async fn named(name: &'static str, task: impl Future<Output = ()>) -> &'static str {
    task.await;
    name
}

/// Waits for one of `tasks` to end, which none ever does by itself.
async fn first_death(tasks: &mut JoinSet<&'static str>) -> Exit {
    match tasks.join_next().await {
        Some(Ok(task)) => died(task),
        Some(Err(error)) => died(&error.to_string()),
        None => died("all"),
    }
}

fn died(task: &str) -> Exit {
    error!("a task ended unasked ({task}): stopping, so that the service manager starts anew");
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
        assert_eq!(first_death(&mut tasks).await, Exit::Failed);
    }

    #[tokio::test]
    async fn so_does_one_that_panics() {
        let mut tasks = JoinSet::new();
        let _ = tasks.spawn(named("endless", future::pending()));
        let _ = tasks.spawn(named("clumsy", async { panic!("as a test wants it") }));
        assert_eq!(first_death(&mut tasks).await, Exit::Failed);
    }
}

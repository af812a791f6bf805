//! Waits for what ends the daemon.

use super::Exit;
use super::open::StartError;
use super::start::Daemon;
use super::tasks::{ended, first_ended, task_ended};

impl Daemon {
    /// Waits for a stop signal, or for a task to end: none does by itself, except the keepers if the installation cannot be used.
    pub(super) async fn wait(&mut self) -> Exit {
        tokio::select! {
            _ = self.stop_signals.terminate.recv() => Exit::Stopped,
            _ = self.stop_signals.interrupt.recv() => Exit::Stopped,
            result = &mut self.keepers => match result {
                Ok((Err(error), _)) => StartError::from(error).give_up(),
                Ok((Ok(()), _)) => task_ended("query sessions"),
                Err(error) => task_ended(&error.to_string()),
            },
            exit = first_ended(&mut self.tasks) => exit,
            exit = ended("HTTP server", &mut self.server) => exit,
            exit = ended("positions", &mut self.positions) => exit,
        }
    }
}

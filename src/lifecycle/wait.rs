//! What ends the daemon.

use super::Exit;
use super::open::StartError;
use super::start::Daemon;
use super::tasks::{died, first_death};

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

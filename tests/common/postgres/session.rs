//! A connection to a database, with the server's asynchronous messages.

use std::ops::Deref;

use tokio::sync::mpsc;
use tokio_postgres::Client;

use crate::common::wait::TIMEOUT;

/// The channel by which a session detects that it has received everything.
pub(super) const SENTINEL: &str = "test_sentinel";

/// A connection to a database, with the server's asynchronous messages.
pub(crate) struct Session {
    pub(super) client: Client,
    pub(super) notifications: mpsc::UnboundedReceiver<(String, String)>,
    pub(super) notices: mpsc::UnboundedReceiver<(String, String)>,
}

impl Deref for Session {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl Session {
    /// Runs statements that must succeed.
    pub(crate) async fn run(&self, sql: &str) {
        if let Err(error) = self.batch_execute(sql).await {
            panic!("{sql}: {error:?}");
        }
    }

    /// The single value of a query, which must be text.
    pub(crate) async fn text(&self, sql: &str) -> String {
        match self.query_one(sql, &[]).await {
            Ok(row) => row.get(0),
            Err(error) => panic!("{sql}: {error:?}"),
        }
    }

    /// Runs statements that must fail, and returns the server's message.
    pub(crate) async fn refusal(&self, sql: &str) -> String {
        match self.batch_execute(sql).await {
            Ok(()) => panic!("accepted: {sql}"),
            Err(error) => error
                .as_db_error()
                .unwrap_or_else(|| panic!("{sql}: {error:?}"))
                .message()
                .to_owned(),
        }
    }

    /// The next notification, (channel, payload), within the timeout.
    pub(crate) async fn notification(&mut self) -> (String, String) {
        tokio::time::timeout(TIMEOUT, self.notifications.recv())
            .await
            .expect("a notification arrives in time")
            .expect("the session lives")
    }

    /// Every (channel, payload) that was committed so far and not read yet. Only after [`Database::listen`].
    pub(crate) async fn heard(&mut self) -> Vec<(String, String)> {
        // The queue is in the order of commits, so earlier commits come before this one.
        self.run(&format!("NOTIFY {SENTINEL}")).await;
        let mut heard = Vec::new();
        loop {
            let notification = self.notification().await;
            if notification.0 == SENTINEL {
                return heard;
            }
            heard.push(notification);
        }
    }

    /// The WARNINGs that the statements so far have raised.
    pub(crate) fn warnings(&mut self) -> Vec<String> {
        // They precede the statement's completion, so they have arrived once that was awaited.
        let mut warnings = Vec::new();
        while let Ok((severity, message)) = self.notices.try_recv() {
            if severity == "WARNING" {
                warnings.push(message);
            }
        }
        warnings
    }
}

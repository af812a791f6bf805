//! Checks the server and the path of a notification.

use std::time::Duration;

use futures::StreamExt;
use futures::stream::poll_fn;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_postgres::{AsyncMessage, Client};

use crate::commands::Problem;
use crate::database::{
    ConnectError, Connector, NO_POOLER, NOT_A_STANDBY, PgConnection, QueryError, describe,
};
use crate::model::notification::BELL_CHANNEL;

/// How long the round trip of a notification may take; it takes milliseconds.
const ROUND_TRIP: Duration = Duration::from_secs(5);

/// A separate channel: the notifications of `check` must not reach a running daemon.
const CHECK_CHANNEL: &str = "icinga_desktop_check";

/// The session to check, and a second one that sends a notification to it: behind a pooler in transaction mode a session receives
/// only its own notifications.
pub(super) async fn connect_twice(
    connector: &Connector,
) -> Result<(Client, PgConnection, Client), ConnectError> {
    let (client, connection) = connector.connect("check").await?;
    let (sender, sending) = connector.connect("check").await?;
    tokio::spawn(sending);
    Ok((client, connection, sender))
}

pub(super) async fn server(client: &Client) -> Result<String, Problem> {
    let row = client
        .query_one(
            "SELECT current_user::text, current_database()::text, current_setting('server_version'),
                    current_setting('server_version_num')::int4,
                    (SELECT version FROM pg_stat_ssl WHERE pid = pg_backend_pid() AND ssl)",
            &[],
        )
        .await
        .map_err(QueryError::from)?;
    let (user, database, version): (String, String, String) = (row.get(0), row.get(1), row.get(2));
    // pg_current_snapshot(), which the daemon queries, exists since 13.
    if row.get::<_, i32>(3) < 130_000 {
        return Err(format!("PostgreSQL {version} is too old: 13 or newer is needed").into());
    }
    let encryption = row
        .get::<_, Option<String>>(4)
        .unwrap_or_else(|| "not encrypted".to_owned());
    Ok(format!(
        "role \"{user}\", database \"{database}\", PostgreSQL {version}, {encryption}"
    ))
}

pub(super) async fn not_in_recovery(client: &Client) -> Result<String, Problem> {
    let row = client
        .query_one("SELECT pg_is_in_recovery()", &[])
        .await
        .map_err(QueryError::from)?;
    if row.get(0) {
        return Err(NOT_A_STANDBY.into());
    }
    Ok("not in recovery".to_owned())
}

/// The payloads of the notifications that a connection receives.
pub(super) fn receive_notifications(
    mut connection: PgConnection,
) -> mpsc::UnboundedReceiver<String> {
    let (sender, notifications) = mpsc::unbounded_channel();
    let mut messages = poll_fn(move |cx| connection.poll_message(cx));
    tokio::spawn(async move {
        while let Some(Ok(message)) = messages.next().await {
            if let AsyncMessage::Notification(notification) = message {
                let _ = sender.send(notification.payload().to_owned());
            }
        }
    });
    notifications
}

/// Sends a notification from one session to another.
pub(super) async fn round_trip(
    listener: &Client,
    sender: &Client,
    notifications: &mut mpsc::UnboundedReceiver<String>,
) -> Result<String, Problem> {
    let payload = format!("{:016x}", rand::random::<u64>());
    listener
        .batch_execute(&format!("LISTEN {CHECK_CHANNEL}"))
        .await
        .map_err(|error| format!("LISTEN on {BELL_CHANNEL} would fail: {}", describe(&error)))?;
    sender
        .execute("SELECT pg_notify($1, $2)", &[&CHECK_CHANNEL, &payload])
        .await
        .map_err(QueryError::from)?;
    loop {
        match timeout(ROUND_TRIP, notifications.recv()).await {
            Ok(Some(received)) if received == payload => {
                return Ok("a notification came back".to_owned());
            }
            Ok(Some(_)) => {}
            Ok(None) | Err(_) => {
                return Err(format!("no notification came back: {NO_POOLER}").into());
            }
        }
    }
}

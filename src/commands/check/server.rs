//! The server and the way to it.

use tokio_postgres::Client;

use crate::database::{Connector, Error, NOT_A_STANDBY, PgConnection, describe};
use crate::model::notification::INCIDENT_CHANNEL;

/// The session that is checked, and one that only sends a notification to it: behind a pooler in
/// transaction mode a session hears what it sends itself, and nothing else.
pub(super) async fn connect_twice(
    connector: &Connector,
) -> Result<(Client, PgConnection, Client), Error> {
    let (client, connection) = connector.connect("check").await?;
    let (sender, sending) = connector.connect("check").await?;
    tokio::spawn(sending);
    Ok((client, connection, sender))
}

pub(super) async fn server(client: &Client) -> Result<String, String> {
    let row = client
        .query_one(
            "SELECT current_user::text, current_database()::text, current_setting('server_version'),
                    current_setting('server_version_num')::int4,
                    (SELECT version FROM pg_stat_ssl WHERE pid = pg_backend_pid() AND ssl)",
            &[],
        )
        .await
        .map_err(|error| describe(&error))?;
    let (user, database, version): (String, String, String) = (row.get(0), row.get(1), row.get(2));
    // pg_current_xact_id() and the triggers' other means came with 13.
    if row.get::<_, i32>(3) < 130_000 {
        return Err(format!(
            "PostgreSQL {version} is too old: 13 or newer is needed"
        ));
    }
    let encryption = row
        .get::<_, Option<String>>(4)
        .unwrap_or_else(|| "not encrypted".to_owned());
    Ok(format!(
        "role \"{user}\", database \"{database}\", PostgreSQL {version}, {encryption}"
    ))
}

pub(super) async fn not_in_recovery(client: &Client) -> Result<String, String> {
    let row = client
        .query_one("SELECT pg_is_in_recovery()", &[])
        .await
        .map_err(|error| describe(&error))?;
    if row.get(0) {
        return Err(NOT_A_STANDBY.to_owned());
    }
    Ok("not in recovery".to_owned())
}

pub(super) fn listen_problem(error: &tokio_postgres::Error) -> String {
    format!(
        "LISTEN on {INCIDENT_CHANNEL} would fail: {}",
        describe(error)
    )
}

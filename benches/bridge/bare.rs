//! A client that LISTENs and does nothing else: the daemon is compared with it.

use futures::{Stream, StreamExt as _, future, stream};
use tokio_postgres::{AsyncMessage, Config, NoTls, Notification};

use crate::common::postgres::{Database, SUPERUSER};

/// The connection to a database as the superuser, over the socket.
pub(crate) fn config(database: &Database) -> Config {
    let mut config = Config::new();
    config
        .host_path(database.socket_directory())
        .port(database.port())
        .user(SUPERUSER)
        .dbname(database.name());
    config
}

/// The payloads of the channel of the bell from now on.
pub(crate) async fn listen(config: &Config) -> impl Stream<Item = Notification> + Unpin + use<> {
    let (client, mut connection) = config.connect(NoTls).await.expect("a connection");
    let mut messages = stream::poll_fn(move |cx| connection.poll_message(cx));
    let mut listening = Box::pin(client.batch_execute("LISTEN icinga_desktop_bell"));
    loop {
        tokio::select! {
            result = &mut listening => break result.expect("LISTEN"),
            _ = messages.next() => {}
        }
    }
    drop(listening);
    messages.filter_map(move |message| {
        // Without its client the connection closes.
        let _ = &client;
        future::ready(match message {
            Ok(AsyncMessage::Notification(notification)) => Some(notification),
            _ => None,
        })
    })
}

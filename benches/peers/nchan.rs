//! nchan, the nginx module for publishing to subscribers, set up as in its manual, with one worker: one thread for all streams,
//! as in the daemon.

use std::path::Path;

use super::hub::{DATA, Hub, Published, post, processes};
use crate::common::guarded::{Guarded, directory};
use crate::common::postgres::free_port;

const MODULE: &str = "/usr/lib/nginx/modules/ngx_nchan_module.so";

/// Whether it is installed; if not, what to do.
pub(crate) fn installed() -> Result<(), String> {
    if Path::new(MODULE).exists() {
        return Ok(());
    }
    Err(format!(
        "there is no {MODULE}: apt-get install libnginx-mod-nchan"
    ))
}

/// What clients subscribe to.
#[derive(Clone, Copy)]
pub(crate) enum Channels {
    /// All to the same channel, with one publication. All of them receive everything.
    One,
    /// Each to its own channel, as users with individual events need it.
    Each,
}

/// A running nginx, ended when this is dropped.
pub(crate) struct Nchan {
    _server: Guarded,
    address: String,
    /// Its master and its worker.
    processes: Vec<u32>,
    channels: Channels,
}

impl Nchan {
    pub(crate) fn start(channels: Channels) -> Self {
        let directory = directory();
        let address = format!("127.0.0.1:{}", free_port());
        let file = directory.join("nginx.conf");
        std::fs::write(&file, config(&directory, &address)).expect("a configuration file");
        let (file, log) = (file.display().to_string(), directory.join("log"));
        let log = log.display().to_string();
        let command = ["/usr/sbin/nginx", "-e", &log, "-c", &file];
        let server = Guarded::start(&directory, &command, &address);
        Self {
            _server: server,
            address,
            processes: processes(&directory.join("pid"), 1),
            channels,
        }
    }
}

/// A comment to idle streams as often as the daemon writes one; requests to publish may share one connection.
fn config(directory: &Path, address: &str) -> String {
    let root = directory.display();
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .iter()
        .map(|name| format!("{name}_temp_path {root}/{name};\n"))
        .collect();
    format!(
        "load_module {MODULE};\n\
         daemon off;\n\
         pid {root}/pid;\n\
         error_log {root}/log;\n\
         worker_processes 1;\n\
         events {{ worker_connections 18000; }}\n\
         http {{\n\
         access_log off;\n\
         keepalive_requests 1000000;\n\
         {temporary}\
         server {{\n\
         listen {address};\n\
         location ~ ^/subscribe/(.+)$ {{\n\
         nchan_subscriber eventsource;\n\
         nchan_channel_id $1;\n\
         nchan_eventsource_ping_interval 15;\n\
         }}\n\
         location ~ ^/publish/(.+)$ {{\n\
         nchan_publisher;\n\
         nchan_channel_id $1;\n\
         }}\n\
         }}\n\
         }}\n"
    )
}

fn subscribe(channel: &str) -> String {
    format!(
        "GET /subscribe/{channel} HTTP/1.1\r\nHost: monitoring.example.com\r\nAccept: text/event-stream\r\n\r\n"
    )
}

/// A request that publishes an event; the connection is closed after the last.
fn publish(channel: &str, last: bool) -> String {
    format!(
        "POST /publish/{channel} HTTP/1.1\r\nHost: localhost\r\nX-EventSource-Event: icinga2.notification\r\n\
         {}Content-Length: {}\r\n\r\n{DATA}",
        if last { "Connection: close\r\n" } else { "" },
        DATA.len(),
    )
}

impl Hub for Nchan {
    fn address(&self) -> &str {
        &self.address
    }

    fn request(&self) -> fn(usize) -> String {
        match self.channels {
            Channels::One => |_| subscribe("all"),
            Channels::Each => |client| subscribe(&client.to_string()),
        }
    }

    fn processes(&self) -> Vec<u32> {
        self.processes.clone()
    }

    async fn publish(&self, count: usize) -> Published {
        let requests: Vec<String> = match self.channels {
            Channels::One => vec![publish("all", true)],
            Channels::Each => (1..=count)
                .map(|client| publish(&client.to_string(), client == count))
                .collect(),
        };
        let (published, answers) = post(&self.address, &requests.concat()).await;
        // 202 would mean a channel without a subscriber.
        let reached = answers.matches("HTTP/1.1 201 ").count();
        assert_eq!(reached, requests.len(), "{answers:.500}");
        published
    }
}

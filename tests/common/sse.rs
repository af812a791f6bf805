//! A client: sends the request as the proxies do, and reads the answer as EventSource does.

use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::wait::TIMEOUT;

/// How long an event may take if a browser has to reconnect for it, perhaps more than once. Comments that arrive meanwhile do not
/// extend it.
pub(crate) const EVENT_TIMEOUT: Duration = Duration::from_secs(90);

/// The default user agent of tests.
pub(crate) const AGENT: &str = "Mozilla/5.0 (X11; Linux x86_64) Test/1.0";

/// A browser with another user agent: a second one of the same user.
pub(crate) const OTHER_AGENT: &str = "Mozilla/5.0 (Windows NT 10.0) Test/2.0";

/// An answer: its head, and its body block by block.
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    reader: BufReader<TcpStream>,
    /// Decoded, but not read yet; only if the proxy answers in chunks.
    decoded: Vec<u8>,
}

/// One block of an event stream: its fields, and its bytes.
#[derive(Debug, Default, Clone)]
pub(crate) struct Block {
    pub(crate) event: Option<String>,
    pub(crate) data: Option<String>,
    pub(crate) id: Option<String>,
    pub(crate) retry: Option<u64>,
    pub(crate) raw: String,
}

impl Block {
    /// Adds a line that is not empty.
    pub(super) fn add(&mut self, line: &str) {
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value).to_owned();
        match field {
            "" => {}
            "event" => self.event = Some(value),
            "data" => self.data = Some(value),
            "id" => self.id = Some(value),
            "retry" => self.retry = value.parse().ok(),
            other => panic!("unknown field {other:?} in {self:?}"),
        }
    }

    /// Whether it is an event that Icinga Web's client listens to.
    pub(crate) fn is_event(&self) -> bool {
        self.event.as_deref() == Some("icinga2.notification")
    }

    /// Whether it only marks how far a stream was read.
    pub(crate) fn is_mark(&self) -> bool {
        self.event.as_deref() == Some("icinga2.mark")
    }

    /// The event's data, which must be JSON.
    pub(crate) fn json(&self) -> serde_json::Value {
        let data = self
            .data
            .as_deref()
            .unwrap_or_else(|| panic!("no data in {self:?}"));
        serde_json::from_str(data).unwrap_or_else(|error| panic!("{error}: {data:?}"))
    }

    /// The incident of the event.
    pub(crate) fn incident(&self) -> i64 {
        self.json()["payload"]["incident_id"]
            .as_i64()
            .expect("an incident id")
    }
}

/// A request as nginx and Apache forward it.
pub(crate) fn request(session_id: &str, user_agent: &str) -> String {
    format!(
        "GET /icingaweb2/notifications/v1/subscribe HTTP/1.1\r\n\
         Host: monitoring.example.com\r\n\
         X-Icinga-Notifications-Protocol-Version: 1\r\n\
         User-Agent: {user_agent}\r\n\
         Accept: text/event-stream\r\n\
         Cookie: other=1; Icingaweb2={session_id}; theme=dark\r\n\r\n"
    )
}

impl Answer {
    /// Sends `request` and reads the answer's head.
    pub(crate) async fn to(address: &str, request: &[u8]) -> Self {
        let mut socket = TcpStream::connect(address)
            .await
            .expect("the daemon accepts");
        socket.write_all(request).await.expect("the daemon reads");
        timeout(TIMEOUT, Self::read_head(BufReader::new(socket)))
            .await
            .expect("an answer in time")
    }

    /// Opens a browser's stream.
    pub(crate) async fn subscribe(address: &str, session_id: &str) -> Self {
        Self::to(address, request(session_id, AGENT).as_bytes()).await
    }

    /// Opens the stream of a browser with this user agent, which must be accepted, and reads its first blocks.
    pub(crate) async fn open(address: &str, session_id: &str, user_agent: &str) -> Self {
        let mut stream = Self::to(address, request(session_id, user_agent).as_bytes()).await;
        assert_eq!(stream.status, 200);
        stream.block().await.expect("a first block at once");
        let mark = stream.block().await.expect("a mark behind it");
        assert!(mark.is_mark(), "{mark:?}");
        stream
    }

    async fn read_head(mut reader: BufReader<TcpStream>) -> Self {
        let mut line = String::new();
        reader.read_line(&mut line).await.expect("a status line");
        let status = line
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok())
            .unwrap_or_else(|| panic!("no status in {line:?}"));
        let mut headers = Vec::new();
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).await.expect("a header");
            let line = line.trim_end_matches("\r\n");
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(": ").expect("name: value");
            headers.push((name.to_lowercase(), value.to_owned()));
        }
        Self {
            status,
            headers,
            reader,
            decoded: Vec::new(),
        }
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, value)| value.as_str())
    }

    /// The next block, including comments; `None` at the end. A block without an empty line at its end is discarded, as in
    /// EventSource.
    pub(crate) async fn block(&mut self) -> Option<Block> {
        timeout(TIMEOUT, self.read_block())
            .await
            .expect("a block or the end in time")
    }

    async fn read_block(&mut self) -> Option<Block> {
        let mut block = Block::default();
        loop {
            let line = self.line().await?;
            block.raw.push_str(&line);
            let line = line.trim_end_matches('\n');
            if line.is_empty() {
                return Some(block);
            }
            block.add(line);
        }
    }

    /// The next line of the body, with its end; `None` at the end, clean or not.
    async fn line(&mut self) -> Option<String> {
        if self.header("transfer-encoding") != Some("chunked") {
            let mut line = String::new();
            let length = self.reader.read_line(&mut line).await.ok()?;
            return (length > 0).then_some(line);
        }
        loop {
            if let Some(end) = self.decoded.iter().position(|byte| *byte == b'\n') {
                let line = self.decoded.drain(..=end).collect();
                return String::from_utf8(line).ok();
            }
            let mut size = String::new();
            self.reader.read_line(&mut size).await.ok()?;
            let size = usize::from_str_radix(size.trim(), 16).ok()?;
            // The chunk and the line end after it.
            let mut chunk = vec![0; size + 2];
            self.reader.read_exact(&mut chunk).await.ok()?;
            if size == 0 {
                return None;
            }
            self.decoded.extend_from_slice(&chunk[..size]);
        }
    }

    /// The next event; comments and retry blocks are skipped.
    pub(crate) async fn event(&mut self) -> Block {
        let event = async {
            loop {
                let block = self
                    .block()
                    .await
                    .expect("an event, not the end of the stream");
                if block.is_event() {
                    return block;
                }
            }
        };
        timeout(EVENT_TIMEOUT, event)
            .await
            .expect("an event in time, not only comments")
    }

    /// The rest of the body, to its end.
    pub(crate) async fn rest(&mut self) -> String {
        let mut body = Vec::new();
        timeout(TIMEOUT, self.reader.read_to_end(&mut body))
            .await
            .expect("the end in time")
            .expect("a clean end");
        String::from_utf8(body).expect("text")
    }
}

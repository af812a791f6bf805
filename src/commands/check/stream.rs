//! `check --url`: follows a real stream through the reverse proxy, as a signed-in browser does: when the daemon ends it, the
//! check reconnects, and its request proves what it has read.

use std::io::{self, Write};
use std::time::Duration;

use http_body_util::BodyExt as _;
use hyper::HeaderMap;
use hyper::body::Incoming;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::address::Address;
use super::proxy::{FIRST, NOT_REACHED, UNBUFFER, ask, connect};
use super::report::Checks;
use super::sign_in::{Visit, sign_in};
use crate::commands::Problem;
use crate::database::Session;

/// How late a comment may arrive.
const LATE: Duration = Duration::from_secs(5);

/// The maximum size of a block, in bytes. An event has less than 20,000.
const BLOCK_LIMIT: usize = 64 * 1024;

/// What the proxies send with the shipped files while the daemon is unreachable.
const UNREACHABLE: &[u8] = b": the proxy cannot reach the daemon\n";

/// The longest `retry` of a stream that ends only so that its browser reconnects; at a stop it is longer.
const SOON: Duration = Duration::from_secs(1);

/// The `retry` for a third stream of a browser.
const THIRD: Duration = Duration::from_secs(30);

/// A first block that arrives later than this and together with the end of the stream was held back: no stream ends in its first
/// two seconds, unless an event or a request of another tab ends it.
const SLOW: Duration = Duration::from_millis(1500);

/// The maximum time between such a block and the end of its stream.
const TOGETHER: Duration = Duration::from_millis(500);

impl<W: Write> Checks<'_, W> {
    /// Follows a stream for a little longer than `keep_alive`, the time after which the daemon writes a comment.
    pub(super) async fn follow(
        &mut self,
        visit: &Visit,
        session: &Session,
        keep_alive: Duration,
    ) -> io::Result<()> {
        let headers = match sign_in(visit, session).await {
            Ok((headers, contact_id)) => {
                self.report("sign-in", Ok(format!("of contact {contact_id}")))?;
                headers
            }
            Err(problem) => return self.report("sign-in", Err(problem)),
        };
        let (socket, how) = match connect(&visit.address).await {
            Ok(connected) => connected,
            Err(problem) => return self.report("proxy", Err(problem)),
        };
        self.report("proxy", Ok(how))?;
        let asked = Instant::now();
        let answer = match ask(socket, &visit.address, headers.clone()).await {
            Ok(answer) => answer,
            Err(problem) => return self.report("answer", Err(problem)),
        };
        self.report("answer", Ok("an event stream".to_owned()))?;
        let mut tab = Tab {
            address: &visit.address,
            headers,
            stream: Stream::new(answer.into_body(), asked),
            events: 0,
            returns: 0,
        };
        let first = tab.first().await;
        let came = first.is_ok();
        let at_once = first.map(|()| format!("at once, after {:.1?}", asked.elapsed()));
        self.report("first bytes", at_once)?;
        if !came {
            return Ok(());
        }
        writeln!(
            self.out,
            "      the daemon writes a comment after {keep_alive:?} without an event: waiting for it"
        )?;
        let silence = tab.silence(keep_alive).await;
        if tab.returns > 0 && !matches!(silence, Err(Failed::Return(_))) {
            let returns = tab.returns;
            let how = format!(
                "the daemon ended the stream, and the check reconnected as asked: {returns}"
            );
            self.report("return", Ok(how))?;
        }
        match silence {
            Ok(how) => self.report("silence", Ok(how))?,
            Err(Failed::Silence(problem)) => self.report("silence", Err(problem))?,
            Err(Failed::Return(problem)) => self.report("return", Err(problem))?,
        }
        if tab.events > 0 {
            writeln!(
                self.out,
                "note  events that this check received instead of a tab of the browser: {}; see Icinga Web",
                tab.events
            )?;
        }
        Ok(())
    }
}

/// A failure after the first bytes.
enum Failed {
    /// The stream was not kept open.
    Silence(Problem),
    /// The check could not reconnect after the daemon ended a stream.
    Return(Problem),
}

/// A tab that the check acts as: one stream after the other.
struct Tab<'a> {
    address: &'a Address,
    headers: HeaderMap,
    stream: Stream,
    /// The number of events received.
    events: u32,
    /// How often the check reconnected.
    returns: u32,
}

impl Tab<'_> {
    /// Reads the first blocks of a stream: a comment, and a mark, which a browser can name.
    async fn first(&mut self) -> Result<(), Problem> {
        let until = self.stream.asked + FIRST;
        let none = || format!("none within {FIRST:?}: the proxy holds them back; {UNBUFFER}");
        let block = timeout_at(until, self.stream.block())
            .await
            .map_err(|_| none())?;
        match block {
            Some(block) if block.text.starts_with(UNREACHABLE) => return Err(NOT_REACHED.into()),
            Some(block) if block.text.starts_with(b":\n") => {}
            Some(block) if block.retry() == Some(THIRD) => {
                return Err(
                    "two tabs of this browser have streams, and one of them was just replaced by another: close one, \
                     or try again in a minute"
                        .into(),
                );
            }
            Some(block) if block.retry().is_some() => {
                return Err(
                    "the daemon asks browsers to come back later: it is stopping, full or has no database; its log \
                     says which"
                        .into(),
                );
            }
            Some(_) => return Err("not those of the daemon: another program answers".into()),
            None => {
                return Err(
                    "the stream ended before them: check the logs of the proxy and the daemon"
                        .into(),
                );
            }
        }
        let mark = timeout_at(until, self.stream.block())
            .await
            .map_err(|_| none())?;
        match mark {
            Some(mark) if mark.is_mark() => self.read(&mark),
            _ => {
                return Err(
                    "incomplete: the proxy changes them, or the daemon has an older version".into(),
                );
            }
        }
        self.stream.began = Instant::now();
        Ok(())
    }

    /// Counts a block's event, if it is one.
    fn read(&mut self, block: &Block) {
        if block.field(b"data").is_some() && !block.is_mark() {
            self.events += 1;
        }
    }

    /// Waits for the comment after an idle time. Reconnects as often as the daemon ends the stream.
    async fn silence(&mut self, keep_alive: Duration) -> Result<String, Failed> {
        let limit = keep_alive + LATE;
        let begin = Instant::now();
        let mut last = begin;
        // A busy stream also proves that it is not cut.
        while begin.elapsed() < 2 * limit {
            let block = timeout_at(last + limit, self.stream.block())
                .await
                .map_err(|_| {
                    let problem = format!(
                        "nothing arrived for {limit:?}, although the daemon writes after {keep_alive:?}: the proxy holds it back, \
                         or the daemon hangs; {UNBUFFER}"
                    );
                    Failed::Silence(problem.into())
                })?;
            let silent = last.elapsed();
            last = Instant::now();
            let Some(block) = block else {
                let problem = format!(
                    "the stream was cut after {silent:.1?} without data: the timeout of the proxy must be longer than the \
                     {keep_alive:?} after which the daemon writes (nginx: proxy_read_timeout 60s; Apache: timeout=30 after \
                     ProxyPassMatch), or [daemon] keep_alive_seconds must be shorter"
                );
                return Err(Failed::Silence(problem.into()));
            };
            self.read(&block);
            match block.retry() {
                // An event has a `retry`, too; in a block without data it announces the end of the stream.
                Some(retry) if block.field(b"data").is_none() => {
                    if retry > SOON {
                        let problem = "the daemon ended the stream: it is stopping, or the sign-in has ended; its log says which";
                        return Err(Failed::Silence(problem.into()));
                    }
                    self.come_back(retry).await.map_err(Failed::Return)?;
                    last = Instant::now();
                }
                None if block.field(b"data").is_none() && silent > keep_alive / 2 => {
                    return Ok(format!(
                        "a comment after {silent:.1?}, and the stream stays open"
                    ));
                }
                _ => {}
            }
        }
        Ok("none: the stream is busy, and stays open".to_owned())
    }

    /// Reconnects after the daemon ended the stream and the time in its `retry` has passed.
    async fn come_back(&mut self, retry: Duration) -> Result<(), Problem> {
        match timeout(LATE, self.stream.block()).await {
            Err(_) => {
                return Err(format!(
                    "the daemon ended the stream, and the proxy kept it open for {LATE:?}: browsers return too late"
                )
                .into());
            }
            Ok(Some(_)) => return Err("data arrived after the end of the stream".into()),
            Ok(None) if !self.stream.is_clean => {
                return Err(
                    "the daemon ended the stream, and the proxy turned that into an error: browsers stop reconnecting until their \
                     page is reloaded"
                        .into(),
                );
            }
            Ok(None) => {}
        }
        if self.stream.is_held_back() {
            return Err(format!(
                "the first stream arrived only with its end: the proxy held it back; {UNBUFFER}"
            )
            .into());
        }
        sleep(retry).await;
        // Without Last-Event-ID: the daemon would expect it from the browser's tabs, too.
        let headers = self.headers.clone();
        let (socket, _) = connect(self.address).await?;
        let asked = Instant::now();
        let answer = ask(socket, self.address, headers).await?;
        self.stream = Stream::new(answer.into_body(), asked);
        self.first().await?;
        self.returns += 1;
        Ok(())
    }
}

/// A block, including its blank line.
struct Block {
    text: Vec<u8>,
}

impl Block {
    /// The value of the first field of that name.
    fn field(&self, name: &[u8]) -> Option<&[u8]> {
        self.text.split(|byte| *byte == b'\n').find_map(|line| {
            let value = line.strip_prefix(name)?.strip_prefix(b":")?;
            Some(value.strip_prefix(b" ").unwrap_or(value))
        })
    }

    fn retry(&self) -> Option<Duration> {
        let text = std::str::from_utf8(self.field(b"retry")?).ok()?;
        text.parse().ok().map(Duration::from_millis)
    }

    /// Whether it is a mark, which shows nothing.
    fn is_mark(&self) -> bool {
        self.field(b"event") == Some(b"icinga2.mark")
    }
}

/// A stream that is read.
struct Stream {
    body: Incoming,
    /// Bytes of an incomplete block.
    text: Vec<u8>,
    /// When it was requested.
    asked: Instant,
    /// When its first blocks arrived.
    began: Instant,
    /// Whether it ended without an error.
    is_clean: bool,
}

impl Stream {
    fn new(body: Incoming, asked: Instant) -> Self {
        Self {
            body,
            text: Vec::new(),
            asked,
            began: asked,
            is_clean: false,
        }
    }

    /// Whether its first blocks arrived only with its end.
    fn is_held_back(&self) -> bool {
        self.began - self.asked > SLOW && self.began.elapsed() < TOGETHER
    }

    /// The next block; `None` at the end of the stream, clean or not.
    async fn block(&mut self) -> Option<Block> {
        loop {
            if let Some(end) = self.text.windows(2).position(|two| two == b"\n\n") {
                let text = self.text.drain(..end + 2).collect();
                return Some(Block { text });
            }
            if self.text.len() > BLOCK_LIMIT {
                return None;
            }
            let Some(frame) = self.body.frame().await else {
                self.is_clean = true;
                return None;
            };
            self.text
                .extend(frame.ok()?.into_data().unwrap_or_default());
        }
    }
}

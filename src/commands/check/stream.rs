//! `check --url`: follows a real stream, through the reverse proxy, as a signed-in browser does: when the daemon ends it, the
//! check comes back, and its request says what it has read.

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

/// How much later than the daemon writes it a comment may arrive.
const LATE: Duration = Duration::from_secs(5);

/// What may arrive without a blank line, in bytes. An event has less than 20,000.
const BLOCK_LIMIT: usize = 64 * 1024;

/// What the shipped files of the proxies let them say while the daemon is away.
const AWAY: &[u8] = b": the proxy cannot reach the daemon\n";

/// The longest `retry` of a stream that is ended only so that its browser comes back; at a stop it is longer.
const SOON: Duration = Duration::from_secs(1);

/// The `retry` that a third stream of a browser is answered.
const THIRD: Duration = Duration::from_secs(30);

/// A first block that comes later than this and together with the stream's end was held back until then: no stream is renewed
/// within its first two seconds.
const SLOW: Duration = Duration::from_millis(1500);

/// How soon behind the first block the end comes then.
const TOGETHER: Duration = Duration::from_millis(500);

impl<W: Write> Checks<'_, W> {
    /// Follows a stream for as long as the daemon may be silent, `keep_alive`, and a little longer.
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
            "      the daemon breaks a silence after {keep_alive:?}: waiting for that"
        )?;
        let silence = tab.silence(keep_alive).await;
        if tab.returns > 0 && !matches!(silence, Err(Failed::Return(_))) {
            let returns = tab.returns;
            let how =
                format!("the daemon ended the stream, and the check was back as told: {returns}");
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
                "note  events that came to this check in place of a tab of the browser: {}; look at Icinga Web",
                tab.events
            )?;
        }
        Ok(())
    }
}

/// What went wrong behind the first bytes.
enum Failed {
    /// A stream was not kept open.
    Silence(Problem),
    /// One that the daemon had ended could not be followed by another.
    Return(Problem),
}

/// A tab that the check stands in for: one stream after the other.
struct Tab<'a> {
    address: &'a Address,
    headers: HeaderMap,
    stream: Stream,
    /// How many events came.
    events: u32,
    /// How often it has come back.
    returns: u32,
}

impl Tab<'_> {
    /// Reads what each stream begins with: a comment, and a mark by which a browser can name the stream.
    async fn first(&mut self) -> Result<(), Problem> {
        let until = self.stream.asked + FIRST;
        let none = || format!("none within {FIRST:?}: they are held back; {UNBUFFER}");
        let block = timeout_at(until, self.stream.block())
            .await
            .map_err(|_| none())?;
        match block {
            Some(block) if block.text.starts_with(AWAY) => return Err(NOT_REACHED.into()),
            Some(block) if block.text.starts_with(b":\n") => {}
            Some(block) if block.retry() == Some(THIRD) => {
                return Err(
                    "two tabs of this browser have streams already, and one of them has just made room for another: close one, \
                     or try again in a minute"
                        .into(),
                );
            }
            Some(block) if block.retry().is_some() => {
                return Err(
                    "the daemon tells browsers to come back later: it is stopping, full, or without its database; its log \
                     says which"
                        .into(),
                );
            }
            Some(_) => return Err("not those of the daemon: something else answers here".into()),
            None => {
                return Err(
                    "the stream ended before them: look at the logs of the proxy and the daemon"
                        .into(),
                );
            }
        }
        let mark = timeout_at(until, self.stream.block())
            .await
            .map_err(|_| none())?;
        match mark {
            Some(mark) if mark.is_mark() => self.read(&mark),
            _ => return Err(
                "only in part: something changes them on the way, or the daemon is an older one"
                    .into(),
            ),
        }
        self.stream.began = Instant::now();
        Ok(())
    }

    /// Takes note of a block.
    fn read(&mut self, block: &Block) {
        if block.field(b"data").is_some() && !block.is_mark() {
            self.events += 1;
        }
    }

    /// Waits until the daemon has broken a silence. Comes back meanwhile as often as it ends the stream.
    async fn silence(&mut self, keep_alive: Duration) -> Result<String, Failed> {
        let patience = keep_alive + LATE;
        let begin = Instant::now();
        let mut last = begin;
        // A busy stream shows as well that it is not cut.
        while begin.elapsed() < 2 * patience {
            let block = timeout_at(last + patience, self.stream.block())
                .await
                .map_err(|_| {
                    let problem = format!(
                        "nothing came for {patience:?}, although the daemon writes after {keep_alive:?}: it is held back, or \
                         the daemon hangs; {UNBUFFER}"
                    );
                    Failed::Silence(problem.into())
                })?;
            let silent = last.elapsed();
            last = Instant::now();
            let Some(block) = block else {
                let problem = format!(
                    "the stream was cut after {silent:.1?} of silence: the proxy has to bear more than the \
                     {keep_alive:?} after which the daemon writes (nginx: proxy_read_timeout 60s; Apache: timeout=30 behind \
                     ProxyPassMatch), or [daemon] keep_alive_seconds has to be less than the proxy bears"
                );
                return Err(Failed::Silence(problem.into()));
            };
            self.read(&block);
            match block.retry() {
                // An event names the usual one.
                Some(retry) if block.field(b"data").is_none() => {
                    if retry > SOON {
                        let problem = "the daemon ended the stream: it is stopping, or the sign-in has ended; its log says which";
                        return Err(Failed::Silence(problem.into()));
                    }
                    self.come_back(retry).await.map_err(Failed::Return)?;
                    last = Instant::now();
                }
                None if block.field(b"data").is_none() && silent > keep_alive / 2 => {
                    return Ok(format!("broken after {silent:.1?}, the stream goes on"));
                }
                _ => {}
            }
        }
        Ok("none: the stream is busy, and goes on".to_owned())
    }

    /// Follows a stream that the daemon has ended by another one, after the time that it has named.
    async fn come_back(&mut self, retry: Duration) -> Result<(), Problem> {
        match timeout(LATE, self.stream.block()).await {
            Err(_) => {
                return Err(format!(
                    "the daemon ended the stream, and the proxy has kept it open for {LATE:?}: browsers come back too late"
                )
                .into());
            }
            Ok(Some(_)) => return Err("something came behind the end of the stream".into()),
            Ok(None) if !self.stream.is_clean => {
                return Err(
                    "the daemon ended the stream, and the proxy made an error of that: browsers stay silent until their page \
                     is reloaded"
                        .into(),
                );
            }
            Ok(None) => {}
        }
        if self.stream.is_held_back() {
            return Err(format!(
                "the first stream came only with its end: it was held back; {UNBUFFER}"
            )
            .into());
        }
        sleep(retry).await;
        // Without Last-Event-ID: the daemon would take it for a habit of the browser's tabs.
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

/// A block, its blank line included.
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

    /// Whether it only names a place in the stream, and shows nothing.
    fn is_mark(&self) -> bool {
        self.field(b"event") == Some(b"icinga2.mark")
    }
}

/// A stream that is being read.
struct Stream {
    body: Incoming,
    /// What does not end with a blank line yet.
    text: Vec<u8>,
    /// When it was asked for.
    asked: Instant,
    /// When its first blocks were there.
    began: Instant,
    /// Whether it has come to its end without an error.
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

    /// Whether its first blocks came only when it was ended.
    fn is_held_back(&self) -> bool {
        self.began - self.asked > SLOW && self.began.elapsed() < TOGETHER
    }

    /// The next block; `None` at the end, be it clean or not.
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

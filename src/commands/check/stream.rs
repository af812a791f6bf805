//! `check --url`: follows a real stream, through the reverse proxy, as a signed-in browser does.

use std::io::{self, Write};
use std::time::Duration;

use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::time::{Instant, timeout_at};

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
        let answer = match ask(socket, &visit.address, headers).await {
            Ok(answer) => answer,
            Err(problem) => return self.report("answer", Err(problem)),
        };
        self.report("answer", Ok("an event stream".to_owned()))?;
        let mut stream = Stream {
            body: answer.into_body(),
            text: Vec::new(),
        };
        let first = stream.first(asked).await;
        let came = first.is_ok();
        let at_once = first.map(|()| format!("at once, after {:.1?}", asked.elapsed()));
        self.report("first bytes", at_once)?;
        if !came {
            return Ok(());
        }
        let mut events = 0;
        writeln!(
            self.out,
            "      the daemon breaks a silence after {keep_alive:?}: waiting for that"
        )?;
        let silence = stream.silence(keep_alive, &mut events).await;
        self.report("silence", silence)?;
        if events > 0 {
            writeln!(
                self.out,
                "note  events that came to this check in place of a tab of the browser: {events}; look at Icinga Web"
            )?;
        }
        Ok(())
    }
}

/// A stream that is being read.
struct Stream {
    body: Incoming,
    /// What does not end with a blank line yet.
    text: Vec<u8>,
}

impl Stream {
    /// The next block, its blank line included; `None` at the end, be it clean or not.
    async fn block(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Some(end) = self.text.windows(2).position(|two| two == b"\n\n") {
                return Some(self.text.drain(..end + 2).collect());
            }
            if self.text.len() > BLOCK_LIMIT {
                return None;
            }
            let frame = self.body.frame().await?.ok()?;
            self.text.extend(frame.into_data().unwrap_or_default());
        }
    }

    /// Reads the block that each stream begins with.
    async fn first(&mut self, asked: Instant) -> Result<(), Problem> {
        let block = timeout_at(asked + FIRST, self.block())
            .await
            .map_err(|_| format!("none within {FIRST:?}: they are held back; {UNBUFFER}"))?;
        match block {
            Some(block) if block.starts_with(AWAY) => Err(NOT_REACHED.into()),
            Some(block) if block.starts_with(b":\n") => Ok(()),
            Some(block) if block.starts_with(b"retry:") => Err(
                "the daemon tells browsers to come back later: it is stopping, full, or without its database; its log says \
                 which"
                    .into(),
            ),
            Some(_) => Err("not those of the daemon: something else answers here".into()),
            None => Err("the stream ended before them: look at the logs of the proxy and the daemon".into()),
        }
    }

    /// Waits until the daemon has broken a silence, and counts the `events` that come meanwhile.
    async fn silence(&mut self, keep_alive: Duration, events: &mut u32) -> Result<String, Problem> {
        let patience = keep_alive + LATE;
        let begin = Instant::now();
        let mut last = begin;
        // A busy stream shows as well that it is not cut.
        while begin.elapsed() < 2 * patience {
            let block = timeout_at(last + patience, self.block()).await.map_err(|_| {
                format!(
                    "nothing came for {patience:?}, although the daemon writes after {keep_alive:?}: it is held back, or the \
                     daemon hangs; {UNBUFFER}"
                )
            })?;
            let silent = last.elapsed();
            last = Instant::now();
            match block {
                None => {
                    return Err(format!(
                        "the stream was cut after {silent:.1?} of silence: the proxy has to bear more than the \
                         {keep_alive:?} after which the daemon writes (nginx: proxy_read_timeout 60s; Apache: timeout=30 behind \
                         ProxyPassMatch), or [daemon] keep_alive_seconds has to be less than the proxy bears"
                    )
                    .into());
                }
                Some(block) if is_event(&block) => *events += 1,
                Some(block) if block.starts_with(b"retry:") => {
                    return Err(
                        "the daemon ended the stream: it is stopping, or the sign-in has ended; its log says which".into(),
                    );
                }
                // Less is the probe that follows an event or a further tab.
                Some(_) if silent > keep_alive / 2 => {
                    return Ok(format!("broken after {silent:.1?}, the stream goes on"));
                }
                Some(_) => {}
            }
        }
        Ok("none: the stream is busy, and goes on".to_owned())
    }
}

fn is_event(block: &[u8]) -> bool {
    block
        .split(|byte| *byte == b'\n')
        .any(|line| line.starts_with(b"data:"))
}

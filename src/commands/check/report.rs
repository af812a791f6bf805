//! Writes the results of checks.

use std::io::{self, Write};

use crate::commands::Problem;

/// Writes one line per check, and remembers whether all of them passed.
pub(super) struct Checks<'a, W> {
    pub(super) out: &'a mut W,
    pub(super) good: bool,
}

impl<W: Write> Checks<'_, W> {
    pub(super) fn report(&mut self, what: &str, result: Result<String, Problem>) -> io::Result<()> {
        match result {
            Ok(detail) => writeln!(self.out, "ok    {what}: {detail}"),
            Err(problem) => {
                self.good = false;
                writeln!(self.out, "FAIL  {what}: {problem}")
            }
        }
    }
}

//! What commands print: results on standard output, everything said to a person on standard error.
//!
//! With `--json` standard output carries one JSON value per line and nothing else, and a failure is one JSON object on
//! standard error. Names from buckets are never written raw to a terminal: see [`printable`].

use std::borrow::Cow;
use std::fmt;
use std::io::{self, IsTerminal as _, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};

use serde::Serialize;

use crate::failure::Failure;

/// How a command prints.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    /// One JSON value per line on standard output.
    pub json: bool,
    /// No remarks on standard error, only failures.
    pub quiet: bool,
    /// Progress bars may be drawn.
    pub progress: bool,
}

/// Set while progress bars are drawn, so that remarks go through them.
static BARS: AtomicBool = AtomicBool::new(false);

impl Output {
    /// `progress` only when standard error is a terminal and nothing forbids it.
    pub fn new(json: bool, quiet: bool, no_progress: bool) -> Self {
        let progress = !json && !quiet && !no_progress && io::stderr().is_terminal();
        Self {
            json,
            quiet,
            progress,
        }
    }

    /// A result: `value` as JSON, or what `human` says.
    pub fn result<T: Serialize>(&self, value: &T, human: impl FnOnce() -> String) {
        if self.json {
            match serde_json::to_string(value) {
                Ok(text) => line(&text),
                Err(error) => self.failure(&Failure::new(
                    crate::failure::Exit::Failure,
                    "internal",
                    format!("the result cannot be written as JSON: {error}"),
                )),
            }
        } else {
            let text = human();
            if !text.is_empty() {
                line(&text);
            }
        }
    }

    /// A remark for a person; silent with `--json` and `--quiet`.
    pub fn note(&self, text: impl fmt::Display) {
        if !self.json && !self.quiet {
            remark(&text.to_string());
        }
    }

    /// A warning: silent only with `--quiet`; with `--json` an object on standard error.
    pub fn warn(&self, text: impl fmt::Display) {
        if self.quiet {
            return;
        }
        if self.json {
            remark(&serde_json::json!({ "warning": text.to_string() }).to_string());
        } else {
            remark(&format!("warning: {text}"));
        }
    }

    /// A failure: always said.
    pub fn failure(&self, failure: &Failure) {
        if self.json {
            remark(&failure_json(failure).to_string());
        } else {
            remark(&format!("error: {}", failure.message));
            if let Some(advice) = &failure.advice {
                remark(&format!("  {advice}"));
            }
        }
    }
}

/// The JSON form of a failure.
pub fn failure_json(failure: &Failure) -> serde_json::Value {
    serde_json::json!({
        "error": {
            "code": failure.code,
            "exit": failure.exit.code(),
            "message": failure.message,
            "advice": failure.advice,
        }
    })
}

/// One line on standard output. A reader that went away (`| head`) ends the process quietly, as it does for `cat`.
pub fn line(text: &str) {
    let mut out = io::stdout().lock();
    if let Err(error) = out
        .write_all(text.as_bytes())
        .and_then(|()| out.write_all(b"\n"))
    {
        stdout_failed(&error);
    }
}

/// Ends the process after standard output failed: silently when its reader went away.
pub fn stdout_failed(error: &io::Error) -> ! {
    if error.kind() == io::ErrorKind::BrokenPipe {
        std::process::exit(141);
    }
    remark(&format!("error: cannot write to standard output: {error}"));
    std::process::exit(1);
}

/// One line on standard error. Nothing can be done when that fails.
fn remark(text: &str) {
    if BARS.load(Ordering::Relaxed) {
        crate::progress::println(text);
    } else {
        let _ = writeln!(io::stderr().lock(), "{text}");
    }
}

/// Says whether progress bars are on the screen.
pub fn set_bars(shown: bool) {
    BARS.store(shown, Ordering::Relaxed);
}

/// A name as it may be shown: control characters and those that reorder or hide text are written as `\u{...}`, so that
/// a key chosen by somebody else can neither drive the terminal nor pass for another.
pub fn printable(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_deceptive) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_deceptive(c) {
            out.extend(c.escape_unicode());
        } else {
            out.push(c);
        }
    }
    Cow::Owned(out)
}

fn is_deceptive(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// Rows with aligned columns, two spaces between; the columns in `right` are aligned to the right.
pub fn table(rows: &[Vec<String>], right: &[usize]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut out = String::new();
    for (i, row) in rows.iter().enumerate() {
        let mut text = String::new();
        for (column, cell) in row.iter().enumerate() {
            let width = widths.get(column).copied().unwrap_or(0);
            let pad = " ".repeat(width.saturating_sub(cell.chars().count()));
            if column > 0 {
                text.push_str("  ");
            }
            if right.contains(&column) {
                text.push_str(&pad);
                text.push_str(cell);
            } else {
                text.push_str(cell);
                text.push_str(&pad);
            }
        }
        if i > 0 {
            out.push('\n');
        }
        out.push_str(text.trim_end());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Exit;

    #[test]
    fn names_cannot_drive_the_terminal() {
        assert_eq!(printable("plain 日本 é"), "plain 日本 é");
        assert_eq!(printable("a\u{1b}[31mb"), "a\\u{1b}[31mb");
        assert_eq!(printable("line\nbreak\t"), "line\\u{a}break\\u{9}");
        assert_eq!(printable("gpj.\u{202e}exe"), "gpj.\\u{202e}exe");
        assert_eq!(printable("zero\u{200b}width"), "zero\\u{200b}width");
    }

    #[test]
    fn failures_have_one_json_form() {
        let failure = Failure::new(Exit::NotFound, "not_found", "no such object").advise("look");
        let json = failure_json(&failure);
        assert_eq!(
            json,
            serde_json::json!({"error": {"code": "not_found", "exit": 3, "message": "no such object", "advice": "look"}})
        );
    }

    #[test]
    fn tables_align_and_do_not_trail_spaces() {
        let rows = [
            vec!["a".to_owned(), "1".to_owned(), "x".to_owned()],
            vec!["bcd".to_owned(), "100".to_owned(), String::new()],
        ];
        assert_eq!(table(&rows, &[1]), "a      1  x\nbcd  100");
        assert_eq!(table(&[], &[]), "");
    }
}

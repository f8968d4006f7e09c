//! Progress bars on standard error, when it is a terminal.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::output::{Output, printable, set_bars};

static SCREEN: Mutex<Option<MultiProgress>> = Mutex::new(None);

/// A bar per file in flight and one for the whole, or nothing at all.
#[derive(Debug)]
pub struct Progress {
    screen: Option<MultiProgress>,
    total: Option<ProgressBar>,
}

/// The bar of one transfer. Cheap to clone; all clones are one bar.
#[derive(Clone, Debug, Default)]
pub struct Bar {
    own: Option<ProgressBar>,
    total: Option<ProgressBar>,
}

impl Progress {
    /// `total_bytes` is what all transfers have together, when it is known.
    pub fn new(output: &Output, total_bytes: Option<u64>, transfers: usize) -> Self {
        if !output.progress {
            return Self {
                screen: None,
                total: None,
            };
        }
        let screen = MultiProgress::new();
        *SCREEN.lock().unwrap_or_else(PoisonError::into_inner) = Some(screen.clone());
        set_bars(true);
        let total = (transfers > 1).then(|| {
            let bar = screen.add(new_bar(total_bytes));
            bar.set_message(format!("total of {transfers}"));
            bar
        });
        Self {
            screen: Some(screen),
            total,
        }
    }

    /// The bar of one transfer.
    pub fn bar(&self, name: &str, bytes: Option<u64>) -> Bar {
        let own = self.screen.as_ref().map(|screen| {
            let bar = match &self.total {
                Some(total) => screen.insert_before(total, new_bar(bytes)),
                None => screen.add(new_bar(bytes)),
            };
            bar.set_message(shorten(&printable(name)));
            bar
        });
        Bar {
            own,
            total: self.total.clone(),
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(screen) = &self.screen {
            if let Some(total) = &self.total {
                total.finish_and_clear();
            }
            let _ = screen.clear();
            set_bars(false);
            *SCREEN.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
    }
}

impl Bar {
    /// More bytes went over.
    pub fn add(&self, bytes: u64) {
        for bar in [&self.own, &self.total].into_iter().flatten() {
            bar.inc(bytes);
        }
    }

    /// The transfer is over.
    pub fn done(&self) {
        if let Some(bar) = &self.own {
            bar.finish_and_clear();
        }
    }
}

/// Prints a line above the bars.
pub fn println(text: &str) {
    let screen = SCREEN
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .clone();
    let printed = screen.is_some_and(|screen| screen.println(text).is_ok());
    if !printed {
        use std::io::Write as _;
        let _ = writeln!(std::io::stderr().lock(), "{text}");
    }
}

fn new_bar(bytes: Option<u64>) -> ProgressBar {
    const KNOWN: &str = "{msg:32} {bar:24} {binary_bytes:>11} of {binary_total_bytes:11} {binary_bytes_per_sec:>13}  {eta:>4} left";
    const UNKNOWN: &str =
        "{msg:32} {spinner} {binary_bytes:>11} {binary_bytes_per_sec:>13}  {elapsed}";
    let (bar, template) = match bytes {
        Some(bytes) => (ProgressBar::new(bytes), KNOWN),
        None => (ProgressBar::no_length(), UNKNOWN),
    };
    // A template that does not parse is a mistake of ours that the test below finds; the default style serves then.
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.progress_chars("=> "));
    }
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

/// The end of a name tells more than its beginning.
fn shorten(name: &str) -> String {
    const WIDTH: usize = 32;
    let length = name.chars().count();
    if length <= WIDTH {
        return name.to_owned();
    }
    let tail: String = name.chars().skip(length - (WIDTH - 3)).collect();
    format!("...{tail}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_names_keep_their_end() {
        assert_eq!(shorten("short"), "short");
        let long = shorten(&format!("{}/tail.bin", "x".repeat(100)));
        assert_eq!(long.chars().count(), 32);
        assert!(long.starts_with("...") && long.ends_with("/tail.bin"));
    }

    #[test]
    fn nothing_is_drawn_where_nobody_looks() {
        let output = Output {
            json: false,
            quiet: false,
            progress: false,
        };
        let progress = Progress::new(&output, Some(10), 2);
        assert!(progress.screen.is_none());
        progress.bar("a", None).add(5);
    }
}

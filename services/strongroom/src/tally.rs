//! How many items of a command succeeded, and what that makes of its exit status.

use std::fmt::Display;

use crate::failure::{Failure, Outcome};
use crate::output::Output;

/// Counts the items of a command.
#[derive(Debug, Default)]
pub struct Tally {
    /// Items that succeeded.
    pub done: usize,
    /// Bytes of them.
    pub bytes: u64,
    failed: Vec<Failure>,
    /// Where to say the first failure, which is held back: a command of one item says it at its end.
    unsaid: Option<Output>,
}

impl Tally {
    /// An item succeeded.
    pub fn success(&mut self, bytes: u64) {
        self.say_first();
        self.done += 1;
        self.bytes = self.bytes.saturating_add(bytes);
    }

    /// An item failed; it is named in front of the sentence, unless that names it already.
    pub fn failure(&mut self, output: &Output, subject: impl Display, failure: Failure) {
        let subject = subject.to_string();
        let failure = if failure.message.contains(&subject) {
            failure
        } else {
            failure.about(subject)
        };
        self.say_first();
        if self.failed.is_empty() && self.done == 0 {
            self.unsaid = Some(*output);
        } else {
            output.failure(&failure);
        }
        self.failed.push(failure);
    }

    fn say_first(&mut self) {
        if let (Some(output), Some(first)) = (self.unsaid.take(), self.failed.first()) {
            output.failure(first);
        }
    }

    /// How many failed.
    pub fn failed(&self) -> usize {
        self.failed.len()
    }

    /// The outcome of the whole command.
    ///
    /// # Errors
    /// The failure itself when the command had one item; the common status when all failed alike; partial otherwise.
    pub fn finish(mut self, what: &str) -> Outcome {
        let total = self.done + self.failed.len();
        let Some(first) = self.failed.first() else {
            return Ok(());
        };
        if total == 1 {
            return Err(self.failed.remove(0));
        }
        let (exit, code) = (first.exit, first.code.clone());
        let mut failure = Failure::partial(self.failed.len(), total, what);
        if self.done == 0 && self.failed.iter().all(|failure| failure.exit == exit) {
            failure.exit = exit;
            failure.code = code;
        }
        Err(failure)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Exit;

    const QUIET: Output = Output {
        json: false,
        quiet: true,
        progress: false,
    };

    fn tally(done: usize, failed: &[Exit]) -> Tally {
        let mut tally = Tally {
            done,
            ..Tally::default()
        };
        for exit in failed {
            tally.failed.push(Failure::new(*exit, "x", "failed"));
        }
        tally
    }

    #[test]
    fn one_item_fails_with_its_own_status_and_many_with_a_common_or_partial_one() {
        use Exit::{Integrity, NotFound, Partial};
        let check = |done, failed: &[Exit], exit| {
            assert_eq!(
                tally(done, failed).finish("objects").unwrap_err().exit,
                exit
            );
        };
        assert_eq!(tally(3, &[]).finish("objects"), Ok(()));
        check(0, &[NotFound], NotFound);
        check(0, &[NotFound, NotFound], NotFound);
        check(0, &[NotFound, Integrity], Partial);
        check(1, &[NotFound], Partial);
    }

    #[test]
    fn the_first_failure_is_held_back_only_while_it_is_the_only_item() {
        let mut tally = Tally::default();
        tally.failure(&QUIET, "a", Failure::usage("broken"));
        assert!(tally.unsaid.is_some());
        tally.success(1);
        assert!(tally.unsaid.is_none());
        assert_eq!(tally.finish("objects").unwrap_err().exit, Exit::Partial);
        let mut tally = Tally::default();
        tally.success(1);
        tally.failure(&QUIET, "a", Failure::usage("broken"));
        assert!(tally.unsaid.is_none());
    }

    #[test]
    fn failures_name_their_item_once() {
        let mut tally = Tally::default();
        tally.failure(&QUIET, "sr://a/b", Failure::usage("broken"));
        assert_eq!(tally.failed.first().unwrap().message, "sr://a/b: broken");
        let mut tally = Tally::default();
        tally.failure(&QUIET, "sr://a/b", Failure::usage("no sr://a/b here"));
        assert_eq!(tally.failed.first().unwrap().message, "no sr://a/b here");
    }
}

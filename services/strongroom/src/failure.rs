//! What a command says when it does not succeed: one sentence, what to do about it, and an exit status.

use std::borrow::Cow;
use std::fmt;
use std::path::Path;

/// The exit statuses, as `strongroom help` and the manual page document them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Exit {
    /// Something went wrong that has no status of its own.
    Failure,
    /// The command line, the configuration or the state of a folder does not allow the command.
    Usage,
    /// A bucket, object, file or folder does not exist (or may not be seen by this identity).
    NotFound,
    /// Refused: wrong passphrase, no permission, not authenticated.
    Refused,
    /// Data that came back is not what was stored. Nothing of it was handed on.
    Integrity,
    /// The platform, or enough of its nodes, could not be reached. Trying again later may help.
    Unavailable,
    /// Something else is in the way: it exists already, is in use, or changed meanwhile.
    Conflict,
    /// Some of the items succeeded and some failed; each failure was reported.
    Partial,
    /// Stopped by Ctrl-C.
    Interrupted,
}

impl Exit {
    /// Every status, with a word that the help says of it.
    #[cfg(test)]
    pub const ALL: [(Self, &'static str); 9] = [
        (Self::Failure, "failure"),
        (Self::Usage, "wrong usage"),
        (Self::NotFound, "not found"),
        (Self::Refused, "refused"),
        (Self::Integrity, "integrity failure"),
        (Self::Unavailable, "unavailable"),
        (Self::Conflict, "conflict"),
        (Self::Partial, "some items failed"),
        (Self::Interrupted, "interrupted"),
    ];

    /// The number that the process ends with.
    pub const fn code(self) -> u8 {
        match self {
            Self::Failure => 1,
            Self::Usage => 2,
            Self::NotFound => 3,
            Self::Refused => 4,
            Self::Integrity => 5,
            Self::Unavailable => 6,
            Self::Conflict => 7,
            Self::Partial => 8,
            Self::Interrupted => 130,
        }
    }
}

/// A command's failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The status to end with.
    pub exit: Exit,
    /// A stable word for programs, for example `not_found`.
    pub code: Cow<'static, str>,
    /// One sentence: what happened, naming the thing it happened to.
    pub message: String,
    /// What the user can do, when there is something.
    pub advice: Option<String>,
}

/// What every command gives back.
pub type Outcome<T = ()> = Result<T, Failure>;

impl Failure {
    /// A failure with a stable code.
    pub fn new(exit: Exit, code: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self {
            exit,
            code: code.into(),
            message: message.into(),
            advice: None,
        }
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn advise(mut self, advice: impl Into<String>) -> Self {
        self.advice = Some(advice.into());
        self
    }

    /// Puts the thing it happened to in front of the sentence.
    #[must_use]
    pub fn about(mut self, subject: impl fmt::Display) -> Self {
        self.message = format!("{subject}: {}", self.message);
        self
    }

    /// A wrong command line or configuration.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, "usage", message)
    }

    /// A local file operation failed.
    pub fn file(doing: &str, path: &Path, error: &std::io::Error) -> Self {
        use std::io::ErrorKind;
        let (exit, code) = match error.kind() {
            ErrorKind::NotFound => (Exit::NotFound, "file_not_found"),
            ErrorKind::PermissionDenied => (Exit::Refused, "permission_denied"),
            ErrorKind::AlreadyExists => (Exit::Conflict, "file_exists"),
            _ => (Exit::Failure, "file"),
        };
        let reason = match error.kind() {
            ErrorKind::NotFound => "no such file or folder".to_owned(),
            ErrorKind::PermissionDenied => "permission denied".to_owned(),
            ErrorKind::StorageFull => "the disk is full".to_owned(),
            _ => error.to_string(),
        };
        Self::new(
            exit,
            code,
            format!("cannot {doing} {}: {reason}", path.display()),
        )
    }

    /// Several items were worked on and some failed.
    pub fn partial(failed: usize, total: usize, what: &str) -> Self {
        Self::new(
            Exit::Partial,
            "partial",
            format!("{failed} of {total} {what} failed"),
        )
        .advise("each failure is reported above; run the command again to retry what failed")
    }

    /// Ctrl-C.
    pub fn interrupted() -> Self {
        Self::new(Exit::Interrupted, "interrupted", "interrupted")
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match &self.advice {
            Some(advice) => write!(f, "; {advice}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Failure {}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;
    use std::io;

    #[test]
    fn statuses_are_distinct_and_all_listed() {
        let codes: HashSet<u8> = Exit::ALL.iter().map(|(exit, _)| exit.code()).collect();
        assert_eq!(codes.len(), Exit::ALL.len());
        assert!(!codes.contains(&0), "0 is success alone");
        assert_eq!(codes.into_iter().filter(|code| *code < 100).max(), Some(8));
    }

    #[test]
    fn the_help_documents_every_status() {
        use clap::CommandFactory as _;
        let help = crate::args::Cli::command().render_long_help().to_string();
        for (exit, word) in Exit::ALL {
            assert!(
                help.contains(&format!("{} {word}", exit.code())),
                "{} {word}",
                exit.code()
            );
        }
    }

    #[test]
    fn file_errors_get_the_status_of_their_kind() {
        let check = |kind: io::ErrorKind, exit: Exit| {
            let failure = Failure::file("read", Path::new("/x/y"), &kind.into());
            assert_eq!(failure.exit, exit, "{kind:?}");
            assert!(
                failure.message.starts_with("cannot read /x/y: "),
                "{failure}"
            );
        };
        check(io::ErrorKind::NotFound, Exit::NotFound);
        check(io::ErrorKind::PermissionDenied, Exit::Refused);
        check(io::ErrorKind::AlreadyExists, Exit::Conflict);
        check(io::ErrorKind::StorageFull, Exit::Failure);
    }

    #[test]
    fn the_sentence_names_its_subject_and_then_what_to_do() {
        let failure = Failure::usage("no such option")
            .advise("see --help")
            .about("sr://a/b");
        assert_eq!(failure.to_string(), "sr://a/b: no such option; see --help");
    }
}

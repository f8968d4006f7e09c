//! The built program from outside: grammar, settings, sentences, statuses. Nothing here needs a running platform.

#![allow(clippy::unwrap_used)]

mod envelopes;
mod help;
mod identity;
mod platform;
mod settings;
mod usage;

use std::path::Path;
use std::process::{Command, Output};

/// A folder for configuration and data, and a way to run the program in it.
struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let place = Self {
            dir: tempfile::tempdir().unwrap(),
        };
        std::fs::write(place.path().join("pass"), "correct horse battery\n").unwrap();
        place
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_strongroom"));
        for (name, _) in std::env::vars_os() {
            if name.as_encoded_bytes().starts_with(b"STRONGROOM_") {
                command.env_remove(name);
            }
        }
        command
            .args(args)
            .current_dir(self.path())
            .env("STRONGROOM_CONFIG_DIR", self.path().join("config"))
            .env("STRONGROOM_PASSPHRASE_FILE", self.path().join("pass"));
        command
    }

    fn run(&self, args: &[&str]) -> Ran {
        Ran::of(args, &self.command(args).output().unwrap())
    }
}

/// What the program said.
#[derive(Debug)]
struct Ran {
    #[expect(dead_code, reason = "shown when a test fails")]
    args: Vec<String>,
    status: i32,
    stdout: String,
    stderr: String,
}

impl Ran {
    fn of(args: &[&str], output: &Output) -> Self {
        Self {
            args: args.iter().map(|&arg| arg.to_owned()).collect(),
            status: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout.clone()).unwrap(),
            stderr: String::from_utf8(output.stderr.clone()).unwrap(),
        }
    }

    #[track_caller]
    fn status(self, expected: i32) -> Self {
        assert_eq!(self.status, expected, "{self:#?}");
        self
    }

    #[track_caller]
    fn says(self, part: &str) -> Self {
        assert!(
            self.stdout.contains(part) || self.stderr.contains(part),
            "`{part}` in {self:#?}"
        );
        self
    }

    /// The one JSON value on standard output.
    #[track_caller]
    fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:#?}"))
    }

    /// The JSON failure, which must be all of standard error, with nothing on standard output.
    #[track_caller]
    fn error(&self) -> serde_json::Value {
        assert_eq!(self.stdout, "", "{self:#?}");
        let value: serde_json::Value =
            serde_json::from_str(&self.stderr).unwrap_or_else(|error| panic!("{error}: {self:#?}"));
        assert_eq!(value["error"]["exit"], self.status, "{self:#?}");
        value["error"].clone()
    }
}

//! Help, completions and manual pages cover every command.

use crate::Place;

const COMMANDS: [&str; 29] = [
    "init",
    "up",
    "prove",
    "node",
    "gateway",
    "put",
    "get",
    "cat",
    "ls",
    "stat",
    "du",
    "cp",
    "mv",
    "rm",
    "sync",
    "verify",
    "mb",
    "rb",
    "key",
    "encrypt",
    "decrypt",
    "audit",
    "identity",
    "token",
    "admin",
    "bench",
    "config",
    "completions",
    "man",
];

#[test]
fn help_lists_every_command_and_each_explains_itself() {
    let place = Place::new();
    let help = place.run(&["--help"]).status(0);
    for command in COMMANDS {
        assert!(
            help.stdout
                .lines()
                .any(|line| line.trim_start().starts_with(command)),
            "{command}"
        );
        let own = place.run(&[command, "--help"]).status(0);
        assert!(own.stdout.contains("Usage: strongroom"), "{command}");
        assert!(own.stdout.contains("--json"), "{command}");
    }
    for part in ["Exit status", "sr://BUCKET/KEY", "Examples"] {
        assert!(help.stdout.contains(part), "{part}");
    }
    for command in [
        "init", "up", "put", "get", "cat", "ls", "cp", "mv", "rm", "sync", "verify", "mb", "key",
        "encrypt", "decrypt", "audit", "token", "bench",
    ] {
        place.run(&[command, "--help"]).says("Example");
    }
}

#[test]
fn the_version_is_shown() {
    Place::new()
        .run(&["--version"])
        .status(0)
        .says(env!("CARGO_PKG_VERSION"));
}

#[test]
fn completions_know_every_command() {
    let place = Place::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = place.run(&["completions", shell]).status(0).stdout;
        for command in COMMANDS {
            assert!(script.contains(command), "{shell}: {command}");
        }
    }
    place.run(&["completions", "tcsh"]).status(2);
}

#[test]
fn manual_pages_are_written_for_every_command() {
    let place = Place::new();
    place.run(&["man", "pages"]).status(0);
    let page = |name: &str| std::fs::read_to_string(place.path().join("pages").join(name)).unwrap();
    assert!(page("strongroom.1").contains("Exit status"));
    for command in COMMANDS {
        assert!(
            page(&format!("strongroom-{command}.1")).contains(".TH"),
            "{command}"
        );
    }
    assert!(page("strongroom-identity-export.1").contains("recovery kit"));
}

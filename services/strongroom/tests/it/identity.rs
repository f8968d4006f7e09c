//! The identity: sealed, private, exported and imported; and the passphrase's sources.

use std::os::unix::fs::PermissionsExt as _;

use crate::{Place, Ran};

#[test]
fn an_identity_goes_out_as_a_kit_and_comes_back_under_another_passphrase() {
    let place = Place::new();
    place.run(&["init", "--identity-only"]).status(0);
    let principal =
        place.run(&["identity", "show", "--json"]).status(0).json()["principal"].clone();
    let sealed = place.path().join("config/identity");
    assert_eq!(
        std::fs::metadata(&sealed).unwrap().permissions().mode() & 0o777,
        0o600
    );
    place.run(&["identity", "export", "kit"]).status(0);
    assert_eq!(
        std::fs::metadata(place.path().join("kit"))
            .unwrap()
            .permissions()
            .mode()
            & 0o777,
        0o600
    );
    // A kit is never overwritten.
    place.run(&["identity", "export", "kit"]).status(7);
    place
        .run(&["identity", "export", "-"])
        .status(0)
        .says("seed:");
    // Neither is an identity, unless that was asked for; then the old one stays beside it.
    place
        .run(&["identity", "import", "kit"])
        .status(7)
        .says("--replace");
    std::fs::write(place.path().join("pass"), "another passphrase\n").unwrap();
    place
        .run(&["identity", "import", "kit", "--replace"])
        .status(0);
    assert_eq!(
        place.run(&["identity", "show", "--json"]).json()["principal"],
        principal
    );
    place.run(&["identity", "export", "-"]).status(0);
    let kept = std::fs::read_dir(place.path().join("config"))
        .unwrap()
        .count();
    assert!(kept >= 2, "the old identity is kept");
    // One wrong digit is found.
    let kit = std::fs::read_to_string(place.path().join("kit")).unwrap();
    let seed = kit.lines().find(|line| line.starts_with("seed:")).unwrap();
    let other = if seed.contains('A') {
        seed.replacen('A', "C", 1)
    } else {
        seed.replacen('C', "A", 1)
    };
    let wrong = if other == seed {
        format!("{seed}A")
    } else {
        other
    };
    std::fs::write(place.path().join("wrong"), kit.replace(seed, &wrong)).unwrap();
    place
        .run(&["identity", "import", "wrong", "--replace"])
        .status(2)
        .says("not a recovery kit");
    assert_eq!(
        place.run(&["identity", "show", "--json"]).json()["principal"],
        principal
    );
}

#[test]
fn a_wrong_passphrase_is_refused_and_a_damaged_file_is_an_integrity_failure() {
    let place = Place::new();
    place.run(&["init", "--identity-only"]).status(0);
    std::fs::write(place.path().join("pass"), "wrong horse battery\n").unwrap();
    let error = place
        .run(&["--json", "identity", "export", "-"])
        .status(4)
        .error();
    assert_eq!(error["code"], "wrong_passphrase");
    std::fs::write(place.path().join("config/identity"), "nonsense").unwrap();
    place.run(&["identity", "show"]).status(5);
}

#[test]
fn passphrases_come_from_files_and_commands_and_are_never_too_short() {
    let place = Place::new();
    std::fs::write(place.path().join("short"), "short\n").unwrap();
    place
        .run(&["init", "--identity-only", "--passphrase-file", "short"])
        .status(2)
        .says("at least 8");
    assert!(!place.path().join("config/identity").exists());
    place
        .run(&["init", "--identity-only", "--passphrase-file", "missing"])
        .status(3)
        .says("missing");
    // The option wins over the environment's file.
    let command = [
        "init",
        "--identity-only",
        "--passphrase-command",
        "echo from a command",
    ];
    place.run(&command).status(0);
    place.run(&["identity", "export", "-"]).status(4);
    place
        .run(&[
            "identity",
            "export",
            "-",
            "--passphrase-command",
            "echo from a command",
        ])
        .status(0);
    place
        .run(&["identity", "export", "-", "--passphrase-command", "exit 3"])
        .status(4)
        .says("command failed");
}

#[test]
fn without_a_terminal_a_missing_passphrase_is_said() {
    let place = Place::new();
    let args = ["init", "--identity-only"];
    let mut command = std::process::Command::new("setsid");
    let inner = place.command(&args);
    command
        .arg("--wait")
        .arg(inner.get_program())
        .args(inner.get_args())
        .env("STRONGROOM_CONFIG_DIR", place.path().join("config"))
        .env_remove("STRONGROOM_PASSPHRASE_FILE")
        .stdin(std::process::Stdio::null());
    Ran::of(&args, &command.output().unwrap())
        .status(2)
        .says("STRONGROOM_PASSPHRASE_FILE");
}

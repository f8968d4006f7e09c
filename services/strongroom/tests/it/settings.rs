//! Options win over the environment, the environment over the file, the file over defaults.

use serde_json::Value;

use crate::{Place, Ran};

fn setting(ran: &Ran, name: &str) -> (Value, String) {
    let json = ran.json();
    (
        json[name]["value"].clone(),
        json[name]["origin"].as_str().unwrap().to_owned(),
    )
}

#[test]
fn each_level_wins_over_the_next() {
    let place = Place::new();
    let args = ["config", "--json"];
    let check = |ran: &Ran, endpoint: &str, origin: &str| {
        assert_eq!(
            setting(ran, "endpoint"),
            (endpoint.into(), origin.to_owned())
        );
    };
    check(&place.run(&args), "http://127.0.0.1:8080", "default");
    assert_eq!(
        setting(&place.run(&args), "platform.grpc_listen"),
        ("127.0.0.1:50051".into(), "default".to_owned())
    );
    std::fs::create_dir(place.path().join("config")).unwrap();
    std::fs::write(
        place.path().join("config/config.toml"),
        "endpoint = \"http://127.0.0.1:1\"\n[platform]\nlisten = \"127.0.0.1:11\"\nmemory_budget = \"64MiB\"\n",
    )
    .unwrap();
    let ran = place.run(&args);
    check(&ran, "http://127.0.0.1:1", "file");
    assert_eq!(
        setting(&ran, "platform.listen"),
        ("127.0.0.1:11".into(), "file".to_owned())
    );
    assert_eq!(
        setting(&ran, "platform.memory_budget"),
        ((64 << 20).into(), "file".to_owned())
    );
    let with_env = |args: &[&str]| {
        let mut command = place.command(args);
        command
            .env("STRONGROOM_ENDPOINT", "http://127.0.0.1:2")
            .env("STRONGROOM_LISTEN", "127.0.0.1:12");
        Ran::of(args, &command.output().unwrap())
    };
    let ran = with_env(&args);
    check(&ran, "http://127.0.0.1:2", "environment");
    assert_eq!(
        setting(&ran, "platform.listen"),
        ("127.0.0.1:12".into(), "environment".to_owned())
    );
    let ran = with_env(&[
        "config",
        "--json",
        "--endpoint",
        "http://127.0.0.1:3",
        "--listen",
        "127.0.0.1:13",
        "--grpc-listen",
        "127.0.0.1:14",
    ]);
    assert_eq!(
        setting(&ran, "platform.grpc_listen"),
        ("127.0.0.1:14".into(), "option".to_owned())
    );
    check(&ran, "http://127.0.0.1:3", "option");
    assert_eq!(
        setting(&ran, "platform.listen"),
        ("127.0.0.1:13".into(), "option".to_owned())
    );
    // Before the command a global option counts as well.
    check(
        &with_env(&["--endpoint", "http://127.0.0.1:4", "config", "--json"]),
        "http://127.0.0.1:4",
        "option",
    );
}

#[test]
fn a_broken_settings_file_is_refused_with_its_line() {
    let place = Place::new();
    let file = place.path().join("settings.toml");
    std::fs::write(&file, "endpoint = \"x\"\nendpiont = \"y\"\n").unwrap();
    let path = file.display().to_string();
    place
        .run(&["--config", &path, "config"])
        .status(2)
        .says("line 2")
        .says("endpiont")
        .says(&path);
    place
        .run(&["--config", "missing.toml", "config"])
        .status(3)
        .says("missing.toml");
}

#[test]
fn a_database_password_is_not_shown() {
    let place = Place::new();
    let ran = place
        .run(&["config", "--database", "postgres://me:hunter2@host/db"])
        .status(0);
    assert!(
        !ran.stdout.contains("hunter2") && ran.stdout.contains("postgres://me@host/db"),
        "{ran:#?}"
    );
}

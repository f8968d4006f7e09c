//! The ledger under `up`: what is proved, who is admitted, and what a killed validator or custodian costs.

use std::io::Write as _;
use std::path::Path;

use serde_json::Value;

use crate::harness::{Options, Platform, program, write_file};

/// Custodians and workers are programs of their own.
fn built() {
    for name in ["strongroom-custodian", "strongroom-worker"] {
        let path = program().with_file_name(name);
        assert!(
            path.exists(),
            "{} is missing: build it first with `cargo build -p custodian -p worker`",
            path.display()
        );
    }
}

fn status(platform: &Platform) -> Value {
    platform.json(&["ledger", "status"]).remove(0)
}

fn height(platform: &Platform) -> u64 {
    status(platform)["proved"]["height"].as_u64().unwrap()
}

fn process(platform: &Platform, name: &str) -> Value {
    let processes = platform.processes();
    let children = processes["children"].as_array().unwrap();
    let found = children.iter().find(|child| child["name"] == name);
    found.unwrap_or_else(|| panic!("no {name}")).clone()
}

#[test]
fn the_ledger_proves_what_it_says_from_the_pinned_genesis() {
    let platform = Platform::start();
    assert_eq!(
        platform.ready()["ledger"],
        "solo: the operator is the ledger"
    );
    let first = status(&platform);
    assert_eq!(first["development"], true);
    assert_eq!(first["proved"]["governance"]["k"], 1);
    let warnings = first["warnings"].to_string();
    assert!(
        warnings.contains("one operator is the ledger"),
        "{warnings}"
    );
    assert!(warnings.contains("protects nothing from the machine's owner"));
    // Empty blocks go on: enclaves take their time from them.
    let before = height(&platform);
    platform.wait_for("another block", || height(&platform) > before);

    let proof = platform.json(&["ledger", "proof", "governance"]).remove(0);
    assert_eq!(proof["verified"], true);
    assert_eq!(proof["genesis"], first["genesis"]);
    let nobody = "1".repeat(32);
    let absent = platform.json(&["ledger", "proof", "account", &nobody]);
    assert_eq!(
        (&absent[0]["value"], &absent[0]["verified"]),
        (&Value::Null, &Value::Bool(true))
    );
    platform
        .run(&["ledger", "tx", &"ab".repeat(32)])
        .status(3)
        .says("no recent transaction");
    platform.run(&["ledger", "proof", "key-status"]).status(2);

    // Another ledger under the same name is refused: nothing of it is believed.
    let pins = platform.path("config/genesis");
    let pin = std::fs::read_dir(&pins)
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let genuine = std::fs::read(&pin).unwrap();
    let other = Platform::stopped(Options::default());
    let foreign = std::fs::read(other.data().join("ledger/genesis.cbor")).unwrap();
    std::fs::write(&pin, &foreign).unwrap();
    assert_ne!(platform.run(&["ledger", "status"]).status, 0);
    // The deployment's own, with another validator.
    let at = genuine
        .windows(10)
        .position(|part| part == b"validators")
        .unwrap();
    let mut forged = genuine.clone();
    forged[at + 20] ^= 1;
    std::fs::write(&pin, &forged).unwrap();
    platform.run(&["ledger", "status"]).status(5);
    std::fs::write(&pin, &genuine).unwrap();
    status(&platform);
}

#[test]
fn a_killed_validator_comes_back_and_objects_do_not_notice() {
    let platform = Platform::start();
    platform.ok(&["mb", "sr://files"]);
    let content = write_file(&platform.path("file"), 300_000, 5);
    let before = height(&platform);
    platform.kill_process("validator");
    platform.wait_for("the validator", || {
        let validator = process(&platform, "validator");
        validator["restarts"] == 1 && validator["state"] == "ready"
    });
    platform.wait_for("the next block", || {
        platform.run(&["ledger", "status"]).status == 0 && height(&platform) > before
    });

    platform.hold("validator");
    platform.run(&["ledger", "status"]).status(6);
    let admin = platform.json(&["admin", "status"]).remove(0);
    assert!(admin["ledger_status"]["failed"].is_string(), "{admin}");
    platform.ok(&["put", "file", "sr://files/file"]);
    let got = platform.run(&["cat", "sr://files/file"]).status(0);
    assert!(got.stdout == content);
    platform.release("validator");
    platform.wait_for("the ledger", || {
        platform.run(&["ledger", "status"]).status == 0
    });
    let admin = platform.json(&["admin", "status"]).remove(0);
    assert_eq!(admin["ledger_status"]["writable"], true);
}

#[test]
fn without_custody_there_is_no_ledger_until_it_is_wanted() {
    let mut platform = Platform::stopped(Options {
        args: vec!["--no-custody".to_owned()],
        ..Options::default()
    });
    platform.up();
    assert_eq!(platform.ready()["custody"], "off");
    platform.run(&["ledger", "status"]).says("no ledger");
    let processes = platform.processes();
    assert_eq!(processes["children"].as_array().unwrap().len(), 15);
    platform.down();
    platform.set_options(Options::default());
    platform.up();
    status(&platform);
}

#[test]
fn custodians_and_workers_are_admitted_by_the_operator_alone() {
    built();
    let mut platform = Platform::start_with(Options {
        without_passphrase: true,
        ..Options::default()
    });
    // The passphrase is not at hand: said, with what to run.
    assert_eq!(platform.ready()["custody"], "not-provisioned");
    let notes = platform.ready()["custody_notes"].to_string();
    assert!(notes.contains("strongroom admin provision"), "{notes}");
    assert_eq!(
        status(&platform)["proved"]["governance"]["next_decision"],
        1
    );
    let provision = |platform: &Platform| {
        let report = platform.json(&["admin", "provision", "--yes"]).remove(0);
        report["decided"].as_array().unwrap().len()
    };
    // Nobody says yes: nothing is signed.
    let dry = platform
        .json(&["admin", "provision", "--dry-run"])
        .remove(0);
    assert_eq!(dry["to_decide"].as_array().unwrap().len(), 5, "{dry}");
    platform
        .run(&["admin", "provision"])
        .status(2)
        .says("--yes");
    assert_eq!(provision(&platform), 5);
    assert_eq!(provision(&platform), 0);
    let shown = platform.json(&["attest", "show"]).remove(0);
    assert_eq!(shown["measurements"].as_array().unwrap().len(), 2);
    assert_eq!(shown["committees"][0]["t"], 3);
    assert_eq!(
        shown["committees"][0]["members"].as_array().unwrap().len(),
        5
    );
    assert_eq!(shown["workers"].as_array().unwrap().len(), 2);
    assert!(shown["warnings"].to_string().contains("protects nothing"));

    // Admitted once: the next start needs no passphrase and decides nothing.
    platform.down();
    platform.up();
    assert_eq!(platform.ready()["custody"], "ready", "{}", platform.ready());
    assert_eq!(
        status(&platform)["proved"]["governance"]["next_decision"],
        6
    );
}

#[test]
fn a_program_that_was_replaced_is_admitted_by_a_person_alone() {
    built();
    let mut platform = Platform::start_with(Options {
        own_programs: true,
        ..Options::default()
    });
    assert_eq!(platform.ready()["custody"], "ready", "{}", platform.ready());
    // Admitted a moment ago: until the gateway has looked at the policy again and reaches a worker, the program waits.
    platform.ok(&["key", "create", "payroll"]);
    std::fs::write(platform.path("salaries"), b"1,000").unwrap();
    platform.ok(&["encrypt", "--key", "payroll", "salaries"]);
    let program = platform.path("libexec/strongroom-custodian");
    let measured = |platform: &Platform| {
        let of = platform.json(&["attest", "measure", program.to_str().unwrap()]);
        of[0]["measurement"].as_str().unwrap().to_owned()
    };
    let before = measured(&platform);
    platform.down();
    std::fs::File::options()
        .append(true)
        .open(&program)
        .unwrap()
        .write_all(b"changed")
        .unwrap();
    let after = measured(&platform);
    assert_ne!(before, after);

    // The operator's passphrase is at hand, and that is not enough.
    platform.up();
    assert_eq!(
        platform.ready()["custody"],
        "not-provisioned",
        "{}",
        platform.ready()
    );
    assert!(
        platform.ready()["custody_notes"]
            .to_string()
            .contains("admin provision"),
        "{}",
        platform.ready()
    );
    let decrypt = ["decrypt", "salaries.sealed", "-o", "-"];
    assert_ne!(platform.run(&decrypt).status, 0);
    let decided = platform
        .json(&["admin", "provision", "--yes", "--deny-others"])
        .remove(0);
    let words = decided["decided"].to_string();
    assert_eq!(decided["decided"].as_array().unwrap().len(), 2, "{decided}");
    assert!(
        words.contains(&format!("allow measurement {after} as a custodian")),
        "{words}"
    );
    assert!(
        words.contains(&format!("deny measurement {before} as a custodian")),
        "{words}"
    );
    // The new program opens what the old one sealed; the old one holds nothing any more.
    platform.wait_for("the new custodians to open", || {
        let ran = platform.run(&decrypt);
        ran.status == 0 && ran.stdout == b"1,000"
    });
    let shown = platform.json(&["attest", "show"]).remove(0);
    let denied = shown["measurements"]
        .as_array()
        .unwrap()
        .iter()
        .find(|entry| entry["measurement"] == *before);
    assert_eq!(denied.unwrap()["state"], "DENIED", "{shown}");
}

#[test]
fn a_killed_custodian_comes_back_as_itself() {
    built();
    let mut platform = Platform::start();
    assert_eq!(platform.ready()["custody"], "ready", "{}", platform.ready());
    let principals = || {
        let shown = platform.json(&["attest", "show"]).remove(0);
        shown["committees"].to_string()
    };
    let before = principals();
    platform.kill_process("custodian-2");
    platform.kill_process("worker-1");
    platform.wait_for("custodian and worker", || {
        ["custodian-2", "worker-1"].iter().all(|name| {
            let process = process(&platform, name);
            process["restarts"] == 1 && process["state"] == "ready"
        })
    });
    assert_eq!(principals(), before);
    // However the supervisor ends, nobody holds shares after it.
    let pids: Vec<u32> = (1..=5)
        .map(|index| platform.pid(&format!("custodian-{index}")))
        .collect();
    platform.kill();
    for pid in pids {
        let path = format!("/proc/{pid}/cmdline");
        platform.wait_for("the custodians' end", || {
            !Path::new(&path).exists() || std::fs::read(&path).is_ok_and(|line| line.is_empty())
        });
    }
}

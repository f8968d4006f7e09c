//! Named keys through real processes: a ledger, five custodians, two workers, a gateway and fourteen nodes.

use std::path::Path;

use crate::harness::{Platform, Ran, bytes, write_file};

/// What everybody may know is not here: planted content, which no file of the platform may hold.
const PLANTED: &[u8] = b"PLANTED-7c1f3e-only-for-those-who-are-permitted";

/// A platform whose custodians and workers believe each other.
pub fn started() -> Platform {
    let platform = Platform::start();
    // Admitted a moment ago: each enclave reads that from the ledger before it believes the others.
    platform.wait_for("custodians and workers", || {
        let shown = platform.json(&["attest", "show"]).remove(0).to_string();
        shown.matches("\"reachable\":true").count() >= 7
    });
    platform
}

/// Another person at this platform: the principal.
pub fn other(platform: &Platform, name: &str) -> String {
    as_other(platform, name, &["init", "--identity-only"]).status(0);
    let shown = as_other(platform, name, &["identity", "show", "--json"]).status(0);
    let shown: serde_json::Value = serde_json::from_slice(&shown.stdout).unwrap();
    shown["principal"].as_str().unwrap().to_owned()
}

/// The program as another person.
pub fn as_other(platform: &Platform, name: &str, args: &[&str]) -> Ran {
    let mut all = args.to_vec();
    all.extend(["--config-dir", name]);
    platform.run(&all)
}

fn encrypted(platform: &Platform, name: &str, content: &[u8]) {
    let file = platform.path(name);
    std::fs::write(&file, content).unwrap();
    platform.ok(&["encrypt", "--key", "payroll", name]);
    std::fs::remove_file(file).unwrap();
}

fn opens(platform: &Platform, name: &str, content: &[u8]) {
    let sealed = format!("{name}.sealed");
    let got = platform.run(&["decrypt", "-o", "-", &sealed]).status(0);
    assert!(got.stdout == content, "{name}");
}

/// Whether bytes have a part.
pub fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    memchr::memmem::find(haystack, needle).is_some()
}

pub fn none_holds(folder: &Path, needle: &[u8]) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            none_holds(&entry.path(), needle);
        } else if kind.is_file() {
            let held = std::fs::read(entry.path()).unwrap_or_default();
            assert!(
                !contains(&held, needle),
                "{} holds what was sealed",
                entry.path().display()
            );
        }
    }
}

#[test]
fn whom_the_ledger_permits_opens_and_nobody_else() {
    let platform = started();
    platform.ok(&["key", "create", "payroll"]);
    encrypted(&platform, "note", PLANTED);
    opens(&platform, "note", PLANTED);

    let (anna, bert) = (other(&platform, "anna"), other(&platform, "bert"));
    let owner = platform.json(&["identity", "show"]).remove(0);
    let owner = owner["principal"].as_str().unwrap().to_owned();
    let decrypt = ["decrypt", "-o", "-", "note.sealed"];
    as_other(&platform, "anna", &decrypt)
        .status(4)
        .says("ask the key's owner for a grant");
    platform.ok(&["key", "grant", "payroll", &anna]);
    let got = as_other(&platform, "anna", &decrypt).status(0);
    assert!(got.stdout == PLANTED);
    as_other(&platform, "bert", &decrypt).status(4);
    // A grant to open is none to pass on.
    let address = format!("{owner}/payroll");
    assert_ne!(
        as_other(&platform, "anna", &["key", "grant", &address, &bert]).status,
        0
    );

    // Rotated: old ciphertexts open, until the owner says otherwise.
    platform.ok(&["key", "rotate", "payroll"]);
    encrypted(&platform, "second", b"under version 2");
    opens(&platform, "note", PLANTED);
    opens(&platform, "second", b"under version 2");
    platform.ok(&["key", "set-min-version", "payroll", "2"]);
    platform.run(&decrypt).status(4);
    opens(&platform, "second", b"under version 2");
    platform.ok(&["key", "set-min-version", "payroll", "1"]);

    let revoked = platform
        .json(&["key", "revoke", "payroll", &anna])
        .remove(0);
    assert_eq!(revoked["waited"], false, "{revoked}");
    as_other(&platform, "anna", &decrypt).status(4);
    opens(&platform, "note", PLANTED);

    // Two custodians lost cost nothing, three everything, until one is back.
    platform.hold("custodian-1");
    platform.hold("custodian-4");
    opens(&platform, "note", PLANTED);
    platform.hold("custodian-2");
    platform.run(&decrypt).status(6);
    // Writing needs nobody.
    encrypted(&platform, "third", b"while nobody could open it");
    platform.release("custodian-2");
    platform.wait_for("a third custodian", || platform.run(&decrypt).status == 0);
    opens(&platform, "third", b"while nobody could open it");
    platform.release("custodian-1");
    platform.release("custodian-4");

    platform.wait_for("all logs", || {
        platform
            .run(&["audit", "verify", "--key", "payroll"])
            .status
            == 0
    });
    let log = platform.ok(&["audit", "log", "--key", "payroll"]);
    assert!(log.contains(&anna), "{log}");
    assert!(log.contains("not-granted"), "{log}");

    none_holds(&platform.data(), PLANTED);
    none_holds(&platform.path("config"), PLANTED);
}

#[test]
fn a_bucket_on_a_named_key_is_opened_by_its_grantees_and_loses_those_whose_right_ends() {
    let platform = started();
    platform.ok(&["key", "create", "payroll"]);
    platform.ok(&["mb", "--key", "payroll", "sr://payslips"]);
    write_file(&platform.path("small"), 1_000, 1);
    write_file(&platform.path("large"), 5 << 20, 2);
    platform.ok(&["put", "small", "large", "sr://payslips/"]);
    let stat = platform.json(&["stat", "sr://payslips/large"]).remove(0);
    assert!(stat.to_string().contains("named-key"), "{stat}");

    let anna = other(&platform, "anna");
    let cat = |name: &str| as_other(&platform, "anna", &["cat", name]);
    cat("sr://payslips/small").status(3);
    platform.ok(&["bucket", "grant", "sr://payslips", &anna, "read"]);
    // Ciphertext alone opens nothing.
    cat("sr://payslips/small").status(4);
    platform.ok(&["key", "grant", "payroll", &anna]);
    for (name, size, seed) in [("small", 1_000, 1), ("large", 5 << 20, 2)] {
        let got = cat(&format!("sr://payslips/{name}")).status(0);
        assert!(got.stdout == bytes(size, seed), "{name}");
    }
    let put = |who: &str| as_other(&platform, who, &["put", "small", "sr://payslips/theirs"]);
    assert_ne!(put("anna").status, 0);
    platform.ok(&["bucket", "grant", "sr://payslips", &anna, "write"]);
    put("anna").status(0);

    // The right ends: new keys begin, what they wrote stays, they come no further.
    platform.ok(&["bucket", "revoke", "sr://payslips", &anna, "write"]);
    platform.ok(&["bucket", "revoke", "sr://payslips", &anna, "read"]);
    let revoked = platform
        .json(&["key", "revoke", "payroll", &anna])
        .remove(0);
    assert_eq!(revoked["buckets_with_new_keys"][0], "sr://payslips");
    assert_ne!(put("anna").status, 0);
    cat("sr://payslips/small").status(3);
    let theirs = platform.run(&["cat", "sr://payslips/theirs"]).status(0);
    assert!(theirs.stdout == bytes(1_000, 1));
    platform.ok(&["put", "small", "sr://payslips/after"]);
    let shown = platform
        .json(&["bucket", "show", "sr://payslips"])
        .remove(0);
    assert_eq!(shown["key_generation"], 3, "{shown}");
    let key_of = |name: &str| {
        let stat = platform.json(&["stat", name]).remove(0);
        stat["bucket_key_id"].as_str().unwrap().to_owned()
    };
    assert_ne!(key_of("sr://payslips/after"), key_of("sr://payslips/small"));
    let after = platform.run(&["cat", "sr://payslips/after"]).status(0);
    assert!(after.stdout == bytes(1_000, 1));
}

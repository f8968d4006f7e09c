//! Envelopes of named keys through real processes: data keys, new versions, several holders, streams, and encrypting where
//! nothing answers.

use data_encoding::BASE64;
use serde_json::Value;

use crate::harness::{Platform, bytes, write_file};
use crate::keys::{as_other, contains, other, started};
use crate::support::deployment;

fn file(platform: &Platform, name: &str) -> Vec<u8> {
    std::fs::read(platform.path(name)).unwrap()
}

fn base64(value: &Value) -> Vec<u8> {
    BASE64.decode(value.as_str().unwrap().as_bytes()).unwrap()
}

#[test]
fn an_envelope_follows_its_key_and_is_held_to_its_context() {
    let platform = started();
    platform.ok(&["key", "create", "payroll"]);
    let open = |name: &str| platform.run(&["decrypt", "-o", "-", name]);

    // A data key, in the open and enclosed.
    let made = platform
        .json(&["key", "datakey", "payroll", "--context", "purpose=backup"])
        .remove(0);
    let data_key = base64(&made["data_key"]);
    assert_eq!((data_key.len(), &made["version"]), (32, &Value::from(1)));
    let envelope = base64(&made["envelope"]);
    assert!(!contains(&envelope, &data_key));
    std::fs::write(platform.path("dk.sealed"), &envelope).unwrap();
    assert!(open("dk.sealed").status(0).stdout == data_key);
    let again = ["key", "datakey", "payroll", "--without-plaintext"];
    let again = platform.json(&again).remove(0);
    assert_eq!(again["data_key"], Value::Null);
    std::fs::write(platform.path("dk2.sealed"), base64(&again["envelope"])).unwrap();
    let fresh = open("dk2.sealed").status(0).stdout;
    assert!(fresh.len() == 32 && fresh != data_key);

    // The context that the reader expects, and the one that was sealed.
    let expecting = |context: &str| {
        let args = ["decrypt", "-o", "-", "--context", context, "dk.sealed"];
        platform.run(&args)
    };
    assert!(expecting("purpose=backup").status(0).stdout == data_key);
    let refused = expecting("purpose=restore").status(4);
    assert!(refused.stdout.is_empty());
    expecting("month=may").status(4).says("month");
    let at = envelope.windows(6).position(|part| part == b"backup");
    let mut other_context = envelope.clone();
    other_context[at.expect("the context is in the open")] ^= 1;
    std::fs::write(platform.path("changed.sealed"), &other_context).unwrap();
    let refused = open("changed.sealed");
    assert!(
        refused.status != 0 && refused.stdout.is_empty(),
        "{refused:?}"
    );

    // A context that the key's policy asks for.
    platform.ok(&["key", "create", "strict", "--require-context", "month"]);
    write_file(&platform.path("plain"), 3_000, 1);
    let seal = |context: &str, out: &str| {
        platform.run(&[
            "encrypt",
            "--key",
            "strict",
            "--context",
            context,
            "-o",
            out,
            "plain",
        ])
    };
    seal("month=may", "strict.sealed").status(0);
    assert!(open("strict.sealed").status(0).stdout == bytes(3_000, 1));
    let sealed = seal("year=2026", "loose.sealed");
    assert!(sealed.status != 0 || open("loose.sealed").status == 4);

    // The old version's envelope becomes the new one's; what is in it is shown to nobody.
    let content = write_file(&platform.path("note"), 70_000, 2);
    platform.ok(&["encrypt", "--key", "payroll", "note"]);
    let before = file(&platform, "note.sealed");
    std::fs::write(platform.path("copy.sealed"), &before).unwrap();
    platform.ok(&["key", "rotate", "payroll"]);
    assert!(open("note.sealed").status(0).stdout == content);
    let args = ["key", "rewrap", "--json", "note.sealed", "dk.sealed"];
    let rewrapped = platform.run(&args).status(0);
    for secret in [&content[..32], &data_key[..]] {
        assert!(!contains(&rewrapped.stdout, secret));
        assert!(!contains(rewrapped.stderr.as_bytes(), secret));
    }
    let reports = String::from_utf8(rewrapped.stdout).unwrap();
    assert_eq!(reports.lines().count(), 2, "{reports}");
    for line in reports.lines() {
        let report: Value = serde_json::from_str(line).unwrap();
        assert!(report["versions"].to_string().contains('2'), "{report}");
    }
    let after = file(&platform, "note.sealed");
    assert!(after != before);
    // The content itself was not touched.
    assert!(contains(&after, &before[before.len() - 60_000..]));
    platform.ok(&["key", "set-min-version", "payroll", "2"]);
    open("copy.sealed").status(4);
    assert!(open("note.sealed").status(0).stdout == content);
    assert!(open("dk.sealed").status(0).stdout == data_key);
    // Too late for the copy: nobody opens it any more, so nobody can wrap it anew.
    assert_ne!(platform.run(&["key", "rewrap", "copy.sealed"]).status, 0);
    assert!(file(&platform, "copy.sealed") == before);
    platform.ok(&["key", "set-min-version", "payroll", "1"]);

    // Many with one request.
    let names = ["a", "b", "c", "d"];
    for (seed, name) in (10..).zip(names) {
        write_file(&platform.path(name), 5_000, seed);
    }
    platform.ok(&["encrypt", "--key", "payroll", "a", "b", "c", "d"]);
    for name in names {
        std::fs::remove_file(platform.path(name)).unwrap();
    }
    platform.ok(&["decrypt", "a.sealed", "b.sealed", "c.sealed", "d.sealed"]);
    for (seed, name) in (10..).zip(names) {
        assert!(file(&platform, name) == bytes(5_000, seed), "{name}");
    }
    // One that is damaged does not hide the others.
    std::fs::write(platform.path("b.sealed"), b"nonsense").unwrap();
    for name in names {
        std::fs::remove_file(platform.path(name)).unwrap();
    }
    let all = ["decrypt", "a.sealed", "b.sealed", "c.sealed"];
    platform.run(&all).status(8).says("b.sealed");
    assert!(file(&platform, "a") == bytes(5_000, 10));
    assert!(file(&platform, "c") == bytes(5_000, 12));
    assert!(!platform.path("b").exists());

    // Protected from being retired, until it is not.
    let retire = ["key", "retire", "payroll", "--in", "1h"];
    platform.ok(&["key", "delete-protect", "payroll"]);
    assert_ne!(platform.run(&retire).status, 0);
    platform.ok(&["key", "retire", "payroll", "--version", "1", "--in", "2s"]);
    platform.wait_for("version 1 to retire", || open("copy.sealed").status == 4);
    assert!(open("note.sealed").status(0).stdout == content);
    platform.ok(&["key", "delete-protect", "payroll", "--off"]);
    platform.ok(&retire);
    platform.ok(&["key", "retire", "payroll", "--cancel"]);
    platform.ok(&["encrypt", "--key", "payroll", "--force", "note"]);
    platform.ok(&["key", "retire", "payroll", "--in", "2s"]);
    platform.wait_for("the key to retire", || open("note.sealed").status == 4);
    assert_ne!(
        platform
            .run(&["encrypt", "--key", "payroll", "-o", "late", "note"])
            .status,
        0
    );
}

#[test]
fn several_holders_open_a_stream_alone_and_a_public_key_needs_nobody() {
    let mut platform = started();
    platform.ok(&["key", "create", "payroll"]);
    let anna = other(&platform, "anna");
    platform.ok(&["key", "grant", "payroll", &anna]);
    let id = deployment(&platform).to_string();
    as_other(&platform, "bert", &["init", "--identity-only"]).status(0);
    let receiver = as_other(
        &platform,
        "bert",
        &["identity", "receiver-key", "--deployment", &id],
    )
    .status(0);
    std::fs::write(platform.path("bert.key"), &receiver.stdout).unwrap();
    std::fs::write(platform.path("word"), "a word between us\n").unwrap();
    platform.ok(&["key", "public-key", "payroll", "-o", "payroll.pub"]);

    // Standard input to standard output, several MiB, as text.
    let content = bytes(5 << 20, 3);
    let sealed = platform
        .run_with_input(
            &[
                "encrypt",
                "--armor",
                "--key",
                "payroll",
                "--recipient",
                "bert.key",
                "--passphrase=word",
                "--context",
                "month=may",
                "-o",
                "-",
                "-",
            ],
            &content,
        )
        .status(0)
        .stdout;
    assert!(sealed.is_ascii());
    std::fs::write(platform.path("all.sealed"), &sealed).unwrap();
    // The key's owner, and a grantee, through the custodians.
    let got = platform.run_with_input(&["decrypt", "-o", "-", "-"], &sealed);
    assert!(got.status(0).stdout == content);
    let decrypt = ["decrypt", "-o", "-", "all.sealed"];
    assert!(as_other(&platform, "anna", &decrypt).status(0).stdout == content);

    // Every process is down: the others need none of them, whoever only has the named key waits.
    platform.down();
    let with_word = ["decrypt", "--passphrase=word", "-o", "-", "all.sealed"];
    assert!(platform.run(&with_word).status(0).stdout == content);
    assert!(as_other(&platform, "bert", &decrypt).status(0).stdout == content);
    as_other(&platform, "anna", &decrypt).status(6);

    // Encrypting needs nobody either.
    let offline = write_file(&platform.path("offline"), 3 << 20, 4);
    platform.ok(&["encrypt", "--public-key", "payroll.pub", "offline"]);
    let small = platform
        .run_with_input(
            &["encrypt", "--public-key", "payroll.pub", "--armor"],
            b"a line of text",
        )
        .status(0)
        .stdout;
    // Another's key under that name is not taken.
    let mut forged = file(&platform, "payroll.pub");
    let middle = forged.len() / 2;
    forged[middle] ^= 1;
    std::fs::write(platform.path("forged.pub"), &forged).unwrap();
    let args = [
        "encrypt",
        "--public-key",
        "forged.pub",
        "-o",
        "x",
        "offline",
    ];
    assert_ne!(platform.run(&args).status, 0);
    assert!(!platform.path("x").exists());
    platform
        .run(&["decrypt", "-o", "-", "offline.sealed"])
        .status(6);

    platform.up();
    let mut got = Vec::new();
    platform.wait_for("the custodians", || {
        let ran = platform.run(&["decrypt", "-o", "-", "offline.sealed"]);
        let open = ran.status == 0;
        got = ran.stdout;
        open
    });
    assert!(got == offline);
    let got = platform.run_with_input(&["decrypt"], &small).status(0);
    assert!(got.stdout == b"a line of text");
    assert!(as_other(&platform, "anna", &decrypt).status(0).stdout == content);
    // Cut off in the middle: what was not checked is not believed.
    let cut = platform.run_with_input(&["decrypt", "-o", "-"], &sealed[..sealed.len() / 2]);
    assert_ne!(cut.status, 0);
}

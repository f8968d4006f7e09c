//! Named keys when something is killed or two do the same at once.

use std::process::Stdio;
use std::time::{Duration, Instant};

use http::Method;

use crate::harness::{Platform, bytes, write_file};
use crate::keys::started;
use crate::support::{Request, deployment, identity};

/// Seals a little under a key and opens it again.
fn works(platform: &Platform, key: &str) {
    let sealed = platform
        .run_with_input(&["encrypt", "--key", key], key.as_bytes())
        .status(0)
        .stdout;
    let opened = platform.run_with_input(&["decrypt"], &sealed).status(0);
    assert!(opened.stdout == key.as_bytes());
}

#[test]
fn a_key_whose_making_was_interrupted_is_whole_or_made_by_asking_again() {
    let platform = started();
    // How long it takes when nothing is in the way: what is killed, is killed within that time.
    let begun = Instant::now();
    platform.ok(&["key", "create", "first"]);
    let whole = begun.elapsed();
    let victims = ["client", "worker-1", "custodian-2", "validator", "gateway"];
    let moments = 3;
    let (mut interrupted, mut finished) = (0, 0);
    for (round, victim) in victims
        .iter()
        .cycle()
        .take(victims.len() * moments)
        .enumerate()
    {
        let name = format!("key-{round}");
        let part = u32::try_from(round / victims.len()).unwrap() + 1;
        let moment = whole * part / 4;
        let mut client = platform
            .command(&["key", "create", &name])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(moment);
        match *victim {
            "client" => client.kill().unwrap(),
            process => platform.kill_process(process),
        }
        let ended = client.wait().unwrap();
        let at = format!("{victim} after {moment:?}");
        if ended.success() {
            finished += 1;
        } else {
            interrupted += 1;
        }
        // Nothing half visible: who may seal under it can have it opened. A killed process may take a moment.
        platform.wait_for(&format!("the ledger and the gateway, {at}"), || {
            platform.run(&["ledger", "status"]).status == 0
        });
        let sealed = platform.run_with_input(&["encrypt", "--key", &name], b"early");
        if sealed.status == 0 {
            platform.wait_for(&format!("what was sealed early to open, {at}"), || {
                platform.run_with_input(&["decrypt"], &sealed.stdout).status == 0
            });
        } else {
            assert!(!ended.success(), "{at}: made, but {sealed:?}");
        }
        platform.wait_for(&format!("the key to be made, {at}"), || {
            let again = platform.run(&["key", "create", &name]);
            // It was whole.
            again.status == 0 || (again.status == 7 && sealed.status == 0)
        });
        let mut shown = platform.json(&["key", "show", &name]).remove(0);
        assert_eq!(shown["name"], name.as_str(), "{shown}");
        shown = shown["version"].take();
        assert_eq!(shown, 1, "{at}: {shown}");
        works(&platform, &name);
    }
    assert!(interrupted > 0, "nothing was interrupted: {finished}");
    assert_eq!(
        platform.json(&["key", "ls"]).len(),
        1 + victims.len() * moments
    );
}

#[test]
fn two_rotations_at_once_are_ordered_and_objects_stay_readable() {
    let platform = started();
    platform.ok(&["key", "create", "payroll"]);
    platform.ok(&["mb", "--key", "payroll", "sr://payslips"]);
    write_file(&platform.path("large"), 2 << 20, 1);
    platform.ok(&["put", "large", "sr://payslips/before"]);
    let sealed = platform
        .run_with_input(&["encrypt", "--key", "payroll"], b"version 1")
        .status(0)
        .stdout;

    let begin = || {
        platform
            .command(&["key", "rotate", "payroll", "--json"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    };
    let (one, two) = (begin(), begin());
    let ended = [one, two].map(|child| child.wait_with_output().unwrap());
    let won: Vec<u64> = ended
        .iter()
        .filter(|output| output.status.success())
        .map(|output| {
            let shown: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
            shown["version"].as_u64().unwrap()
        })
        .collect();
    let said: Vec<_> = ended
        .iter()
        .map(|output| String::from_utf8_lossy(&output.stderr).into_owned())
        .collect();
    // Both may have made the same version together, or one after the other; never two versions of one number.
    assert!(!won.is_empty(), "{said:?}");
    let shown = platform.json(&["key", "show", "payroll"]).remove(0);
    let current = shown["version"].as_u64().unwrap();
    assert_eq!(Some(&current), won.iter().max(), "{shown} {said:?}");
    assert!((2..=3).contains(&current), "{shown}");
    works(&platform, "payroll");

    platform.ok(&["key", "rotate", "payroll"]);
    let opened = platform.run_with_input(&["decrypt"], &sealed).status(0);
    assert!(opened.stdout == b"version 1");
    platform.ok(&["put", "large", "sr://payslips/after"]);
    for name in ["sr://payslips/before", "sr://payslips/after"] {
        let got = platform.run(&["cat", name]).status(0);
        assert!(got.stdout == bytes(2 << 20, 1), "{name}");
        let stat = platform.json(&["stat", name]).remove(0);
        let wraps = stat["wraps"].as_array().unwrap();
        assert!(!wraps.is_empty(), "{stat}");
        assert!(
            wraps
                .iter()
                .all(|wrap| wrap.to_string().contains("named-key")),
            "{stat}"
        );
    }
}

#[test]
fn without_the_ledger_nothing_is_opened_and_sealing_goes_on() {
    let platform = started();
    platform.ok(&["key", "create", "payroll"]);
    platform.ok(&["key", "public-key", "payroll", "-o", "payroll.pub"]);
    let sealed = platform
        .run_with_input(&["encrypt", "--key", "payroll"], b"before")
        .status(0)
        .stdout;
    let (me, deployment) = (identity(&platform), deployment(&platform));
    let custody = || {
        Request::new(&platform, Method::GET, "/v1/custody")
            .signed(&me, deployment)
            .send(&platform)
    };
    platform.hold("validator");
    // Longer than custodians believe what the ledger last said.
    std::thread::sleep(Duration::from_secs(25));
    custody().problem(503, "unavailable");
    let refused = platform.run_with_input(&["decrypt"], &sealed).status(6);
    assert!(refused.stdout.is_empty());
    let late = platform
        .run_with_input(&["encrypt", "--public-key", "payroll.pub"], b"meanwhile")
        .status(0)
        .stdout;
    platform.release("validator");
    for (sealed, content) in [(&sealed, &b"before"[..]), (&late, b"meanwhile")] {
        platform.wait_for("the custodians to believe the ledger again", || {
            let opened = platform.run_with_input(&["decrypt"], sealed);
            opened.status == 0 && opened.stdout == content
        });
    }
    platform.ok(&["audit", "verify", "--key", "payroll"]);
}

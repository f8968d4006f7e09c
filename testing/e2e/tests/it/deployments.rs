//! Deployments that earlier builds made: data folder, identity and local state still open, and take new objects.

use std::path::Path;

use crate::harness::{Options, Platform};

/// The numbers from 1, one a line: what `testing/make-deployment.sh` put.
fn numbers(last: u32) -> Vec<u8> {
    (1..=last)
        .fold(String::new(), |text, n| text + &n.to_string() + "\n")
        .into_bytes()
}

fn opens(archive: &Path) {
    let mut platform = Platform::unpacked(archive, Options::default());
    platform.up();
    platform.wait_for_nodes_online(14);
    // A deployment from before there were ledgers has one now, and its clients pin it.
    let ledger = platform.json(&["ledger", "status"]).remove(0);
    assert_eq!(ledger["development"], true);
    let cat = |platform: &Platform, address: &str| platform.run(&["cat", address]).status(0).stdout;
    assert_eq!(cat(&platform, "sr://photos/copy"), numbers(100));
    assert_eq!(cat(&platform, "sr://photos/Größe/chunked"), numbers(50_000));
    let gone = platform.run(&["cat", "sr://photos/small"]);
    assert_ne!(gone.status, 0, "a deleted object came back");
    platform.ok(&["verify", "-r", "sr://photos"]);

    // Any 4 nodes may go, of what an earlier build wrote too.
    platform.hold_nodes(&[1, 4, 9, 13]);
    assert_eq!(cat(&platform, "sr://photos/Größe/chunked"), numbers(50_000));
    platform.release_nodes(&[1, 4, 9, 13]);
    platform.wait_for_nodes_online(14);

    platform
        .run_with_input(&["put", "-", "sr://photos/new"], &numbers(90_000))
        .status(0);
    platform.down();
    platform.up();
    assert_eq!(cat(&platform, "sr://photos/new"), numbers(90_000));
}

#[test]
fn deployments_of_earlier_builds_open() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../test-data/deployments");
    let mut archives: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    archives.sort();
    assert!(!archives.is_empty(), "the fixtures are missing");
    for archive in archives {
        println!("{}", archive.display());
        opens(&archive);
    }
}

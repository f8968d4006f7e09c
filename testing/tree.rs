//! What an enclave may link: one rule for the tests of every crate that is part of one. They include this file.

use std::process::Command;

/// HTTP, databases, consensus, other stacks of primitives, and this workspace's own roles: none of them has a place in an enclave.
const BANNED: [&str; 29] = [
    "hyper",
    "hyper-util",
    "axum",
    "tonic",
    "h2",
    "http",
    "http-body",
    "tower",
    "reqwest",
    "sqlx",
    "sqlx-core",
    "rusqlite",
    "libsqlite3-sys",
    "s3s",
    "openraft",
    "raft",
    "malachitebft-core-consensus",
    "libp2p",
    "prost-build",
    "rcgen",
    "x509-parser",
    "openssl",
    "ring",
    "solo",
    "validator",
    "transport",
    "database",
    "wire",
    "shards",
];

/// Checks what `package` links: nothing that is banned, and what is `needed`, so that the tree is known to be read rightly.
pub fn check(package: &str, needed: &[&str]) {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--package", package])
        .args(["--edges", "normal", "--prefix", "none"])
        .args(["--offline", "--locked"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let tree = String::from_utf8(output.stdout).unwrap();
    let names: Vec<&str> = tree
        .lines()
        .filter_map(|line| line.split(' ').next())
        .collect();
    for needed in needed {
        assert!(
            names.contains(needed),
            "{needed} is not in the tree: this test reads it wrongly"
        );
    }
    for banned in BANNED {
        assert!(
            !names.contains(&banned),
            "{banned} is linked into {package}, which is part of enclaves"
        );
    }
}

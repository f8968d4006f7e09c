//! What this program may link: it is an enclave.

use std::process::Command;

/// HTTP, databases, consensus, other stacks of primitives: none of them has a place in an enclave.
const BANNED: [&str; 22] = [
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
    "s3s",
    "openraft",
    "raft",
    "malachitebft-core-consensus",
    "libp2p",
    "rcgen",
    "x509-parser",
    "openssl",
    "ring",
    "solo",
];

#[test]
fn no_http_stack_database_or_consensus_is_linked() {
    let output = Command::new(env!("CARGO"))
        .args([
            "tree",
            "--package",
            "custodian",
            "--edges",
            "normal",
            "--prefix",
            "none",
            "--offline",
            "--locked",
        ])
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
    for needed in ["custody", "attested", "sealing", "relay", "rustls", "tokio"] {
        assert!(
            names.contains(&needed),
            "{needed} is not in the tree: this test reads it wrongly"
        );
    }
    for banned in BANNED {
        assert!(
            !names.contains(&banned),
            "{banned} is linked into custodians"
        );
    }
}

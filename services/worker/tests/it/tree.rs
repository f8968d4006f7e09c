//! What this program may link: it is an enclave.

use std::process::Command;

#[test]
fn no_http_consensus_or_database_is_linked() {
    let output = Command::new(env!("CARGO"))
        .args([
            "tree",
            "--package",
            "worker",
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
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let tree = String::from_utf8(output.stdout).unwrap();
    let names: Vec<&str> = tree
        .lines()
        .filter_map(|line| line.split(' ').next())
        .collect();
    for needed in ["rustls", "custody", "threshold", "relay", "sealing"] {
        assert!(
            names.contains(&needed),
            "{needed} is not in the tree: this test reads it wrongly"
        );
    }
    for banned in [
        "hyper",
        "axum",
        "tonic",
        "h2",
        "http",
        "reqwest",
        "sqlx",
        "sqlx-core",
        "rusqlite",
        "libsqlite3-sys",
        "s3s",
        "solo",
        "validator",
        "transport",
        "database",
        "wire",
        "shards",
        "rcgen",
        "x509-parser",
        "openssl",
        "ring",
    ] {
        assert!(
            !names.contains(&banned),
            "{banned} is linked into the worker"
        );
    }
}

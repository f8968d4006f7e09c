//! What this crate may link: it is part of every enclave.

use std::process::Command;

#[test]
fn no_http_stack_or_database_is_linked() {
    let output = Command::new(env!("CARGO"))
        .args([
            "tree",
            "--package",
            "enclave_client",
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
    for needed in ["rustls", "tokio", "attested", "enclave_wire"] {
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
        "sqlx",
        "sqlx-core",
        "s3s",
        "reqwest",
        "rcgen",
        "prost-build",
        "rusqlite",
        "x509-parser",
        "openssl",
        "ring",
    ] {
        assert!(!names.contains(&banned), "{banned} is linked into enclaves");
    }
}

//! The platform with its metadata in a PostgreSQL server of its own.

use std::path::PathBuf;
use std::process::Command;

use crate::harness::{Options, Platform, write_file};

/// A throw-away server, stopped with the test.
struct Server {
    dir: tempfile::TempDir,
    url: String,
}

fn script() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../postgres.sh"))
}

impl Server {
    /// `None` where PostgreSQL is not installed and nothing demands it.
    fn start() -> Option<Self> {
        let dir = tempfile::Builder::new()
            .prefix("sr-pg-")
            .tempdir_in("/tmp")
            .unwrap();
        let output = Command::new(script())
            .arg("start")
            .arg(dir.path())
            .output()
            .unwrap();
        if !output.status.success() {
            assert!(
                std::env::var_os("STRONGROOM_REQUIRE_POSTGRES").is_none(),
                "{}",
                String::from_utf8_lossy(&output.stderr)
            );
            return None;
        }
        let url = String::from_utf8(output.stdout).unwrap().trim().to_owned();
        Some(Self { dir, url })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let stopped = Command::new(script())
            .arg("stop")
            .arg(self.dir.path())
            .status();
        if !stopped.is_ok_and(|status| status.success()) {
            eprintln!(
                "the PostgreSQL server in {} may still run",
                self.dir.path().display()
            );
        }
    }
}

#[test]
fn metadata_in_postgresql_serves_through_kills_and_restarts() {
    let Some(server) = Server::start() else {
        return;
    };
    let mut platform = Platform::start_with(Options {
        args: vec!["--database".to_owned(), server.url.clone()],
        ..Options::default()
    });
    let large = write_file(&platform.path("large"), 5 << 20, 2);
    platform.ok(&["mb", "sr://files"]);
    platform
        .run_with_input(&["put", "-", "sr://files/small"], b"a few bytes")
        .status(0);
    platform.ok(&["put", "--wait-placed", "large", "sr://files/large"]);

    platform.kill_process("gateway");
    platform.wait_for("the gateway to come back", || {
        platform.run(&["admin", "status"]).status == 0
    });
    platform.wait_for_nodes_online(14);
    platform.hold_nodes(&[2, 5, 8, 11]);
    assert!(platform.run(&["cat", "sr://files/large"]).status(0).stdout == large);
    platform.release_nodes(&[2, 5, 8, 11]);

    platform.down();
    platform.up();
    assert_eq!(
        platform.run(&["cat", "sr://files/small"]).status(0).stdout,
        b"a few bytes"
    );
    platform.ok(&["rm", "sr://files/small"]);
    let left = platform.ok(&["ls", "sr://files"]);
    assert!(left.contains("sr://files/large"), "{left}");
    assert!(!left.contains("sr://files/small"), "{left}");
    assert!(
        !platform.data().join("gateway/metadata.sqlite").exists(),
        "the metadata went into SQLite"
    );
}

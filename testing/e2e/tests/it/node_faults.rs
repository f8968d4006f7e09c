//! Nodes that die, hang, lie and lose their disk.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::harness::{Options, Platform, write_file};

/// What a command may take when nodes hang: far more than it should, far less than for ever.
const BOUND: Duration = Duration::from_secs(45);

fn stored(platform: &Platform, size: usize) -> Vec<u8> {
    platform.ok(&["mb", "sr://files"]);
    let content = write_file(&platform.path("large"), size, 11);
    platform.ok(&["put", "--wait-placed", "large", "sr://files/large"]);
    content
}

fn comes_back(platform: &Platform, content: &[u8]) {
    let got = platform.run(&["cat", "sr://files/large"]).status(0);
    assert!(got.stdout == content, "it came back different");
}

#[test]
fn four_nodes_die_while_a_get_runs_and_it_succeeds() {
    let platform = Platform::start_with(Options {
        args: vec!["--tls-nodes".into(), "--node-port=0".into()],
        ..Options::default()
    });
    let content = stored(&platform, 48 << 20);
    let before = platform.metric("strongroom_bytes_downloaded_total");
    let get = platform
        .command(&[
            "get",
            "--bandwidth-limit",
            "12MiB",
            "sr://files/large",
            "back",
        ])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    platform.wait_for("the get to be under way", || {
        platform.metric("strongroom_bytes_downloaded_total") - before > f64::from(4 << 20)
    });
    platform.hold_nodes(&[1, 4, 8, 12]);
    assert!(
        !platform.path("back").exists(),
        "the get ended before the nodes did, or wrote under the final name"
    );
    let got = get.wait_with_output().unwrap();
    assert!(
        got.status.success(),
        "{}",
        String::from_utf8_lossy(&got.stderr)
    );
    assert!(
        std::fs::read(platform.path("back")).unwrap() == content,
        "it came back different"
    );
}

#[test]
fn five_nodes_less_are_a_clear_refusal_and_nothing_is_written() {
    let platform = Platform::start();
    let content = stored(&platform, 9 << 20);
    let lost = [0, 3, 6, 9, 13];
    platform.hold_nodes(&lost);
    let refused = platform
        .run(&["get", "--json", "sr://files/large", "back"])
        .status(6);
    assert!(refused.stdout.is_empty(), "{refused:#?}");
    let failure: serde_json::Value =
        serde_json::from_str(refused.stderr.lines().next().unwrap()).unwrap();
    let failure = failure.get("error").unwrap_or(&failure);
    assert_eq!(failure["code"], "not_enough_shards", "{refused:#?}");
    let sentence = failure["message"].as_str().unwrap();
    assert!(
        sentence.contains("chunk") && sentence.contains('9') && sentence.contains("10"),
        "names the chunk and both counts: {sentence}"
    );
    assert!(
        !platform.path("back").exists(),
        "something was written under the final name"
    );
    platform.run(&["cat", "sr://files/large"]).status(6);
    platform.run(&["verify", "sr://files/large"]).status(6);
    platform
        .run(&["put", "large", "sr://files/late"])
        .status(6)
        .says("node");
    platform.run(&["stat", "sr://files/late"]).status(3);
    // One that returns suffices to read, all to write.
    platform.release_nodes(&lost[..1]);
    platform.wait_for("ten nodes", || {
        platform.run(&["cat", "sr://files/large"]).status == 0
    });
    comes_back(&platform, &content);
    platform.release_nodes(&lost[1..]);
    platform.wait_for_nodes_online(14);
    platform.ok(&["put", "large", "sr://files/late"]);
    platform.ok(&["get", "sr://files/large", "back"]);
    assert!(
        std::fs::read(platform.path("back")).unwrap() == content,
        "it came back different"
    );
}

/// Flips a bit every few thousand bytes in all that a node stores.
fn corrupt(dir: &Path) -> usize {
    let mut flipped = 0;
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            flipped += corrupt(&path);
            continue;
        }
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(&path)
            .unwrap();
        let size = file.metadata().unwrap().len();
        let mut at = 3_001;
        while at < size {
            let mut byte = [0];
            file.read_exact_at(&mut byte, at).unwrap();
            // What is preallocated is zero: only what was written is touched.
            if byte[0] != 0 {
                file.write_all_at(&[byte[0] ^ 0x10], at).unwrap();
                flipped += 1;
            }
            at += 5_003;
        }
    }
    flipped
}

fn corrupt_shards_are_found_and_repaired(stopped_meanwhile: bool) {
    let platform = Platform::start();
    let content = stored(&platform, 20 << 20);
    let small = write_file(&platform.path("small"), 30_000, 5);
    platform.ok(&["put", "--wait-placed", "small", "sr://files/small"]);
    let lying = [2, 7, 10];
    if stopped_meanwhile {
        platform.hold_nodes(&lying);
    }
    for node in lying {
        assert!(corrupt(&platform.node_dir(node).join("data")) > 100);
    }
    if stopped_meanwhile {
        platform.release_nodes(&lying);
        platform.wait_for_nodes_online(14);
    }
    for _ in 0..3 {
        comes_back(&platform, &content);
    }
    for _ in 0..8 {
        let got = platform.run(&["cat", "sr://files/small"]).status(0);
        assert!(got.stdout == small, "a small object came back different");
    }
    platform.ok(&["verify", "-r", "sr://files"]);
    let repaired = || platform.metric("strongroom_repair_total");
    platform.wait_until_placed();
    // Two of three lying nodes hold a shard of every chunk at least; what a restart drops is found missing.
    assert!(repaired() >= 10.0, "{} shards were repaired", repaired());
    if !stopped_meanwhile {
        let found = platform.metric("strongroom_corrupt_shards");
        assert!(found >= 10.0, "{found} corrupt shards were found");
    }
    // What was repaired is right: it must be, when four others are away.
    platform.hold_nodes(&[0, 1, 5, 13]);
    comes_back(&platform, &content);
    platform.release_nodes(&[0, 1, 5, 13]);
    platform.wait_for_nodes_online(14);
    let before = repaired();
    platform.ok(&["verify", "-r", "sr://files"]);
    platform.wait_until_placed();
    assert_eq!(repaired(), before, "a second look finds nothing more");
}

#[test]
fn shards_that_rot_under_a_running_node_never_reach_a_client() {
    corrupt_shards_are_found_and_repaired(false);
}

#[test]
fn shards_that_rot_under_a_stopped_node_never_reach_a_client() {
    corrupt_shards_are_found_and_repaired(true);
}

#[test]
fn nodes_that_hang_hold_nobody_up() {
    let platform = Platform::start();
    let content = stored(&platform, 20 << 20);
    let hanging = [2, 11];
    for node in hanging {
        platform.stop_node(node);
    }
    let timed = |what: &str, run: &dyn Fn()| {
        let started = Instant::now();
        run();
        assert!(
            started.elapsed() < BOUND,
            "{what} took {:?}",
            started.elapsed()
        );
    };
    // At once, while the gateway still believes in them.
    timed("a get", &|| comes_back(&platform, &content));
    timed("a put", &|| {
        drop(platform.ok(&["put", "large", "sr://files/meanwhile"]))
    });
    timed("a small put", &|| {
        platform
            .run_with_input(&["put", "-", "sr://files/small"], b"small")
            .status(0);
    });
    timed("a second get", &|| {
        drop(platform.ok(&["get", "sr://files/meanwhile", "back"]))
    });
    assert!(
        std::fs::read(platform.path("back")).unwrap() == content,
        "it came back different"
    );
    let stat = platform.json(&["stat", "sr://files/meanwhile"]).remove(0);
    assert_eq!(stat["fully_placed"], false, "{stat:#}");
    for node in hanging {
        platform.resume_node(node);
    }
    platform.wait_for_nodes_online(14);
    platform.wait_until_placed();
    let stat = platform.json(&["stat", "sr://files/meanwhile"]).remove(0);
    assert_eq!(stat["fully_placed"], true, "{stat:#}");
    assert_eq!(stat["pending_shards"], 0, "{stat:#}");
    platform.hold_nodes(&[0, 5, 6, 7]);
    assert!(
        platform
            .run(&["cat", "sr://files/meanwhile"])
            .status(0)
            .stdout
            == content,
        "it came back different"
    );
}

#[test]
fn a_node_that_lost_its_disk_is_filled_again() {
    let platform = Platform::start();
    let content = stored(&platform, 20 << 20);
    let shards = |node: usize| {
        let nodes = platform.json(&["admin", "nodes"]).remove(0);
        nodes["nodes"][node]["shards"].as_u64()
    };
    // The last chunk is small, and kept as copies on 5 of the nodes.
    let stat = platform.json(&["stat", "sr://files/large"]).remove(0);
    let nodes = stat["nodes"].as_array().unwrap();
    let own = nodes.iter().find(|node| node["slot"] == 6).unwrap()["shards"]
        .as_u64()
        .unwrap();
    // The gateway's view of a node is as old as its last probe.
    platform.wait_for("the node's shards to be counted", || shards(6) >= Some(own));
    platform.hold_nodes(&[6]);
    for part in ["data", "metadata", "temp"] {
        let dir = platform.node_dir(6).join(part);
        if dir.exists() {
            std::fs::remove_dir_all(&dir).unwrap();
            std::fs::create_dir(&dir).unwrap();
        }
    }
    platform.release_nodes(&[6]);
    platform.wait_for_nodes_online(14);
    platform.wait_for("the node to be seen empty", || shards(6) == Some(0));
    comes_back(&platform, &content);
    // A full check asks every node, not only those that a read needs.
    platform.ok(&["verify", "sr://files/large"]);
    platform.wait_until_placed();
    platform.wait_for("the object's shards to be back", || shards(6) >= Some(own));
    platform.hold_nodes(&[0, 1, 2, 3]);
    comes_back(&platform, &content);
}

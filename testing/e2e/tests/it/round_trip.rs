//! The main job: put a file in, lose 4 of 14 nodes, read it back bit for bit.

use crate::harness::{Options, Platform, bytes, write_file};

const SIZES: [usize; 9] = [
    0,
    1,
    65_519,
    65_520,
    65_521,
    262_144,
    262_145,
    4 << 20,
    (9 << 20) + 4_711,
];

fn round_trip(platform: &Platform) {
    platform.ok(&["mb", "sr://files"]);
    let folder = platform.path("in");
    std::fs::create_dir(&folder).unwrap();
    for (i, size) in SIZES.iter().enumerate() {
        write_file(
            &folder.join(format!("{size}.bin")),
            *size,
            u64::try_from(i).unwrap() + 1,
        );
    }
    platform.ok(&["put", "-r", "in/", "sr://files/a/"]);
    platform.wait_until_placed();
    platform.hold_nodes(&[0, 5, 9, 13]);
    platform.ok(&["get", "-r", "sr://files/a/", "out"]);
    for (i, size) in SIZES.iter().enumerate() {
        let back = std::fs::read(platform.path(&format!("out/{size}.bin"))).unwrap();
        assert!(
            back == bytes(*size, u64::try_from(i).unwrap() + 1),
            "{size} bytes came back different"
        );
    }
    let verified = platform.json(&["verify", "-r", "sr://files"]);
    assert_eq!(verified.len(), SIZES.len());
    // Ten nodes are not enough to write: refused, with nothing visible.
    let refused = platform
        .run(&["put", "in/4194304.bin", "sr://files/late"])
        .status(6);
    assert!(refused.stderr.contains("node"), "{refused:#?}");
    platform.run(&["stat", "sr://files/late"]).status(3);
    platform.release_nodes(&[0, 5, 9, 13]);
    platform.wait_for_nodes_online(14);
    platform.ok(&["put", "in/4194304.bin", "sr://files/late"]);
}

#[test]
fn four_nodes_are_killed_and_everything_comes_back() {
    round_trip(&Platform::start());
}

#[test]
fn the_same_over_mutual_tls() {
    let args = ["--tls-nodes", "--node-port", "0"]
        .map(str::to_owned)
        .to_vec();
    round_trip(&Platform::start_with(Options {
        args,
        ..Options::default()
    }));
}

#[test]
fn everything_is_there_after_a_restart_and_after_a_kill() {
    let mut platform = Platform::start();
    platform.ok(&["mb", "sr://files"]);
    let small = write_file(&platform.path("small"), 1_000, 1);
    let large = write_file(&platform.path("large"), 5 << 20, 2);
    platform.ok(&["put", "small", "large", "sr://files"]);
    let check = |platform: &Platform| {
        let cat = |key: &str| platform.run(&["cat", key]).status(0).stdout;
        assert!(cat("sr://files/small") == small && cat("sr://files/large") == large);
    };
    platform.down();
    platform.up();
    check(&platform);
    let children = platform.pids();
    platform.kill();
    for (name, pid) in children {
        let alive = || {
            // A zombie that nobody reaped yet does not run any more.
            std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| {
                !stat
                    .rsplit_once(')')
                    .unwrap()
                    .1
                    .trim_start()
                    .starts_with('Z')
            })
        };
        platform.wait_for(&format!("{name} to end with its supervisor"), || !alive());
    }
    platform.up();
    check(&platform);
}

#[test]
fn a_process_that_dies_is_started_again() {
    let platform = Platform::start();
    for name in ["gateway", "node-07"] {
        let before = platform.pid(name);
        platform.kill_process(name);
        platform.wait_for(&format!("{name} to be back"), || {
            let processes = platform.processes();
            let children = processes["children"].as_array().unwrap();
            let child = children.iter().find(|child| child["name"] == name).unwrap();
            child["state"] == "ready"
                && child["pid"].as_u64() != Some(u64::from(before))
                && child["restarts"] == 1
        });
    }
    platform.wait_for_nodes_online(14);
}

#[test]
fn streams_pass_through_standard_input_and_output() {
    let platform = Platform::start();
    platform.ok(&["mb", "sr://files"]);
    let content = bytes(6 << 20, 7);
    platform
        .run_with_input(&["put", "-", "sr://files/stream"], &content)
        .status(0);
    assert!(
        platform
            .run(&["get", "sr://files/stream", "-"])
            .status(0)
            .stdout
            == content
    );
    let part = platform
        .run(&["cat", "--range", "70000-140000", "sr://files/stream"])
        .status(0)
        .stdout;
    assert!(part == content[70_000..=140_000]);
}

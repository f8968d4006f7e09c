//! What is given up is given back: uploads that nobody continues, versions that were replaced, puts whose client left.

use std::io::Write as _;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::Method;

use crate::harness::{Options, Platform, bytes, write_file};
use crate::support::{Request, deployment, dial, held, held_at_rest, identity};

fn platform(args: &[&str]) -> Platform {
    let platform = Platform::start_with(Options {
        args: args.iter().map(|arg| (*arg).to_owned()).collect(),
        ..Options::default()
    });
    platform.ok(&["mb", "sr://files"]);
    platform
        .run_with_input(&["put", "--wait-placed", "-", "sr://files/first"], b"first")
        .status(0);
    platform
}

#[test]
fn an_upload_that_nobody_continues_is_undone() {
    let platform = platform(&["--upload-lifetime=30s", "--deletion-grace=1s"]);
    let baseline = held_at_rest(&platform);
    write_file(&platform.path("large"), 64 << 20, 31);
    let mut put = platform
        .command(&[
            "put",
            "--bandwidth-limit",
            "12MiB",
            "large",
            "sr://files/large",
        ])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    platform.wait_for("some chunks to be there", || {
        held(&platform).chunks > baseline.chunks + 2
    });
    put.kill().unwrap();
    put.wait().unwrap();
    let idle_since = Instant::now();
    assert_eq!(held(&platform).uploads, 1);
    platform.wait_for("the upload to be undone", || held(&platform).uploads == 0);
    assert!(
        idle_since.elapsed() > Duration::from_secs(19),
        "{:?}: it was given up too early",
        idle_since.elapsed()
    );
    platform.wait_for("its space to come back", || {
        let now = held(&platform);
        (now.chunks, now.deletions, now.shards) == (baseline.chunks, 0, baseline.shards)
    });
    // The same command begins anew.
    platform.ok(&["put", "large", "sr://files/large"]);
    platform.ok(&["verify", "sr://files/large"]);
}

#[test]
fn a_replaced_object_is_readable_by_version_until_its_grace_is_over() {
    let platform = platform(&["--deletion-grace=5s"]);
    let (me, deployment) = (identity(&platform), deployment(&platform));
    write_file(&platform.path("old"), 5 << 20, 32);
    platform.ok(&["put", "old", "sr://files/it"]);
    let stat = platform.json(&["stat", "sr://files/it"]).remove(0);
    let version = stat["version"].as_str().unwrap().to_owned();
    let read = |what: &str| {
        let target = format!("/v1/versions/{version}{what}");
        Request::new(&platform, Method::GET, &target)
            .signed(&me, deployment)
            .send(&platform)
    };
    assert_eq!(read("/chunks/1").status, 200);
    platform
        .run_with_input(&["put", "-", "sr://files/it"], b"new")
        .status(0);
    // Whoever had begun reads on.
    let replaced = Instant::now();
    assert_eq!((read("").status, read("/chunks/0").status), (200, 200));
    assert!(
        replaced.elapsed() < Duration::from_secs(4),
        "too slow to tell anything"
    );
    platform.wait_for("the grace to be over", || read("/chunks/1").status == 404);
    assert!(replaced.elapsed() > Duration::from_secs(4));
    assert_eq!(platform.ok(&["cat", "sr://files/it"]), "new");
}

#[test]
fn clients_that_leave_in_the_middle_of_small_puts_leave_nothing_for_good() {
    let platform = platform(&["--deletion-grace=1s"]);
    platform.wait_for("everything to rest", || held(&platform).deletions == 0);
    let baseline = held_at_rest(&platform);
    // Real puts of the program, cut at every stage.
    let mut children = Vec::new();
    for n in 0..40_u64 {
        let mut child = platform
            .command(&["put", "-", &format!("sr://files/cut/{n}")])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        child
            .stdin
            .take()
            .unwrap()
            .write_all(&bytes(100_000, n))
            .unwrap();
        std::thread::sleep(Duration::from_millis(n * 5 % 120));
        child.kill().unwrap();
        children.push(child);
    }
    for mut child in children {
        child.wait().unwrap();
    }
    // And requests that break off after the body.
    let me = Arc::new(identity(&platform));
    let deployment = deployment(&platform);
    for _ in 0..5 {
        let request = Request::new(&platform, Method::POST, "/v1/buckets/files/tombstones")
            .body(&bytes(300, 1))
            .signed(&me, deployment);
        let mut stream = dial(&platform);
        stream.write_all(&request.head_bytes(300)).unwrap();
        drop(stream);
    }
    // Those that the gateway was still at settle first.
    std::thread::sleep(Duration::from_secs(2));
    let listed = platform.json(&["ls", "-r", "sr://files/cut/"]).len();
    if listed > 0 {
        platform.ok(&["rm", "-r", "sr://files/cut/"]);
    }
    // A removed object leaves its tombstone, which has a recovery record in five copies.
    let tombstones = 5 * u64::try_from(listed).unwrap();
    // Without a restart: what was neither committed nor refused goes after a minute.
    let begun = Instant::now();
    loop {
        let now = held(&platform);
        if (now.objects, now.deletions, now.chunks) == (1, 0, baseline.chunks)
            && now.shards == baseline.shards + tombstones
        {
            return;
        }
        assert!(
            begun.elapsed() < Duration::from_secs(120),
            "{now:?} against {baseline:?} and {listed} removed"
        );
        std::thread::sleep(Duration::from_secs(1));
    }
}

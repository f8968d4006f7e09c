//! The gateway dies in the middle of puts: what was acknowledged is there, nothing is half there, no space leaks.

use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use client::PutOptions;

use crate::harness::{Platform, bytes, write_file};
use crate::support::{Held, bucket, connect, held, identity, key, runtime};

/// A put that takes long enough to be hit in the middle, and has begun.
fn slow_put(platform: &Platform) -> Child {
    let before = platform.metric("strongroom_bytes_uploaded_total");
    let mut command: Command = platform.command(&[
        "put",
        "--bandwidth-limit",
        "12MiB",
        "large",
        "sr://files/large",
    ]);
    let put = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    platform.wait_for("the put to be under way", || {
        platform.metric("strongroom_bytes_uploaded_total") - before > f64::from(8 << 20)
    });
    put
}

fn restarted(platform: &Platform, before: u32) {
    platform.wait_for("the gateway to be back", || {
        let processes = platform.processes();
        let children = processes["children"].as_array().unwrap();
        let gateway = children
            .iter()
            .find(|child| child["name"] == "gateway")
            .unwrap();
        gateway["state"] == "ready" && gateway["pid"].as_u64() != Some(u64::from(before))
    });
    platform.wait_for_nodes_online(14);
}

/// A platform with one object, so that the bucket's key and all records of a first use are there.
fn with_an_object() -> (Platform, Held) {
    let platform = Platform::start();
    platform.ok(&["mb", "sr://files"]);
    platform
        .run_with_input(&["put", "--wait-placed", "-", "sr://files/first"], b"first")
        .status(0);
    let baseline = settled(&platform, 1);
    (platform, baseline)
}

/// Waits until nothing is under way, and says what is held then.
fn settled(platform: &Platform, objects: u64) -> Held {
    platform.wait_until_placed();
    let mut last = None;
    platform.wait_for("deletions to drain", || {
        let now = held(platform);
        let rests =
            (now.objects, now.uploads, now.deletions) == (objects, 0, 0) && last == Some(now);
        last = Some(now);
        if !rests {
            // The nodes' counts come with the next probe.
            std::thread::sleep(Duration::from_millis(600));
        }
        rests
    });
    last.unwrap()
}

#[test]
fn a_put_survives_a_gateway_that_dies_in_the_middle() {
    let (platform, _) = with_an_object();
    let content = write_file(&platform.path("large"), 64 << 20, 21);
    let put = slow_put(&platform);
    platform.run(&["stat", "sr://files/large"]).status(3);
    let gateway = platform.pid("gateway");
    platform.kill_process("gateway");
    restarted(&platform, gateway);
    let put = put.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&put.stderr);
    if !put.status.success() {
        // Giving up is allowed, saying so is required; then nothing is visible and the same command goes on.
        assert_eq!(put.status.code(), Some(6), "{said}");
        assert!(said.contains("gateway"), "{said}");
        platform.run(&["stat", "sr://files/large"]).status(3);
        let again = platform
            .json(&["put", "large", "sr://files/large"])
            .remove(0);
        assert!(again["resumed_bytes"].as_u64() > Some(0), "{again}");
    }
    platform.wait_until_placed();
    platform.ok(&["get", "sr://files/large", "back"]);
    assert!(
        std::fs::read(platform.path("back")).unwrap() == content,
        "it came back different"
    );
}

#[test]
fn what_a_dead_gateway_and_a_dead_client_leave_is_resumed_or_undone_without_a_leak() {
    let (platform, baseline) = with_an_object();
    let content = write_file(&platform.path("large"), 64 << 20, 22);
    let interrupted = || {
        let mut put = slow_put(&platform);
        put.kill().unwrap();
        put.wait().unwrap();
        let gateway = platform.pid("gateway");
        platform.kill_process("gateway");
        restarted(&platform, gateway);
        platform.run(&["stat", "sr://files/large"]).status(3);
        assert_eq!(
            platform.json(&["ls", "-r", "sr://files"]).len(),
            1,
            "no half object"
        );
    };
    interrupted();
    let left = held(&platform);
    assert_eq!((left.objects, left.uploads), (1, 1), "{left:?}");
    assert!(left.chunks > baseline.chunks, "{left:?}");
    // The same command goes on where it stopped.
    let again = platform
        .json(&["put", "large", "sr://files/large"])
        .remove(0);
    assert!(again["resumed_bytes"].as_u64() > Some(0), "{again}");
    platform.ok(&["get", "sr://files/large", "back"]);
    assert!(
        std::fs::read(platform.path("back")).unwrap() == content,
        "it came back different"
    );
    platform.ok(&["rm", "sr://files/large"]);
    // Once more, and now the upload is undone.
    interrupted();
    let me = Arc::new(identity(&platform));
    runtime().block_on(async {
        let client = connect(&platform, &me, "state").await;
        let uploads = client.uploads(&bucket("files")).await.unwrap();
        assert_eq!(uploads.len(), 1, "{uploads:?}");
        client.abort_upload(&uploads[0].upload).await.unwrap();
    });
    let after = settled(&platform, 1);
    assert_eq!(
        (after.chunks, after.shard_bytes),
        (baseline.chunks, baseline.shard_bytes)
    );
    // Each start of the gateway stores one record in five copies, and so may the tombstone; one chunk would be 14 more.
    assert!(
        after.shards <= baseline.shards + 3 * 5,
        "{after:?} against {baseline:?}"
    );
}

#[test]
fn small_puts_around_a_dying_gateway_are_there_when_acknowledged_and_leak_nothing() {
    let (platform, baseline) = with_an_object();
    let me = Arc::new(identity(&platform));
    let acknowledged = runtime().block_on(async {
        let client = connect(&platform, &me, "state").await;
        let mut running = tokio::task::JoinSet::new();
        for who in 0..16_u64 {
            let client = client.clone();
            running.spawn(async move {
                let mut done = Vec::new();
                for n in 0..25 {
                    let name = format!("small/{who}/{n}");
                    let content = bytes(2_000, who * 100 + n);
                    match client
                        .put_bytes(
                            &bucket("files"),
                            &key(&name),
                            &content,
                            &PutOptions::default(),
                        )
                        .await
                    {
                        Ok(_) => done.push((name, content)),
                        Err(error) => {
                            assert_eq!(error.kind(), client::ErrorKind::Unavailable, "{error}")
                        }
                    }
                }
                done
            });
        }
        for _ in 0..2 {
            tokio::time::sleep(Duration::from_millis(400)).await;
            let gateway = platform.pid("gateway");
            platform.kill_process("gateway");
            tokio::task::block_in_place(|| restarted(&platform, gateway));
        }
        running.join_all().await.concat()
    });
    assert!(
        acknowledged.len() > 100,
        "{} puts were acknowledged",
        acknowledged.len()
    );
    runtime().block_on(async {
        let client = connect(&platform, &me, "state").await;
        for (name, content) in &acknowledged {
            let (_, found) = client
                .get_bytes(&bucket("files"), &key(name), client::ByteRange::All)
                .await
                .unwrap();
            assert!(found == *content, "{name} came back different");
        }
    });
    // An unacknowledged put may have come true; whatever is listed is whole.
    let listed = platform.json(&["ls", "-r", "sr://files/small/"]).len();
    assert!(
        listed >= acknowledged.len(),
        "{listed} of {}",
        acknowledged.len()
    );
    platform.ok(&["verify", "-r", "sr://files"]);
    platform.ok(&["rm", "-r", "sr://files/small/"]);
    let after = settled(&platform, 1);
    assert_eq!(
        (after.chunks, after.shard_bytes),
        (baseline.chunks, baseline.shard_bytes)
    );
}

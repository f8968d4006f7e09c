//! What needs a process of its own: a kill in mid-write, and a disk that is full.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use database::Database;
use objects::metadata::{Metadata, MetadataError};
use sqlx::{Connection as _, Row as _, SqliteConnection};

use crate::backend::{block_on, options};
use crate::make::{self, bucket, bucket_id, key, mutation, small};

const FOLDER: &str = "STRONGROOM_TEST_FOLDER";

fn url(folder: &Path) -> String {
    format!("sqlite:{}", folder.join("metadata.sqlite").display())
}

/// Runs an ignored test of this file in a process of its own.
fn child(name: &str, folder: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", name, "--ignored", "--nocapture"])
        .env(FOLDER, folder)
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    command
}

/// The rest of each line of the child's output that starts with `word`.
fn said(line: &str, word: &str) -> Option<u32> {
    line.strip_prefix(word)?.trim().parse().ok()
}

#[test]
#[ignore = "run by a_kill_loses_no_acknowledged_put"]
fn puts_until_killed() {
    let folder = std::env::var(FOLDER).unwrap();
    block_on(async {
        let db = Database::connect_with(&url(folder.as_ref()), options())
            .await
            .unwrap();
        let id = bucket(&db, 1).await;
        let first = u32::try_from(db.space().await.unwrap().objects).unwrap() * 10;
        let mut tasks = Vec::new();
        for worker in 0..8 {
            let db = db.clone();
            tasks.push(tokio::spawn(async move {
                for n in (first + worker..).step_by(8) {
                    let name = format!("key {n}");
                    db.put_small(small(id, &name, n), mutation()).await.unwrap();
                    println!("\nput {n}");
                }
            }));
        }
        for task in tasks {
            task.await.unwrap();
        }
    });
}

#[test]
fn a_kill_loses_no_acknowledged_put() {
    const ROUNDS: usize = 4;
    let folder = tempfile::tempdir().unwrap();
    let mut acknowledged = BTreeSet::new();
    for round in 0..ROUNDS {
        let mut process = child("process::puts_until_killed", folder.path())
            .spawn()
            .unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let mut left = 150 * (round + 1);
        for line in lines {
            let line = line.unwrap();
            let Some(n) = said(&line, "put ") else {
                continue;
            };
            acknowledged.insert(n);
            left = left.saturating_sub(1);
            if left == 0 {
                // SIGKILL; what is still in the pipe was acknowledged as well.
                process.kill().unwrap();
            }
        }
        process.wait().unwrap();
    }
    assert!(acknowledged.len() >= 150 * ROUNDS * (ROUNDS + 1) / 2);
    block_on(async {
        let db = Database::connect_with(&url(folder.path()), options())
            .await
            .unwrap();
        for n in acknowledged {
            let row = db
                .current(bucket_id(1), &key(&format!("key {n}")))
                .await
                .unwrap();
            assert!(row.is_some(), "put {n} was acknowledged and is gone");
        }
        let space = db.space().await.unwrap();
        assert_eq!(space.objects, space.chunks);
        db.close().await;
        let file = folder.path().join("metadata.sqlite");
        let mut raw = SqliteConnection::connect(&file.display().to_string())
            .await
            .unwrap();
        let check = sqlx::query("PRAGMA integrity_check")
            .fetch_one(&mut raw)
            .await
            .unwrap();
        assert_eq!(check.get::<String, _>(0), "ok");
    });
}

#[test]
#[ignore = "run by a_full_disk_refuses_writes_and_keeps_reading"]
fn puts_until_refused() {
    let folder = std::env::var(FOLDER).unwrap();
    block_on(async {
        let db = Database::connect_with(&url(folder.as_ref()), options())
            .await
            .unwrap();
        let id = bucket(&db, 1).await;
        let mut written = 0;
        let refused = loop {
            let mut put = small(id, &format!("key {written}"), written);
            put.version.record = vec![7; 8_000];
            match db.put_small(put, mutation()).await {
                Ok(_) => written += 1,
                Err(error) => break error,
            }
        };
        assert!(
            matches!(refused, MetadataError::Unavailable(_)),
            "{refused:?}"
        );
        for n in 0..written {
            let row = db.current(id, &key(&format!("key {n}"))).await.unwrap();
            assert!(row.is_some(), "{n}");
        }
        println!("\nwritten {written}");
        let again = db
            .put_small(small(id, "again", 1_000_000), mutation())
            .await;
        println!("\nagain {}", u32::from(again.is_ok()));
    });
}

#[test]
fn a_full_disk_refuses_writes_and_keeps_reading() {
    let folder = tempfile::tempdir().unwrap();
    // A limit on the size of files stands for the full disk: with SIGXFSZ ignored, writes fail.
    let exe = std::env::current_exe().unwrap();
    let output = Command::new("sh")
        .arg("-c")
        .arg("trap '' XFSZ; ulimit -f 16384; exec \"$0\" --exact process::puts_until_refused --ignored --nocapture")
        .arg(exe)
        .env(FOLDER, folder.path())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let written = text.lines().find_map(|line| said(line, "written "));
    assert!(output.status.success(), "{text}");
    assert!(written.is_some_and(|written| written > 50), "{text}");
    // With room again everything that was acknowledged is there, and writing goes on.
    block_on(async {
        let db = Database::connect_with(&url(folder.path()), options())
            .await
            .unwrap();
        let objects = db.space().await.unwrap().objects;
        assert!(objects >= u64::from(written.unwrap()));
        make::put(&db, bucket_id(1), "more", 2_000_000).await;
    });
}

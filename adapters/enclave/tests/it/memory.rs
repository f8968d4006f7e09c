//! Locked memory as the system reports it.

use enclave::{LockError, LockedPool};
use rustix::process::{Resource, Rlimit};

use crate::process::{Unprivileged, said, say};

const STARTED: &str = "STRONGROOM_ENCLAVE_MEMORY";

fn locked_kb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmLck:"))
        .unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// The flags of the mapping that holds `address`, from smaps.
fn flags(address: usize) -> Vec<String> {
    let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
    let mut inside = false;
    for line in maps.lines() {
        if let Some((range, _)) = line.split_once(' ')
            && let Some((from, to)) = range.split_once('-')
            && let (Ok(from), Ok(to)) = (
                usize::from_str_radix(from, 16),
                usize::from_str_radix(to, 16),
            )
        {
            inside = (from..to).contains(&address);
        }
        if let Some(flags) = line.strip_prefix("VmFlags:")
            && inside
        {
            return flags.split_whitespace().map(str::to_owned).collect();
        }
    }
    Vec::new()
}

#[test]
#[ignore = "started by other tests, never by hand"]
fn locker() {
    if std::env::var_os(STARTED).is_none() {
        return;
    }
    let before = locked_kb();
    let pool = LockedPool::new(1_024, 64).unwrap();
    let secret = pool.take(&mut [7; 64]).unwrap();
    say(&format!("locked {} kB", locked_kb() - before));
    let flags = flags(secret.expose().as_ptr().addr());
    let has = |flag: &str| flags.iter().any(|known| known == flag);
    // Locked, left out of core dumps, empty after a fork (proc_pid_smaps(5)).
    say(&format!(
        "lo {} dd {} wf {}",
        has("lo"),
        has("dd"),
        has("wf")
    ));
    drop(secret);
    drop(pool);
    say(&format!("after {} kB", locked_kb() - before));
}

#[test]
fn a_pool_is_locked_kept_from_dumps_and_given_back() {
    let output = Unprivileged::new()
        .run("memory::locker")
        .env(STARTED, "yes")
        .output()
        .unwrap();
    assert_eq!(
        said(&output.stdout),
        ["locked 64 kB", "lo true dd true wf true", "after 0 kB"],
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
#[ignore = "started by other tests, never by hand"]
fn limited() {
    if std::env::var_os(STARTED).is_none() {
        return;
    }
    let low = Rlimit {
        current: Some(16 << 10),
        maximum: Some(16 << 10),
    };
    rustix::process::setrlimit(Resource::Memlock, low).unwrap();
    match LockedPool::new(1_024, 64) {
        Err(
            error @ LockError::Limit {
                bytes: 65_536,
                limit_bytes: 16_384,
            },
        ) => say(&error.to_string()),
        other => say(&format!("{other:?}")),
    }
    // What fits is still given.
    say(&format!("{:?}", LockedPool::new(16, 64).unwrap()));
}

#[test]
fn a_limit_that_is_too_low_is_an_error_that_says_what_to_do() {
    let output = Unprivileged::new()
        .run("memory::limited")
        .env(STARTED, "yes")
        .output()
        .unwrap();
    let said = said(&output.stdout);
    assert!(
        said[0].contains("RLIMIT_MEMLOCK) is 16384") && said[0].contains("LimitMEMLOCK"),
        "{said:?}"
    );
    assert_eq!(said[1], "LockedPool(16 slots)");
}

//! Kill -9 under load: whatever was acknowledged is there afterwards, and nothing twice.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime};

use ledger::port::{Freshness, Ledger as _};
use ledger::records::{Account, AnchorEntry, AnchorHead, AnchorKind};
use ledger::{Chain, LightClient, Outcome, Record as _, StateKey};
use solo::{Solo, SoloConfig};

use crate::support::config;
use crate::world::{People, anchor, genesis, signed};

const CHILD_DIR: &str = "STRONGROOM_SOLO_CHILD_DIR";
const SENDERS: u64 = 8;

fn child_config(dir: &Path) -> SoloConfig {
    SoloConfig {
        // Snapshots and new log files all the while.
        snapshot_transactions: 200,
        empty_block_every: Duration::from_millis(3),
        keep_log_bytes: 64 << 10,
        ..config(dir)
    }
}

/// Writes one line at once, so that a kill leaves no mixture.
fn say(sender: u64, nonce: u64) {
    let line = format!("\nacknowledged {sender} {nonce}\n");
    std::io::stdout().write_all(line.as_bytes()).unwrap();
}

/// The process that is killed: this very program, told to run only this.
#[test]
#[ignore = "started by the kill test, never by hand"]
fn child() {
    let Some(dir) = std::env::var_os(CHILD_DIR) else {
        return;
    };
    let (solo, _) = Solo::open(child_config(Path::new(&dir))).unwrap();
    let chain = Chain::from(solo.genesis());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut senders = tokio::task::JoinSet::new();
        for sender in 1..=SENDERS {
            let solo = solo.clone();
            senders.spawn(async move {
                let mut people = People::default();
                let key = StateKey::Account(people.principal(sender)).encode();
                let answer = solo.read(vec![key.into()], Freshness::Local).await.unwrap();
                let mut nonce = answer.values[0]
                    .value
                    .as_deref()
                    .map_or(0, |bytes| Account::decode(bytes).unwrap().nonce);
                loop {
                    let bytes = signed(people.get(sender), &chain, nonce, anchor(nonce + 1));
                    let receipt = solo.submit(bytes.into()).await.unwrap();
                    assert_eq!(receipt.outcome, Outcome::Applied);
                    say(sender, nonce);
                    nonce += 1;
                }
            });
        }
        senders.join_all().await;
    });
}

fn start(dir: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["kill::child", "--exact", "--ignored", "--nocapture"])
        .env(CHILD_DIR, dir)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

#[test]
fn killed_at_any_moment_it_loses_nothing_acknowledged_and_applies_nothing_twice() {
    let soak = std::env::var_os("STRONGROOM_SOAK").is_some();
    let rounds = if soak { 200 } else { 20 };
    let seed = match std::env::var("STRONGROOM_SEED") {
        Ok(seed) => seed.parse().unwrap(),
        Err(_) => SystemTime::UNIX_EPOCH.elapsed().unwrap().subsec_nanos(),
    };
    println!("STRONGROOM_SEED={seed} replays the moments of the kills");
    let mut random = u64::from(seed) | 1;
    let dir = tempfile::tempdir().unwrap();
    Solo::create(dir.path(), &genesis(true)).unwrap();
    let mut people = People::default();
    // The highest acknowledged nonce of each sender.
    let mut acknowledged: BTreeMap<u64, u64> = BTreeMap::new();
    let mut client = LightClient::new(&genesis(true));
    let mut total = 0;
    for round in 0..rounds {
        let mut child = start(dir.path());
        let output = BufReader::new(child.stdout.take().unwrap());
        let (first_seen, wait_for_first) = std::sync::mpsc::channel();
        let reader = std::thread::spawn(move || {
            let mut seen = Vec::new();
            for line in output.lines() {
                let line = line.unwrap();
                let words: Vec<_> = line.split(' ').collect();
                // The last line may have been cut off by the kill.
                if let ["acknowledged", sender, nonce] = words[..]
                    && let (Ok(sender), Ok(nonce)) = (sender.parse::<u64>(), nonce.parse::<u64>())
                {
                    seen.push((sender, nonce));
                    let _ = first_seen.send(());
                }
            }
            seen
        });
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        // Every fifth kill may hit a child that is still opening; the others wait until something is acknowledged.
        if round % 5 != 4 {
            wait_for_first
                .recv_timeout(Duration::from_secs(60))
                .unwrap();
        }
        std::thread::sleep(Duration::from_micros((random >> 20) % 300_000));
        assert!(
            child.try_wait().unwrap().is_none(),
            "the child ended by itself in round {round}"
        );
        child.kill().unwrap();
        child.wait().unwrap();
        // A line that was cut off can read as a shorter number: only what rises counts.
        for (sender, nonce) in reader.join().unwrap() {
            let highest = acknowledged.entry(sender).or_insert(0);
            *highest = (*highest).max(nonce);
            total += 1;
        }

        let (solo, report) = Solo::open(config(dir.path())).unwrap();
        assert_eq!(report.damaged_snapshots, 0, "round {round}: {report:?}");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        for (sender, highest) in &acknowledged {
            let who = people.principal(*sender);
            let head = StateKey::AnchorHead(who, AnchorKind::Audit);
            let last = StateKey::Anchor(who, AnchorKind::Audit, highest + 1);
            let keys: Vec<bytes::Bytes> = [StateKey::Account(who), head, last]
                .iter()
                .map(|key| key.encode().into())
                .collect();
            let answer = runtime
                .block_on(solo.read(keys.clone(), Freshness::Local))
                .unwrap();
            answer.verify(&mut client, &keys).unwrap();
            let value = |at: usize| answer.values[at].value.as_deref().unwrap();
            let account = Account::decode(value(0)).unwrap();
            let head = AnchorHead::decode(value(1)).unwrap();
            let entry = AnchorEntry::decode(value(2)).unwrap();
            assert!(
                account.nonce > *highest,
                "round {round}: sender {sender} lost {highest}: {account:?}"
            );
            // Each applied transaction is one anchor of ten items: none counted twice.
            assert_eq!(head.sequence, account.nonce, "round {round}");
            assert_eq!(head.total, 10 * account.nonce, "round {round}");
            assert_eq!(entry.sequence, highest + 1);
        }
    }
    println!("{total} acknowledged transactions over {rounds} kills");
    assert!(total > 0);
}

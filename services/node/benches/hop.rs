//! What one hop between a gateway and a node costs: whole shards of 4 MiB chunks at 10+4 (419,431 bytes) over the Unix
//! socket and over mutual TLS, each side a process of its own, everything warm.
//!
//! `cargo bench -p node --bench hop` prints MB/s and CPU seconds per GB (both processes). The node serves from memory,
//! without hashing what it stores, unless `HOP_STORE=disk` asks for the shard store with its checks and syncs.

#![allow(
    clippy::unwrap_used,
    reason = "a measurement that cannot set itself up ends"
)]

#[path = "../tests/it/memory.rs"]
mod memory;

use std::io::{BufRead as _, Read as _, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use domain::{Cid, DeploymentId, ShardTag};
use futures_util::StreamExt as _;
use node::{Node, NodeConfig};
use transport::{
    Bound, CertificateFiles, ClientOptions, Clock, Credentials, Listen, NodeAddress, NodeClient,
    NodeEndpoint, Role, pki,
};

const SHARD_BYTES: usize = 419_431;
const PROOF_BYTES: usize = 2_048;
const SMALL_BYTES: usize = 6_000;
const DEPLOYMENT: DeploymentId = DeploymentId([7; 32]);

fn main() {
    match std::env::var("HOP_NODE") {
        Ok(listen) => serve(&listen),
        Err(_) => measure(),
    }
}

/// The node's process: says where it listens, serves until its input ends.
fn serve(listen: &str) {
    let dir = std::env::var("HOP_DIR").unwrap();
    let dir = Path::new(&dir);
    let listen = match listen {
        "tls" => Listen::Tls("127.0.0.1:0".parse().unwrap()),
        _ => Listen::Unix(dir.join("run/node.sock")),
    };
    let config = NodeConfig {
        scrub_period: Duration::ZERO,
        ..NodeConfig::new(dir, DEPLOYMENT, listen)
    };
    node::runtime().unwrap().block_on(async {
        let disk = std::env::var("HOP_STORE").is_ok_and(|store| store == "disk");
        if disk {
            until_input_ends(Node::start(config).await.unwrap()).await;
        } else {
            let credentials = node::server::credentials(&config).unwrap();
            let store = memory::Memory::unchecked();
            until_input_ends(Node::with_store(config, credentials, store).await.unwrap()).await;
        }
    });
}

async fn until_input_ends<S: node::storage::Storage>(node: Node<S>) {
    match node.bound() {
        Bound::Unix(path) => println!("{}", path.display()),
        Bound::Tls(address) => println!("{address}"),
    }
    std::io::stdout().flush().unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    std::thread::spawn(move || {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        drop(stop);
    });
    node.serve(async {
        let _ = stopped.await;
    })
    .await;
}

struct Peer {
    child: Child,
    client: NodeClient,
    _dir: tempfile::TempDir,
}

fn start(kind: &str, runtime: &tokio::runtime::Runtime) -> Peer {
    let dir = tempfile::tempdir().unwrap();
    let now = Clock::system().now();
    let ca = pki::create_ca(&dir.path().join("ca"), DEPLOYMENT, now).unwrap();
    let issue = |role, name: &str| -> CertificateFiles {
        ca.issue(role, &dir.path().join(name), pki::CERTIFICATE_VALIDITY, now)
            .unwrap()
            .files
    };
    issue(Role::Node { slot: 0 }, "identity");
    let gateway = issue(Role::Gateway, "gateway");
    let mut child = Command::new(std::env::current_exe().unwrap())
        .env("HOP_NODE", kind)
        .env("HOP_DIR", dir.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    std::io::BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    let address = match kind {
        "tls" => NodeAddress::Tls(line.trim().to_owned()),
        _ => NodeAddress::Unix(line.trim().into()),
    };
    let _in_runtime = runtime.enter();
    let credentials = Credentials::load(gateway, DEPLOYMENT, Clock::system()).unwrap();
    let endpoint = NodeEndpoint {
        address,
        slot: 0,
        node: None,
    };
    let client = NodeClient::new(endpoint, credentials, ClientOptions::default()).unwrap();
    Peer {
        child,
        client,
        _dir: dir,
    }
}

fn measure() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let rounds: usize = std::env::var("HOP_ROUNDS")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(3);
    println!(
        "{:<6} {:<10} {:>10} {:>10} {:>12}",
        "hop", "what", "MB/s", "per s", "CPU-s/GB"
    );
    let mut peers: Vec<(&str, Peer)> = ["unix", "tls"]
        .into_iter()
        .map(|kind| (kind, start(kind, &runtime)))
        .collect();
    for (kind, peer) in &peers {
        runtime.block_on(peer.client.stats(soon())).unwrap();
        println!(
            "{kind:<6} idle node, one connection: {} KiB (PSS)",
            pss_kib(peer.child.id())
        );
    }
    // Interleaved, so that a busy neighbour hits both alike.
    for _ in 0..rounds {
        for (kind, peer) in &peers {
            let shards = make(64, SHARD_BYTES);
            report(kind, "put 420K", peer, &runtime, 2_000, SHARD_BYTES, |n| {
                put(peer, &shards, n)
            });
            report(kind, "get 420K", peer, &runtime, 4_000, SHARD_BYTES, |n| {
                get(peer, &shards, n)
            });
            let small = make(64, SMALL_BYTES);
            report(kind, "put 6K", peer, &runtime, 20_000, SMALL_BYTES, |n| {
                put(peer, &small, n)
            });
            report(kind, "get 6K", peer, &runtime, 20_000, SMALL_BYTES, |n| {
                get(peer, &small, n)
            });
        }
    }
    for (_, peer) in &mut peers {
        drop(peer.child.stdin.take());
        peer.child.wait().unwrap();
    }
}

fn make(count: usize, bytes: usize) -> Vec<(Cid, Bytes)> {
    (0..count)
        .map(|n| {
            let mut body = vec![0x5a; bytes];
            body.splice(..8, n.to_le_bytes());
            (Cid::of_raw(&body), Bytes::from(body))
        })
        .collect()
}

async fn put(peer: &Peer, shards: &[(Cid, Bytes)], n: usize) {
    let (cid, body) = shards[n % shards.len()].clone();
    let proof = Bytes::from_static(&[1; PROOF_BYTES]);
    peer.client
        .put(cid, ShardTag::Chunk, proof, vec![body], soon())
        .await
        .unwrap();
}

async fn get(peer: &Peer, shards: &[(Cid, Bytes)], n: usize) {
    let (cid, body) = &shards[n % shards.len()];
    let read = peer.client.get(*cid, None, true, soon()).await.unwrap();
    assert_eq!(read.body.iter().map(Bytes::len).sum::<usize>(), body.len());
}

fn soon() -> tokio::time::Instant {
    tokio::time::Instant::now() + Duration::from_secs(60)
}

fn report<F: Future<Output = ()>>(
    kind: &str,
    what: &str,
    peer: &Peer,
    runtime: &tokio::runtime::Runtime,
    count: usize,
    bytes: usize,
    work: impl Fn(usize) -> F,
) {
    let run = |count: usize| {
        runtime.block_on(futures_util::stream::iter(0..count).for_each_concurrent(8, &work));
    };
    run(count / 10);
    let pids = [std::process::id(), peer.child.id()];
    let cpu = || pids.iter().map(|pid| cpu_seconds(*pid)).sum::<f64>();
    let (before, started) = (cpu(), Instant::now());
    run(count);
    let (took, used) = (started.elapsed().as_secs_f64(), cpu() - before);
    let to_f64 = |n: usize| f64::from(u32::try_from(n).unwrap());
    let gb = to_f64(count) * to_f64(bytes) / 1e9;
    println!(
        "{kind:<6} {what:<10} {:>10.0} {:>10.0} {:>12.2}",
        gb * 1e3 / took,
        to_f64(count) / took,
        used / gb
    );
}

/// Memory of a process, its share of what it shares with others included.
fn pss_kib(pid: u32) -> u64 {
    let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let line = rollup
        .lines()
        .find(|line| line.starts_with("Pss:"))
        .unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// User and system time of a process, from `/proc/<pid>/stat` (fields 14 and 15, in hundredths of a second).
fn cpu_seconds(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    let ticks = |field: usize| fields[field].parse::<f64>().unwrap();
    (ticks(11) + ticks(12)) / 100.0
}

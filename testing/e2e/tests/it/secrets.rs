//! A full run of named keys and objects, looked through from outside for what was planted in it: every file and log, the traffic of
//! all links between the processes and to the program, and what a crash leaves. Each search is shown to find what it should.
//!
//! TCP on loopback is read from a packet socket (needs CAP_NET_RAW; without it the test fails and says so). Links on Unix sockets
//! cannot be captured by the system: they go through recorders that stand in the sockets' places.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crypto::seed_text::{self, SeedKind};
use data_encoding::{BASE64, BASE64URL_NOPAD, HEXLOWER};
use rustix::net::{AddressFamily, Protocol, RecvFlags, SocketType};
use rustix::process::{Resource, Rlimit, Signal, getrlimit, setrlimit};

use crate::harness::{Options, Platform, signal};
use crate::keys::{as_other, contains, other};

/// Put where the search must find it.
const CONTROL: &[u8] = b"CONTROL-51b9aa-is-here-to-be-found-by-the-search";
/// What was sealed.
const PLANTED: &[u8] = b"PLANTED-90d2c4-only-for-those-who-are-permitted!";

/// Bytes that nobody may see, by name.
struct Needles(Vec<(String, Vec<u8>)>);

impl Needles {
    /// The bytes and the ways in which somebody may have written them.
    fn add(&mut self, name: &str, bytes: &[u8]) {
        for (form, bytes) in [
            ("", bytes.to_vec()),
            (" in hexadecimal", HEXLOWER.encode(bytes).into_bytes()),
            (" in base64", BASE64.encode(bytes).into_bytes()),
            (" in base64url", BASE64URL_NOPAD.encode(bytes).into_bytes()),
        ] {
            self.0.push((format!("{name}{form}"), bytes));
        }
    }

    fn found_in(&self, bytes: &[u8]) -> Option<&str> {
        self.0
            .iter()
            .find(|(_, needle)| contains(bytes, needle))
            .map(|(name, _)| name.as_str())
    }

    #[track_caller]
    fn absent(&self, place: &str, bytes: &[u8]) {
        if let Some(name) = self.found_in(bytes) {
            panic!("{place} shows {name}");
        }
    }
}

/// Every file below a folder, with its content.
fn files(folder: &Path, visit: &mut impl FnMut(&Path, &[u8])) {
    // Processes run: a folder may be gone by now.
    let Ok(entries) = std::fs::read_dir(folder) else {
        return;
    };
    for entry in entries {
        let Ok(entry) = entry else { continue };
        let Ok(kind) = entry.file_type() else {
            continue;
        };
        if kind.is_dir() {
            files(&entry.path(), visit);
        } else if kind.is_file()
            && let Ok(bytes) = std::fs::read(entry.path())
        {
            visit(&entry.path(), &bytes);
        }
    }
}

/// Payloads by sequence number, of each direction of each connection by its ports.
type Flows = HashMap<(u16, u16), BTreeMap<u32, Vec<u8>>>;

/// What passed over TCP to and from some ports of this machine.
struct Capture {
    stop: Arc<AtomicBool>,
    reader: std::thread::JoinHandle<Flows>,
}

impl Capture {
    fn start(ports: HashSet<u16>) -> Self {
        // ETH_P_ALL in network order.
        let all = Protocol::from_raw(u32::from(3_u16.to_be()).try_into().unwrap());
        let socket = rustix::net::socket(AddressFamily::PACKET, SocketType::RAW, Some(all))
            .expect("a packet socket: run this test as root or with CAP_NET_RAW");
        let _ = rustix::net::sockopt::set_socket_recv_buffer_size_force(&socket, 256 << 20);
        rustix::net::sockopt::set_socket_timeout(
            &socket,
            rustix::net::sockopt::Timeout::Recv,
            Some(Duration::from_millis(200)),
        )
        .unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let reader = std::thread::spawn({
            let stop = Arc::clone(&stop);
            move || read_packets(&socket, &ports, &stop)
        });
        Self { stop, reader }
    }

    fn end(self) -> Vec<((u16, u16), Vec<u8>)> {
        // What was sent last may still be on its way to the reader.
        std::thread::sleep(Duration::from_millis(500));
        self.stop.store(true, Ordering::Relaxed);
        let flows = self.reader.join().unwrap();
        let in_order = |pieces: BTreeMap<u32, Vec<u8>>| pieces.into_values().flatten().collect();
        flows
            .into_iter()
            .map(|(ports, pieces)| (ports, in_order(pieces)))
            .collect()
    }
}

fn read_packets(socket: &OwnedFd, ports: &HashSet<u16>, stop: &AtomicBool) -> Flows {
    let mut flows = Flows::new();
    let mut packet = vec![0; 128 << 10];
    loop {
        match rustix::net::recv(socket, &mut packet[..], RecvFlags::empty()) {
            Ok((length, _)) => {
                let segment = tcp(&packet[..length]);
                if let Some(((from, to), sequence, payload)) = segment
                    && (ports.contains(&from) || ports.contains(&to))
                {
                    // Loopback shows each packet twice.
                    flows
                        .entry((from, to))
                        .or_default()
                        .insert(sequence, payload.to_vec());
                }
            }
            Err(_) if stop.load(Ordering::Relaxed) => return flows,
            Err(_) => {}
        }
    }
}

/// Ports, sequence number and payload of a TCP packet over IPv4 in an Ethernet frame.
fn tcp(frame: &[u8]) -> Option<((u16, u16), u32, &[u8])> {
    let packet = frame.get(14..)?;
    if packet.first()? >> 4 != 4 || *packet.get(9)? != 6 {
        return None;
    }
    let total = usize::from(u16::from_be_bytes(packet.get(2..4)?.try_into().ok()?));
    let head = usize::from(packet.first()? & 15) * 4;
    // Segments that the kernel has not cut yet may give no length.
    let packet = if total == 0 {
        packet
    } else {
        packet.get(..total)?
    };
    let segment = packet.get(head..)?;
    let port = |at: usize| {
        Some(u16::from_be_bytes(
            segment.get(at..at + 2)?.try_into().ok()?,
        ))
    };
    let sequence = u32::from_be_bytes(segment.get(4..8)?.try_into().ok()?);
    let payload = segment.get(usize::from(segment.get(12)? >> 4) * 4..)?;
    (!payload.is_empty()).then_some(((port(0)?, port(2)?), sequence, payload))
}

/// One direction of a connection through a recorder.
struct Recorded {
    socket: String,
    bytes: Mutex<Vec<u8>>,
}

/// What passed over Unix sockets.
#[derive(Clone, Default)]
struct Recorder(Arc<Mutex<Vec<Arc<Recorded>>>>);

impl Recorder {
    /// Puts a recorder in a socket's place. Connections that are there go on without it.
    fn stand_in(&self, socket: &Path) {
        let behind = socket.with_extension("behind");
        std::fs::rename(socket, &behind).unwrap();
        let listener = UnixListener::bind(socket).unwrap();
        let name = socket.file_name().unwrap().to_str().unwrap().to_owned();
        let recorder = self.clone();
        std::thread::spawn(move || {
            for near in listener.incoming() {
                let (Ok(near), Ok(far)) = (near, UnixStream::connect(&behind)) else {
                    continue;
                };
                recorder.pump(&name, near.try_clone().unwrap(), far.try_clone().unwrap());
                recorder.pump(&name, far, near);
            }
        });
    }

    fn pump(&self, name: &str, mut from: UnixStream, mut to: UnixStream) {
        let record = Arc::new(Recorded {
            socket: name.to_owned(),
            bytes: Mutex::default(),
        });
        self.0.lock().unwrap().push(Arc::clone(&record));
        std::thread::spawn(move || {
            let mut buffer = vec![0; 64 << 10];
            while let Ok(length @ 1..) = from.read(&mut buffer) {
                record
                    .bytes
                    .lock()
                    .unwrap()
                    .extend_from_slice(&buffer[..length]);
                if to.write_all(&buffer[..length]).is_err() {
                    break;
                }
            }
            let _ = to.shutdown(Shutdown::Write);
        });
    }

    /// Gives all sockets their places back: who starts again may not find its own served by another.
    fn step_aside(self, folder: &Path) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let behind = entry.unwrap().path();
            if behind.extension().is_some_and(|end| end == "behind") {
                std::fs::rename(&behind, behind.with_extension("sock")).unwrap();
            }
        }
    }

    /// Bytes by socket, each direction of each connection apart.
    fn recorded(&self) -> Vec<(String, Vec<u8>)> {
        let all = self.0.lock().unwrap();
        all.iter()
            .map(|one| (one.socket.clone(), one.bytes.lock().unwrap().clone()))
            .collect()
    }
}

/// Of `HOST:PORT`.
fn port(address: &str) -> u16 {
    address.rsplit_once(':').unwrap().1.parse().unwrap()
}

fn sockets(platform: &Platform, beginning: &str) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = std::fs::read_dir(platform.data().join("run"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            let name = path.file_name().unwrap().to_str().unwrap();
            name.starts_with(beginning) && name.ends_with(".sock")
        })
        .collect();
    found.sort();
    found
}

/// Kills a process and waits until its successor is ready.
fn restart(platform: &Platform, name: &str) {
    let before = platform.pid(name);
    platform.kill_process(name);
    platform.wait_for(&format!("{name} to be back"), || {
        let processes = platform.processes();
        let children = processes["children"].as_array().unwrap();
        children.iter().any(|child| {
            child["name"] == name
                && child["state"] == "ready"
                && child["pid"].as_u64() != Some(u64::from(before))
        })
    });
}

fn trusting(platform: &Platform) {
    platform.wait_for("custodians and workers", || {
        let shown = platform.run(&["attest", "show", "--json"]);
        let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
        shown.matches("\"reachable\":true").count() >= 7
    });
}

/// Everything that a user does with keys and objects, with planted content. Gives the data key.
fn full_run(platform: &Platform) -> Vec<u8> {
    platform.ok(&["key", "create", "payroll"]);
    let content = PLANTED.repeat(4_000);
    std::fs::write(platform.path("large"), &content).unwrap();
    std::fs::write(platform.path("small"), PLANTED).unwrap();
    platform.ok(&["mb", "--key", "payroll", "sr://payslips"]);
    platform.ok(&["mb", "sr://plain"]);
    let anna = other(platform, "anna");
    platform.ok(&["key", "grant", "payroll", &anna]);
    platform.ok(&["bucket", "grant", "sr://payslips", &anna, "read"]);
    for bucket in ["sr://payslips", "sr://plain"] {
        platform.ok(&["put", "large", "small", &format!("{bucket}/")]);
        for (name, content) in [("large", &content[..]), ("small", PLANTED)] {
            let got = platform.run(&["cat", &format!("{bucket}/{name}")]);
            assert!(got.status(0).stdout == content);
        }
    }
    let got = as_other(platform, "anna", &["cat", "sr://payslips/small"]).status(0);
    assert!(got.stdout == PLANTED);
    platform.ok(&["encrypt", "--key", "payroll", "small"]);
    platform.ok(&["key", "rotate", "payroll"]);
    let made = platform.json(&["key", "datakey", "payroll"]).remove(0);
    let bytes = |name: &str| {
        BASE64
            .decode(made[name].as_str().unwrap().as_bytes())
            .unwrap()
    };
    let data_key = bytes("data_key");
    std::fs::write(platform.path("dk.sealed"), bytes("envelope")).unwrap();
    let got = platform.run(&["decrypt", "-o", "-", "dk.sealed"]).status(0);
    assert!(got.stdout == data_key);
    platform.ok(&["key", "rewrap", "small.sealed"]);
    let got = platform
        .run(&["decrypt", "-o", "-", "small.sealed"])
        .status(0);
    assert!(got.stdout == PLANTED);
    platform.ok(&["key", "revoke", "payroll", &anna]);
    as_other(platform, "anna", &["decrypt", "-o", "-", "small.sealed"]).status(4);
    platform.ok(&["audit", "verify", "--key", "payroll"]);
    data_key
}

#[test]
fn nothing_that_was_planted_shows_on_disk_in_logs_on_the_wire_or_in_a_core() {
    // Where a core could be written, it would be.
    let most = getrlimit(Resource::Core).maximum;
    let unlimited = Rlimit {
        current: most,
        maximum: most,
    };
    setrlimit(Resource::Core, unlimited).unwrap();
    // Links to nodes on TCP for the capture; everything may be logged.
    let platform = Platform::start_with(Options {
        args: ["--tls-nodes", "--node-port=0", "--log=debug"]
            .map(str::to_owned)
            .to_vec(),
        ..Options::default()
    });
    trusting(&platform);
    let address = platform.endpoint().strip_prefix("http://").unwrap();
    let nodes = platform.json(&["admin", "nodes"]).remove(0);
    let nodes = nodes["nodes"].as_array().unwrap().iter();
    let mut ports: HashSet<u16> = nodes
        .map(|node| port(node["address"].as_str().unwrap()))
        .collect();
    assert_eq!(ports.len(), 14);
    ports.extend([port(address), port(platform.grpc())]);
    let capture = Capture::start(ports.clone());

    // Custodians first: workers and gateway connect to the recorders when they come back.
    let recorder = Recorder::default();
    for socket in sockets(&platform, "custodian-") {
        recorder.stand_in(&socket);
    }
    for socket in ["relay.sock", "validator.sock"] {
        recorder.stand_in(&platform.data().join("run").join(socket));
    }
    for worker in ["worker-1", "worker-2"] {
        restart(&platform, worker);
    }
    for socket in sockets(&platform, "worker-") {
        recorder.stand_in(&socket);
    }
    restart(&platform, "gateway");
    trusting(&platform);

    let data_key = full_run(&platform);
    let kit = platform.ok(&["identity", "export", "-"]);
    let seed = seed_text::parse(SeedKind::Identity, &kit).unwrap();
    let mut needles = Needles(Vec::new());
    needles.add("the content", PLANTED);
    needles.add("the data key", &data_key);
    needles.add("the identity's seed", seed.expose());
    needles
        .0
        .push(("the exported identity".to_owned(), kit.trim().into()));
    needles.0.push((
        "the passphrase".to_owned(),
        b"correct horse battery".to_vec(),
    ));
    let control = Needles(vec![("the control".to_owned(), CONTROL.to_vec())]);

    // What the search must find: sent in the open over TCP, over a recorded socket, written to a file and to a log.
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(b"GET /").unwrap();
    // Across the border of two packets.
    stream.set_nodelay(true).unwrap();
    stream.write_all(&CONTROL[..20]).unwrap();
    std::thread::sleep(Duration::from_millis(50));
    stream.write_all(&CONTROL[20..]).unwrap();
    stream
        .write_all(b" HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        .unwrap();
    let _ = stream.read_to_end(&mut Vec::new());
    for socket in [
        "custodian-3.sock",
        "worker-1.sock",
        "relay.sock",
        "validator.sock",
    ] {
        let path = platform.data().join("run").join(socket);
        let mut stream = UnixStream::connect(path).unwrap();
        stream.write_all(CONTROL).unwrap();
        std::thread::sleep(Duration::from_millis(100));
    }
    let marker = platform.data().join("nodes/03/control");
    std::fs::write(&marker, CONTROL).unwrap();

    // The wire.
    let flows = capture.end();
    let found = flows
        .iter()
        .filter(|(_, bytes)| control.found_in(bytes).is_some());
    assert!(found.count() > 0, "the capture sees nothing");
    // Both puts and both gets of the large object, and its shards.
    let large = PLANTED.len() * 4_000;
    for at in ports {
        let of_port = flows
            .iter()
            .filter(|((from, to), _)| *from == at || *to == at);
        let captured: usize = of_port.map(|(_, bytes)| bytes.len()).sum();
        let least = match at {
            rest if rest == port(address) => 4 * large,
            grpc if grpc == port(platform.grpc()) => 0,
            _ => 1_000,
        };
        assert!(captured >= least, "{captured} bytes at port {at}");
    }
    for (ports, bytes) in &flows {
        needles.absent(&format!("TCP {ports:?}"), bytes);
    }
    let recorded = recorder.recorded();
    for socket in [
        "custodian-3.sock",
        "worker-1.sock",
        "relay.sock",
        "validator.sock",
    ] {
        let of_socket = || recorded.iter().filter(|(name, _)| name == socket);
        assert!(
            of_socket().any(|(_, bytes)| control.found_in(bytes).is_some()),
            "{socket} is not recorded"
        );
        // Real traffic came this way too, in both directions.
        assert!(
            of_socket().filter(|(_, bytes)| bytes.len() > 500).count() >= 2,
            "{socket}"
        );
    }
    for (socket, bytes) in &recorded {
        needles.absent(socket, bytes);
    }

    // Folders of every process with their logs, and the configuration.
    let (mut controls, mut logs) = (0, 0);
    for folder in [
        platform.data(),
        platform.path("config"),
        platform.path("anna"),
    ] {
        files(&folder, &mut |path, bytes| {
            needles.absent(&path.display().to_string(), bytes);
            controls += usize::from(control.found_in(bytes).is_some());
            logs += usize::from(
                path.file_name().is_some_and(|name| name == "log") && !bytes.is_empty(),
            );
        });
    }
    assert!(controls >= 1, "the search finds nothing on disk");
    // The gateway, 14 nodes, the validator, 5 custodians, 2 workers; one may just be taking a new file.
    assert!(logs >= 22, "{logs} logs");

    recorder.step_aside(&platform.data().join("run"));
    crash(&platform, &needles);
}

/// Custodians and workers that crash leave nothing.
fn crash(platform: &Platform, needles: &Needles) {
    let pattern = std::fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap();
    let beside = !pattern.starts_with(['|', '/']);
    let cores = |folder: &Path| {
        let entries = std::fs::read_dir(folder).unwrap();
        entries
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter(|name| name.starts_with(pattern.trim().split('%').next().unwrap()))
            .count()
    };
    // Somebody else's program leaves one, where that can be seen.
    if beside && getrlimit(Resource::Core).current != Some(0) {
        let folder = platform.path("crashing");
        std::fs::create_dir(&folder).unwrap();
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .current_dir(&folder)
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(200));
        signal(child.id(), Signal::ABORT);
        child.wait().unwrap();
        assert_eq!(
            cores(&folder),
            1,
            "a crash leaves no core file on this machine"
        );
    }
    for (name, with) in [
        ("custodian-2", Signal::ABORT),
        ("custodian-4", Signal::SEGV),
        ("worker-1", Signal::ABORT),
        ("worker-2", Signal::SEGV),
    ] {
        let pid = platform.pid(name);
        let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
        let core = limits
            .lines()
            .find(|line| line.starts_with("Max core file size"));
        let core: Vec<&str> = core.unwrap().split_whitespace().collect();
        assert_eq!(core[4..6], ["0", "0"], "{name}");
        let folder = std::fs::read_link(format!("/proc/{pid}/cwd")).unwrap();
        let before = cores(&folder);
        signal(pid, with);
        // Rust's own handler takes the first SIGSEGV that no fault has caused for an error that will come again.
        if with == Signal::SEGV {
            std::thread::sleep(Duration::from_millis(200));
            signal(pid, with);
        }
        platform.wait_for(&format!("{name} to be back"), || {
            let processes = platform.processes();
            let children = processes["children"].as_array().unwrap();
            children.iter().any(|child| {
                child["name"] == name
                    && child["state"] == "ready"
                    && child["pid"].as_u64() != Some(u64::from(pid))
            })
        });
        assert_eq!(cores(&folder), before, "{name} left a core file");
    }
    files(&platform.data(), &mut |path, bytes| {
        let name = path.file_name().unwrap().to_string_lossy();
        assert!(!name.starts_with("core"), "{}", path.display());
        needles.absent(&path.display().to_string(), bytes);
    });
}

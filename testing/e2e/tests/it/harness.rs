//! A platform of its own for each test: `strongroom up` in a temporary folder on free ports, and ways to hurt it.
//!
//! The program is `STRONGROOM_BIN`, or the one that cargo built beside this test (`cargo build -p strongroom`). Whatever
//! happens, a panic included, the processes end with the [`Platform`]: the supervisor is killed, and its children with it.

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// Storage nodes of a platform.
pub const NODES: usize = 14;
/// How long a platform may take to start or to stop.
const PATIENCE: Duration = Duration::from_secs(90);

/// How to start a platform.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Further arguments of `up`, for example `--tls-nodes`, `--node-port=0`.
    pub args: Vec<String>,
    /// `up` is not told the operator's passphrase.
    pub without_passphrase: bool,
    /// Custodians and workers run from copies of their programs in the platform's folder `libexec`.
    pub own_programs: bool,
}

/// A running platform with an identity of its own.
pub struct Platform {
    dir: tempfile::TempDir,
    options: Options,
    supervisor: Option<Child>,
    endpoint: String,
    ready: Value,
}

/// What a run of the program said.
#[derive(Debug)]
pub struct Ran {
    /// Its arguments.
    pub args: Vec<String>,
    /// Its exit status; -1 when a signal ended it.
    pub status: i32,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: String,
}

/// The program under test.
pub fn program() -> PathBuf {
    if let Some(path) = std::env::var_os("STRONGROOM_BIN") {
        return PathBuf::from(path);
    }
    // target/PROFILE/deps/it-HASH -> target/PROFILE/strongroom
    let beside = std::env::current_exe()
        .unwrap()
        .parent()
        .unwrap()
        .parent()
        .unwrap()
        .join("strongroom");
    assert!(
        beside.exists(),
        "{} is missing: build it first with `cargo build -p strongroom`, or name one in STRONGROOM_BIN",
        beside.display()
    );
    beside
}

/// With a short path, for sockets lie below it.
fn short_folder() -> tempfile::TempDir {
    tempfile::Builder::new()
        .prefix("sr-")
        .tempdir_in("/tmp")
        .unwrap()
}

impl Platform {
    /// Makes an identity and a deployment and starts it.
    pub fn start() -> Self {
        Self::start_with(Options::default())
    }

    /// As [`Platform::start`], with options.
    pub fn start_with(options: Options) -> Self {
        let mut platform = Self::stopped(options);
        platform.up();
        platform
    }

    /// A deployment that does not run yet.
    pub fn stopped(options: Options) -> Self {
        let dir = short_folder();
        if options.own_programs {
            let copies = dir.path().join("libexec");
            std::fs::create_dir(&copies).unwrap();
            for name in ["strongroom-custodian", "strongroom-worker"] {
                std::fs::copy(program().with_file_name(name), copies.join(name)).unwrap();
            }
        }
        std::fs::write(dir.path().join("passphrase"), "correct horse battery\n").unwrap();
        let platform = Self {
            dir,
            options,
            supervisor: None,
            endpoint: "http://127.0.0.1:9".to_owned(),
            ready: Value::Null,
        };
        platform.ok(&[
            "init",
            "--recovery-key-file",
            platform.path("recovery").to_str().unwrap(),
        ]);
        platform
    }

    /// A deployment from a fixture archive, which does not run yet.
    pub fn unpacked(archive: &Path, options: Options) -> Self {
        let dir = short_folder();
        let status = Command::new("tar")
            .arg("-C")
            .arg(dir.path())
            .arg("-xJf")
            .arg(archive)
            .status()
            .unwrap();
        assert!(status.success(), "tar: {status}");
        std::fs::rename(
            dir.path().join("config/passphrase"),
            dir.path().join("passphrase"),
        )
        .unwrap();
        Self {
            dir,
            options,
            supervisor: None,
            endpoint: "http://127.0.0.1:9".to_owned(),
            ready: Value::Null,
        }
    }

    /// Starts it (again) and waits until it is ready.
    pub fn up(&mut self) {
        assert!(self.supervisor.is_none(), "it runs already");
        let mut command = self.command(&[
            "up",
            "--json",
            "--listen",
            "127.0.0.1:0",
            "--grpc-listen",
            "127.0.0.1:0",
            "--probe-interval",
            "250ms",
        ]);
        command
            .args(&self.options.args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        if self.options.own_programs {
            command.env("STRONGROOM_LIBEXEC", self.path("libexec"));
        }
        if self.options.without_passphrase {
            command.env_remove("STRONGROOM_PASSPHRASE_FILE");
        }
        let mut child = command.spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        self.supervisor = Some(child);
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let Ok(ready) = serde_json::from_str::<Value>(&line) else {
            let mut child = self.supervisor.take().unwrap();
            let mut why = String::new();
            child
                .stderr
                .take()
                .unwrap()
                .read_to_string(&mut why)
                .unwrap();
            let status = child.wait().unwrap();
            panic!("`up` ended with {status}: {why}");
        };
        self.endpoint = ready["endpoint"].as_str().unwrap().to_owned();
        self.ready = ready;
    }

    /// What `up` said when it was ready.
    pub fn ready(&self) -> &Value {
        &self.ready
    }

    /// Changes how it starts next.
    pub fn set_options(&mut self, options: Options) {
        self.options = options;
    }

    /// Stops it in order, with SIGTERM.
    pub fn down(&mut self) {
        let mut child = self.supervisor.take().expect("it runs");
        signal(child.id(), Signal::TERM);
        let started = Instant::now();
        while child.try_wait().unwrap().is_none() {
            assert!(started.elapsed() < PATIENCE, "`up` does not stop");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Kills the supervisor with SIGKILL; its children must end with it.
    pub fn kill(&mut self) {
        let mut child = self.supervisor.take().expect("it runs");
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// A path below the test's folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The data folder.
    pub fn data(&self) -> PathBuf {
        self.path("data")
    }

    /// Where REST is served.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Where gRPC is served: `ADDRESS:PORT`.
    pub fn grpc(&self) -> &str {
        self.ready["grpc"].as_str().unwrap()
    }

    /// The program with this platform's identity, folder and endpoint.
    pub fn command<S: AsRef<OsStr>>(&self, args: &[S]) -> Command {
        let mut command = Command::new(program());
        for (name, _) in std::env::vars_os() {
            if name.as_encoded_bytes().starts_with(b"STRONGROOM_") {
                command.env_remove(name);
            }
        }
        command
            .args(args)
            .current_dir(self.dir.path())
            .env("STRONGROOM_CONFIG_DIR", self.path("config"))
            .env("STRONGROOM_PASSPHRASE_FILE", self.path("passphrase"))
            .env("STRONGROOM_ENDPOINT", &self.endpoint);
        command
    }

    /// Runs the program to its end.
    pub fn run(&self, args: &[&str]) -> Ran {
        Ran::of(args, self.command(args).output().unwrap())
    }

    /// Runs the program with bytes on its standard input.
    pub fn run_with_input(&self, args: &[&str], input: &[u8]) -> Ran {
        let mut child = self
            .command(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let input = input.to_vec();
        let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
        let output = child.wait_with_output().unwrap();
        writer.join().unwrap();
        Ran::of(args, output)
    }

    /// Runs the program, which must succeed; its standard output.
    #[track_caller]
    pub fn ok(&self, args: &[&str]) -> String {
        let ran = self.run(args);
        assert_eq!(ran.status, 0, "{ran:#?}");
        String::from_utf8(ran.stdout).unwrap()
    }

    /// Runs the program with `--json`, which must succeed; one value per line.
    #[track_caller]
    pub fn json(&self, args: &[&str]) -> Vec<Value> {
        let with: Vec<&str> = args.iter().copied().chain(["--json"]).collect();
        self.ok(&with)
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// Waits until every object is fully placed.
    #[track_caller]
    pub fn wait_until_placed(&self) {
        self.wait_for("full placement", || {
            let status = self.json(&["admin", "status"]).remove(0);
            status["unplaced_versions"] == 0 && status["pending_shards"] == 0
        });
    }

    /// Waits until the gateway sees exactly so many nodes online.
    #[track_caller]
    pub fn wait_for_nodes_online(&self, count: usize) {
        self.wait_for("nodes online", || {
            self.json(&["admin", "status"]).remove(0)["nodes_online"] == count
        });
    }

    /// Waits until `holds`, at most 90 seconds.
    #[track_caller]
    pub fn wait_for(&self, what: &str, mut holds: impl FnMut() -> bool) {
        let started = Instant::now();
        while !holds() {
            assert!(started.elapsed() < PATIENCE, "waited in vain for {what}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Kills nodes with SIGKILL and keeps them down.
    pub fn hold_nodes(&self, nodes: &[usize]) {
        self.control("hold", nodes);
    }

    /// Starts nodes again that were held; returns when they answer.
    pub fn release_nodes(&self, nodes: &[usize]) {
        self.control("release", nodes);
    }

    /// Kills a process with SIGKILL and keeps it down.
    pub fn hold(&self, name: &str) {
        self.order(&format!("hold {name}"));
    }

    /// Starts a process again that was held; returns when it answers.
    pub fn release(&self, name: &str) {
        self.order(&format!("release {name}"));
    }

    /// Kills the gateway with SIGKILL and keeps it down.
    pub fn hold_gateway(&self) {
        self.order("hold gateway");
    }

    /// Starts the gateway again; returns when it answers.
    pub fn release_gateway(&self) {
        self.order("release gateway");
    }

    /// Kills a process with SIGKILL; the supervisor starts it again. `gateway`, or `node-03`.
    pub fn kill_process(&self, name: &str) {
        signal(self.pid(name), Signal::KILL);
    }

    /// Makes a node hang (SIGSTOP) until [`Platform::resume_node`].
    pub fn stop_node(&self, node: usize) {
        signal(self.pid(&node_name(node)), Signal::STOP);
    }

    /// Lets a stopped node go on.
    pub fn resume_node(&self, node: usize) {
        signal(self.pid(&node_name(node)), Signal::CONT);
    }

    /// A node's folder.
    pub fn node_dir(&self, node: usize) -> PathBuf {
        self.data().join("nodes").join(format!("{node:02}"))
    }

    /// What the supervisor says of its processes (`run/processes.json`).
    pub fn processes(&self) -> Value {
        let text = std::fs::read_to_string(self.data().join("run/processes.json")).unwrap();
        serde_json::from_str(&text).unwrap()
    }

    /// The process id of `supervisor`, `gateway` or a node.
    #[track_caller]
    pub fn pid(&self, name: &str) -> u32 {
        let processes = self.processes();
        let pid = if name == "supervisor" {
            processes["supervisor"].as_u64()
        } else {
            let children = processes["children"].as_array().unwrap();
            children
                .iter()
                .find(|child| child["name"] == name)
                .and_then(|child| child["pid"].as_u64())
        };
        u32::try_from(pid.unwrap_or_else(|| panic!("{name} does not run: {processes:#}"))).unwrap()
    }

    /// Every process that runs, by name.
    pub fn pids(&self) -> Vec<(String, u32)> {
        let processes = self.processes();
        let mut pids = vec![("supervisor".to_owned(), self.pid("supervisor"))];
        for child in processes["children"].as_array().unwrap() {
            if let Some(pid) = child["pid"].as_u64() {
                pids.push((
                    child["name"].as_str().unwrap().to_owned(),
                    u32::try_from(pid).unwrap(),
                ));
            }
        }
        pids
    }

    /// Proportional set size of a process, bytes.
    pub fn pss_bytes(&self, name: &str) -> u64 {
        proc_kib(self.pid(name), "smaps_rollup", "Pss:") << 10
    }

    /// Largest resident size that a process has had, bytes.
    pub fn peak_bytes(&self, name: &str) -> u64 {
        proc_kib(self.pid(name), "status", "VmHWM:") << 10
    }

    /// Proportional set size of all processes together, bytes.
    pub fn pss_bytes_total(&self) -> u64 {
        self.pids()
            .iter()
            .map(|(_, pid)| proc_kib(*pid, "smaps_rollup", "Pss:") << 10)
            .sum()
    }

    /// A plain GET to the gateway: status and body.
    pub fn http_get(&self, path: &str) -> (u16, String) {
        let address = self.endpoint.strip_prefix("http://").unwrap();
        let mut stream = TcpStream::connect(address).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(30)))
            .unwrap();
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
        )
        .unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let answer = String::from_utf8_lossy(&answer);
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (
            head.split(' ').nth(1).unwrap().parse().unwrap(),
            body.to_owned(),
        )
    }

    /// A metric of the gateway: the sum over all label sets whose line starts with `prefix`.
    pub fn metric(&self, prefix: &str) -> f64 {
        let (status, body) = self.http_get("/metrics");
        assert_eq!(status, 200);
        let values = body.lines().filter(|line| line.starts_with(prefix));
        values
            .filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok())
            .sum()
    }

    fn control(&self, order: &str, nodes: &[usize]) {
        let names: Vec<String> = nodes.iter().map(|node| node_name(*node)).collect();
        self.order(&format!("{order} {}", names.join(" ")));
    }

    fn order(&self, order: &str) {
        let mut stream = UnixStream::connect(self.data().join("run/control.sock")).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        writeln!(stream, "{order}").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "ok\n", "{order}");
    }

    /// The logs of all processes, for a test that failed.
    pub fn logs(&self) -> String {
        let dirs = std::iter::once(self.data().join("gateway"))
            .chain((0..NODES).map(|node| self.node_dir(node)));
        dirs.filter_map(|dir| {
            let text = std::fs::read_to_string(dir.join("log")).ok()?;
            let lines: Vec<&str> = text.lines().rev().take(20).collect();
            Some(format!(
                "--- {}\n{}\n",
                dir.display(),
                lines.into_iter().rev().collect::<Vec<_>>().join("\n")
            ))
        })
        .collect()
    }
}

impl Drop for Platform {
    fn drop(&mut self) {
        if let Some(child) = &mut self.supervisor {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            eprintln!("{}", self.logs());
        }
    }
}

impl Ran {
    fn of(args: &[&str], output: Output) -> Self {
        Self {
            args: args.iter().map(|&arg| arg.to_owned()).collect(),
            status: output.status.code().unwrap_or(-1),
            stdout: output.stdout,
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Asserts the exit status.
    #[track_caller]
    pub fn status(self, expected: i32) -> Self {
        assert_eq!(self.status, expected, "{:?}: {}", self.args, self.stderr);
        self
    }

    /// Asserts that standard error has a part.
    #[track_caller]
    pub fn says(self, part: &str) -> Self {
        assert!(
            self.stderr.contains(part),
            "`{part}` in {:?}: {}",
            self.args,
            self.stderr
        );
        self
    }
}

/// The name of a node's process.
pub fn node_name(node: usize) -> String {
    format!("node-{node:02}")
}

/// Bytes that look random and are the same in every run (an xorshift), written to a file.
pub fn write_file(path: &Path, size: usize, seed: u64) -> Vec<u8> {
    let bytes = bytes(size, seed);
    std::fs::write(path, &bytes).unwrap();
    bytes
}

/// Bytes that look random and are the same in every run.
pub fn bytes(size: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(size + 8);
    while bytes.len() < size {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(size);
    bytes
}

/// Sends a signal to a process.
pub fn signal(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    kill_process(pid, signal).unwrap();
}

fn proc_kib(pid: u32, file: &str, field: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(field))
        .unwrap();
    line.trim().trim_end_matches("kB").trim().parse().unwrap()
}

//! Keeps one process running: starts it, sees when it is ready, starts it again with a growing pause when it dies, and
//! stops it when told.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, getppid, kill_process, set_parent_process_death_signal};
use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::{Notify, watch};
use tokio::time::{sleep, timeout};

use super::health::Probe;
use super::log_file::{BYTES_MAX, LogFile};
use crate::args::LogFormat;

/// The pause before the first restart; it doubles up to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_millis(250);
/// The longest pause between two starts.
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// A process that ran this long starts with the shortest pause again.
const STEADY: Duration = Duration::from_secs(60);
/// Starts that may fail in a row before a process that was never ready is given up.
const FRUITLESS_MAX: u32 = 5;
/// How long a process may take to stop before it is killed.
const STOP_PATIENCE: Duration = Duration::from_secs(15);
/// Bytes of one log line; what is longer is cut.
const LINE_BYTES_MAX: usize = 16 << 10;
/// Lines kept to say why a process died.
const LAST_LINES: usize = 5;

/// Where the lines that a process writes go.
#[derive(Clone, Debug)]
pub enum LogSink {
    /// A bounded file.
    File(PathBuf),
    /// This process's standard error; text lines get the process's name in front.
    Stderr(LogFormat),
}

/// A process to keep.
#[derive(Clone, Debug)]
pub struct Spec {
    /// `gateway`, `node-03`.
    pub name: String,
    /// The program; `None`: this executable.
    pub program: Option<PathBuf>,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Variables it gets besides those of this process that are not Strongroom's.
    pub env: Vec<(&'static str, OsString)>,
    /// Where its lines go.
    pub log: LogSink,
    /// How to see that it is ready.
    pub probe: Probe,
}

/// What a process is wanted to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Run, and be started again.
    Run,
    /// Be dead, by SIGKILL, until told otherwise.
    Hold,
    /// Stop in order, for good.
    Stop,
}

/// What a process does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Started, not ready.
    Starting,
    /// Does its work.
    Ready,
    /// Died; started again after a pause.
    Waiting,
    /// Down on purpose.
    Held,
    /// Given up; the sentence says why.
    Failed(String),
    /// Stopped for good.
    Stopped,
}

impl Phase {
    /// The word for `processes.json`.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Waiting => "waiting",
            Self::Held => "held",
            Self::Failed(_) => "failed",
            Self::Stopped => "stopped",
        }
    }
}

/// What is known of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// What it does.
    pub phase: Phase,
    /// Its process id while it runs.
    pub pid: Option<u32>,
    /// How often it was started again after it died by itself.
    pub restarts: u32,
}

/// The handle of a kept process.
#[derive(Clone, Debug)]
pub struct Kept {
    /// Its name.
    pub name: String,
    orders: watch::Sender<Order>,
    state: watch::Receiver<State>,
}

impl Kept {
    /// Tells it what to do.
    pub fn order(&self, order: Order) {
        self.orders.send_replace(order);
    }

    /// What it does now.
    pub fn state(&self) -> State {
        self.state.borrow().clone()
    }

    /// Returns its state as soon as `wanted` holds; the keeper ends only after `Stopped`.
    pub async fn wait_for(&self, wanted: impl FnMut(&State) -> bool) -> State {
        let mut state = self.state.clone();
        match state.wait_for(wanted).await {
            Ok(state) => state.clone(),
            Err(_) => self.state(),
        }
    }
}

/// Starts keeping a process on the present runtime. `changed` is notified at every change of its state.
pub fn keep(spec: Spec, changed: Arc<Notify>) -> Kept {
    let (orders, orders_seen) = watch::channel(Order::Run);
    let (report, state) = watch::channel(State {
        phase: Phase::Starting,
        pid: None,
        restarts: 0,
    });
    let name = spec.name.clone();
    let keeper = Keeper {
        spec,
        orders: orders_seen,
        report,
        changed,
        last: Arc::default(),
    };
    tokio::spawn(keeper.run());
    Kept {
        name,
        orders,
        state,
    }
}

struct Keeper {
    spec: Spec,
    orders: watch::Receiver<Order>,
    report: watch::Sender<State>,
    changed: Arc<Notify>,
    last: Arc<Mutex<VecDeque<String>>>,
}

/// Why [`Keeper::attend`] came back.
enum Ended {
    /// It died by itself; whether it had been ready.
    Died {
        status: Option<ExitStatus>,
        ready: bool,
    },
    /// It was ended because of an order.
    Ordered,
}

impl Keeper {
    async fn run(mut self) {
        let mut pause = PAUSE_MIN;
        let mut fruitless = 0;
        loop {
            let order = *self.orders.borrow_and_update();
            match order {
                Order::Stop => break self.tell(Phase::Stopped, None),
                Order::Hold => {
                    self.tell(Phase::Held, None);
                    if self.orders.changed().await.is_err() {
                        break;
                    }
                    (pause, fruitless) = (PAUSE_MIN, 0);
                    continue;
                }
                Order::Run => {}
            }
            let started = Instant::now();
            let ended = match self.spawn() {
                Ok(child) => self.attend(child).await,
                Err(error) => {
                    self.remember(format!("it cannot be started: {error}"));
                    Ended::Died {
                        status: None,
                        ready: false,
                    }
                }
            };
            let Ended::Died { status, ready } = ended else {
                continue;
            };
            if ready || started.elapsed() >= STEADY {
                fruitless = 0;
            } else {
                fruitless += 1;
            }
            if started.elapsed() >= STEADY {
                pause = PAUSE_MIN;
            }
            // Status 2 is wrong configuration: another start cannot help.
            let hopeless = status.and_then(|status| status.code()) == Some(2);
            if hopeless || fruitless >= FRUITLESS_MAX {
                self.tell(Phase::Failed(self.why(status)), None);
                if self.orders.changed().await.is_err() {
                    break;
                }
                (pause, fruitless) = (PAUSE_MIN, 0);
                continue;
            }
            tracing::warn!(process = %self.spec.name, status = ?status, "died; it is started again");
            self.report.send_modify(|state| state.restarts += 1);
            self.tell(Phase::Waiting, None);
            tokio::select! {
                () = sleep(pause) => {}
                changed = self.orders.changed() => if changed.is_err() { break },
            }
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    fn spawn(&self) -> std::io::Result<Child> {
        let mut command = match &self.spec.program {
            None => Command::new(std::env::current_exe()?),
            Some(program) => {
                let mut command = Command::new(program);
                // This program's own roles see to it themselves.
                die_with_supervisor(&mut command);
                command
            }
        };
        command
            .args(&self.spec.args)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            // Ctrl-C on the terminal is for the supervisor, which stops its children in order.
            .process_group(0)
            .kill_on_drop(true);
        // Settings meant for the supervisor must not reach a child by another way than its arguments.
        for (name, _) in std::env::vars_os() {
            if name.as_encoded_bytes().starts_with(b"STRONGROOM_") {
                command.env_remove(name);
            }
        }
        command.envs(self.spec.env.iter().map(|(name, value)| (name, value)));
        command.spawn()
    }

    async fn attend(&mut self, mut child: Child) -> Ended {
        let pid = child.id();
        if let Some(stderr) = child.stderr.take() {
            tokio::spawn(log_lines(
                stderr,
                self.spec.name.clone(),
                self.spec.log.clone(),
                self.last.clone(),
            ));
        }
        self.tell(Phase::Starting, pid);
        let probe = self.spec.probe.clone();
        let mut becomes_ready = std::pin::pin!(probe.ready());
        let mut ready = false;
        loop {
            tokio::select! {
                status = child.wait() => {
                    return Ended::Died { status: status.ok(), ready };
                }
                () = &mut becomes_ready, if !ready => {
                    ready = true;
                    self.tell(Phase::Ready, pid);
                }
                changed = self.orders.changed() => {
                    let order = if changed.is_ok() { *self.orders.borrow_and_update() } else { Order::Stop };
                    match order {
                        Order::Run => {}
                        Order::Hold => {
                            let _ = child.kill().await;
                            self.tell(Phase::Held, None);
                            return Ended::Ordered;
                        }
                        Order::Stop => {
                            stop(&mut child).await;
                            return Ended::Ordered;
                        }
                    }
                }
            }
        }
    }

    fn tell(&self, phase: Phase, pid: Option<u32>) {
        self.report.send_modify(|state| {
            state.phase = phase;
            state.pid = pid;
        });
        self.changed.notify_one();
    }

    fn remember(&self, line: String) {
        remember(&self.last, line);
    }

    fn why(&self, status: Option<ExitStatus>) -> String {
        let lines = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let said = lines
            .iter()
            .map(String::as_str)
            .collect::<Vec<_>>()
            .join(" | ");
        let status =
            status.map_or_else(|| "was not started".to_owned(), |status| status.to_string());
        if said.is_empty() {
            format!("{} ended: {status}", self.spec.name)
        } else {
            format!("{} ended: {status}: {said}", self.spec.name)
        }
    }
}

/// Has the kernel kill the process when this one ends, however it ends.
fn die_with_supervisor(command: &mut Command) {
    let supervisor = std::process::id();
    let follow = move || {
        set_parent_process_death_signal(Some(Signal::KILL))?;
        // It may have died before that call.
        let parent = getppid().map(Pid::as_raw_nonzero);
        if parent.and_then(|pid| u32::try_from(pid.get()).ok()) == Some(supervisor) {
            Ok(())
        } else {
            Err(std::io::ErrorKind::NotConnected.into())
        }
    };
    // SAFETY: between fork and exec it makes two system calls and nothing else: no memory is allocated, no lock is taken.
    unsafe {
        command.pre_exec(follow);
    }
}

/// SIGTERM, then SIGKILL when that did not help in time.
async fn stop(child: &mut Child) {
    let pid = child
        .id()
        .and_then(|id| i32::try_from(id).ok())
        .and_then(Pid::from_raw);
    if let Some(pid) = pid {
        let _ = kill_process(pid, Signal::TERM);
    }
    if timeout(STOP_PATIENCE, child.wait()).await.is_err() {
        let _ = child.kill().await;
    }
}

fn remember(last: &Mutex<VecDeque<String>>, line: String) {
    let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
    if last.len() == LAST_LINES {
        last.pop_front();
    }
    last.push_back(line);
}

/// Copies lines until the process closes its end.
async fn log_lines(
    from: impl AsyncRead + Unpin,
    name: String,
    sink: LogSink,
    last: Arc<Mutex<VecDeque<String>>>,
) {
    let mut file = match &sink {
        LogSink::File(path) => LogFile::open(path, BYTES_MAX).ok(),
        LogSink::Stderr(_) => None,
    };
    let mut from = BufReader::with_capacity(4 << 10, from);
    let mut line = Vec::new();
    while let Ok(more) = read_line(&mut from, &mut line).await {
        if !line.is_empty() {
            remember(
                &last,
                String::from_utf8_lossy(&line).chars().take(300).collect(),
            );
            match (&sink, &mut file) {
                // A log that cannot be written must not stop the process that writes it.
                (LogSink::File(_), Some(file)) => drop(file.line(&line)),
                (LogSink::File(_), None) => {}
                (LogSink::Stderr(format), _) => {
                    let mut whole = match format {
                        LogFormat::Text => format!("{name} | ").into_bytes(),
                        LogFormat::Json => Vec::new(),
                    };
                    whole.extend_from_slice(&line);
                    whole.push(b'\n');
                    let _ = std::io::stderr().lock().write_all(&whole);
                }
            }
        }
        if !more {
            break;
        }
    }
}

/// One line without its end, cut at [`LINE_BYTES_MAX`]; `false` at the end of the stream.
async fn read_line(
    from: &mut (impl AsyncBufRead + Unpin),
    line: &mut Vec<u8>,
) -> std::io::Result<bool> {
    line.clear();
    loop {
        let (used, done) = {
            let available = from.fill_buf().await?;
            if available.is_empty() {
                return Ok(false);
            }
            let end = available.iter().position(|byte| *byte == b'\n');
            let piece = available
                .get(..end.unwrap_or(available.len()))
                .unwrap_or_default();
            let room = LINE_BYTES_MAX.saturating_sub(line.len());
            line.extend_from_slice(piece.get(..room.min(piece.len())).unwrap_or_default());
            (end.map_or(available.len(), |end| end + 1), end.is_some())
        };
        from.consume(used);
        if done {
            return Ok(true);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_are_cut_and_the_rest_of_a_long_one_is_dropped() {
        let text = [
            b"one\n".as_slice(),
            &vec![b'x'; LINE_BYTES_MAX * 3],
            b"\ntwo\n\nend",
        ]
        .concat();
        let mut from = BufReader::with_capacity(1_000, text.as_slice());
        let mut line = Vec::new();
        let mut lines = Vec::new();
        while read_line(&mut from, &mut line).await.unwrap() {
            lines.push(line.len());
        }
        assert_eq!(lines, [3, LINE_BYTES_MAX, 3, 0]);
        assert_eq!(line, b"end");
    }
}

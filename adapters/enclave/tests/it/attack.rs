//! A neighbour of the same user, and the target's own parent at that, tries to look into it.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::FileExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, ChildStdout, Command, Stdio};

use enclave::{HardenError, harden};
use rustix::process::{Resource, Rlimit};

use crate::process::{Unprivileged, said, say};

const HARDENED: &str = "STRONGROOM_ENCLAVE_HARDENED";
/// In two parts, so that the program's own file does not hold the whole.
const PLANTED: [&str; 2] = ["planted-in-", "memory-of-the-target"];

/// The target: holds a secret, is hardened or not, and waits.
#[test]
#[ignore = "started by other tests, never by hand"]
fn target() {
    let Some(hardened) = std::env::var_os(HARDENED) else {
        return;
    };
    if hardened == "yes" {
        harden().unwrap();
    }
    let secret: Box<[u8]> = PLANTED.concat().into_bytes().into();
    say(&format!(
        "ready {:x} {}",
        secret.as_ptr().addr(),
        secret.len()
    ));
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).unwrap();
    std::hint::black_box(&secret);
    match line.trim() {
        "abort" => std::process::abort(),
        "harden" => say(&match harden() {
            Err(HardenError::Traced { tracer }) => format!("traced by {tracer}"),
            Ok(_) => "hardened".to_owned(),
            Err(error) => error.to_string(),
        }),
        _ => {}
    }
}

/// Starts the target as a child of this process; the caller waits for its end.
#[allow(clippy::zombie_processes)]
fn start(hardened: &str) -> (Child, BufReader<ChildStdout>, u64, usize) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([
            "attack::target",
            "--exact",
            "--ignored",
            "--nocapture",
            "--test-threads=1",
        ])
        .env(HARDENED, hardened)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    loop {
        let mut line = String::new();
        assert!(
            output.read_line(&mut line).unwrap() > 0,
            "the target never got ready"
        );
        if let Some(ready) = line.trim().strip_prefix("said: ready ") {
            let (address, length) = ready.split_once(' ').unwrap();
            let address = u64::from_str_radix(address, 16).unwrap();
            return (child, output, address, length.parse().unwrap());
        }
    }
}

/// The attacker: tries each way in and says what came of it.
#[test]
#[ignore = "started by other tests, never by hand"]
fn attacker() {
    let Ok(hardened) = std::env::var(HARDENED) else {
        return;
    };
    let (mut child, _output, address, length) = start(&hardened);
    let pid = child.id();

    let mut found = vec![0; length];
    let memory = File::open(format!("/proc/{pid}/mem"))
        .and_then(|memory| memory.read_exact_at(&mut found, address));
    say(&match memory {
        Ok(()) if found == PLANTED.concat().as_bytes() => "mem: found the secret".to_owned(),
        Ok(()) => "mem: something else".to_owned(),
        Err(error) => format!("mem: {:?}", error.kind()),
    });
    let environment = std::fs::read(format!("/proc/{pid}/environ"));
    say(&match environment {
        Ok(_) => "environ: read".to_owned(),
        Err(error) => format!("environ: {:?}", error.kind()),
    });
    let pid = libc::pid_t::try_from(pid).unwrap();
    // SAFETY: `ptrace` with SEIZE takes no pointers that it follows; the target is our child and still runs.
    let seized = unsafe { libc::ptrace(libc::PTRACE_SEIZE, pid, 0, 0) };
    let error = std::io::Error::last_os_error();
    say(&match seized {
        0 => "ptrace: attached".to_owned(),
        _ => format!("ptrace: {:?}", error.kind()),
    });
    child.stdin.take().unwrap().write_all(b"end\n").unwrap();
    if seized != 0 {
        child.wait().unwrap();
    } else {
        child.kill().unwrap();
    }
}

fn attack(hardened: &str) -> Vec<String> {
    let unprivileged = Unprivileged::new();
    let output = unprivileged
        .run("attack::attacker")
        .env(HARDENED, hardened)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    said(&output.stdout)
}

#[test]
fn no_neighbour_reads_or_traces_a_hardened_process() {
    assert_eq!(
        attack("no"),
        ["mem: found the secret", "environ: read", "ptrace: attached"]
    );
    assert_eq!(
        attack("yes"),
        [
            "mem: PermissionDenied",
            "environ: PermissionDenied",
            "ptrace: PermissionDenied"
        ]
    );
}

/// Lets core files be as large as they like, starts the target and has it abort.
#[test]
#[ignore = "started by other tests, never by hand"]
fn crasher() {
    let Ok(hardened) = std::env::var(HARDENED) else {
        return;
    };
    let limit = rustix::process::getrlimit(Resource::Core);
    let most = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    rustix::process::setrlimit(Resource::Core, most).unwrap();
    let (mut child, _output, _, _) = start(&hardened);
    child.stdin.take().unwrap().write_all(b"abort\n").unwrap();
    let status = child.wait().unwrap();
    assert_eq!(status.signal(), Some(libc::SIGABRT));
    say(if status.core_dumped() {
        "core dumped"
    } else {
        "no core"
    });
}

/// Whether it dumped core, and the files named so.
fn crash(hardened: &str) -> (Vec<String>, usize) {
    let unprivileged = Unprivileged::new();
    let mut command = unprivileged.run("attack::crasher");
    command.env(HARDENED, hardened);
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let cores = std::fs::read_dir(unprivileged.dir.path())
        .unwrap()
        .filter(|entry| {
            let name = entry.as_ref().unwrap().file_name();
            name.to_string_lossy().starts_with("core")
        })
        .count();
    (said(&output.stdout), cores)
}

#[test]
fn a_hardened_process_that_aborts_leaves_no_core() {
    assert_eq!(crash("yes"), (vec!["no core".to_owned()], 0));
    // The same process not hardened does leave one, where the system allows any: otherwise the line above shows little.
    let hard_limit = rustix::process::getrlimit(Resource::Core).maximum;
    let pattern = std::fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap();
    if hard_limit == Some(0) || pattern.starts_with('|') || pattern.trim() != "core" {
        println!(
            "core files cannot be made here at all (hard limit {hard_limit:?}, pattern {pattern:?})"
        );
        return;
    }
    assert_eq!(crash("no"), (vec!["core dumped".to_owned()], 1));
}

/// Attaches to a target that is not hardened yet, or does not, and then has it harden itself.
#[test]
#[ignore = "started by other tests, never by hand"]
fn debugger() {
    let Ok(attach) = std::env::var(HARDENED) else {
        return;
    };
    let (mut child, mut output, _, _) = start("no");
    if attach == "yes" {
        let pid = libc::pid_t::try_from(child.id()).unwrap();
        // SAFETY: as in `attacker`.
        assert_eq!(unsafe { libc::ptrace(libc::PTRACE_SEIZE, pid, 0, 0) }, 0);
        // The system names the thread that attached.
        let own = rustix::thread::gettid().as_raw_nonzero();
        say(&format!("this is {own}"));
    }
    child.stdin.take().unwrap().write_all(b"harden\n").unwrap();
    loop {
        let mut line = String::new();
        assert!(output.read_line(&mut line).unwrap() > 0, "no answer");
        if let Some(answer) = line.trim().strip_prefix("said: ") {
            say(answer);
            break;
        }
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_process_under_a_debugger_does_not_call_itself_hardened() {
    let run = |attach: &str| {
        let unprivileged = Unprivileged::new();
        let mut command = unprivileged.run("attack::debugger");
        said(&command.env(HARDENED, attach).output().unwrap().stdout)
    };
    assert_eq!(run("no"), ["hardened"]);
    let said = run("yes");
    let debugger = said[0].strip_prefix("this is ").unwrap();
    assert_eq!(said[1], format!("traced by {debugger}"));
}

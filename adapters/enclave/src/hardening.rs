//! Nobody without privilege looks into this process: no core dump, no debugger, no reading of its memory.

use std::io;

use rustix::process::{DumpableBehavior, Resource, Rlimit};

/// Why a process could not be closed. It must not hold secrets then.
#[derive(Debug, thiserror::Error)]
pub enum HardenError {
    /// The system refused.
    #[error("cannot {action}: {source}")]
    System {
        /// What was tried, as a verb.
        action: &'static str,
        /// The system's answer.
        source: io::Error,
    },
    /// The system did not refuse and did not do it either.
    #[error("the system did not {0}")]
    NotInForce(&'static str),
    /// A debugger is attached already; what it has seen cannot be taken back.
    #[error("process {tracer} is tracing this process")]
    Traced {
        /// Its number.
        tracer: u32,
    },
}

/// Proof that [`harden`] was called in this process and found everything in force.
#[derive(Debug)]
pub struct Hardened(());

/// Closes this process: first thing in `main`, before any secret is read and before any thread is started.
///
/// - `RLIMIT_CORE` is 0, hard limit included: no core file, not even a program that the core pattern pipes to gets one
///   from a process that is not dumpable.
/// - `PR_SET_DUMPABLE` is 0: another process of the same user can neither attach (ptrace) nor read `/proc/PID/mem`.
/// - `PR_SET_NO_NEW_PRIVS` is set: nothing that this process starts gains privilege through a set-user-id file. (An
///   `execve` makes the new program dumpable again; these programs start none.)
///
/// Root, and whoever has `CAP_SYS_PTRACE`, is not kept out.
///
/// # Errors
/// [`HardenError`]; also when a debugger is attached already.
pub fn harden() -> Result<Hardened, HardenError> {
    let failed = |action| {
        move |errno: rustix::io::Errno| HardenError::System {
            action,
            source: errno.into(),
        }
    };
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    rustix::process::setrlimit(Resource::Core, none).map_err(failed("switch off core dumps"))?;
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .map_err(failed("make the process undumpable"))?;
    rustix::thread::set_no_new_privs(true).map_err(failed("give up new privileges"))?;
    check()?;
    Ok(Hardened(()))
}

fn check() -> Result<(), HardenError> {
    let limit = rustix::process::getrlimit(Resource::Core);
    if (limit.current, limit.maximum) != (Some(0), Some(0)) {
        return Err(HardenError::NotInForce("switch off core dumps"));
    }
    if rustix::process::dumpable_behavior().ok() != Some(DumpableBehavior::NotDumpable) {
        return Err(HardenError::NotInForce("make the process undumpable"));
    }
    if rustix::thread::no_new_privs().ok() != Some(true) {
        return Err(HardenError::NotInForce("give up new privileges"));
    }
    // Looked at last: from here on nobody can attach any more.
    match tracer()? {
        0 => Ok(()),
        tracer => Err(HardenError::Traced { tracer }),
    }
}

fn tracer() -> Result<u32, HardenError> {
    let status =
        std::fs::read_to_string("/proc/self/status").map_err(|source| HardenError::System {
            action: "look for a debugger",
            source,
        })?;
    status
        .lines()
        .find_map(|line| line.strip_prefix("TracerPid:"))
        .and_then(|number| number.trim().parse().ok())
        .ok_or(HardenError::NotInForce(
            "say whether a debugger is attached",
        ))
}

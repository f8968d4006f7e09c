//! What makes a process an enclave, as far as this machine can: where its evidence and its sealing key come from, and
//! that nobody without privilege looks into it.
//!
//! What this crate does: [`SoftwarePlatform`] implements the evidence and sealing ports of [`attestation`] with keys that
//! lie in the configuration folder; [`harden`] switches off core dumps and tracing; [`LockedPool`] keeps secrets in memory
//! that is never swapped, dumped or inherited.
//!
//! What it does not do: protect anything from the owner of the machine. Root reads every process's memory whatever is
//! switched off here, and the software platform's keys lie on the same disk. Real hardware comes behind the same ports.
//! System-call filtering and file-system sandboxing are not here either.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod hardening;
pub mod locked;
pub mod measure;
pub mod software;

pub use hardening::{HardenError, Hardened, harden};
pub use locked::{LockError, LockedPool, LockedSecret};
pub use measure::{MeasureError, measure_file, measure_self};
pub use software::{PlatformError, SoftwarePlatform};

//! Randomness from the operating system, the only source this library has.

use getrandom::SysRng;
use getrandom::rand_core::UnwrapErr;

use crate::error::{Error, Result};

/// Fills `bytes`.
pub(crate) fn fill(bytes: &mut [u8]) -> Result<()> {
    getrandom::fill(bytes).map_err(|error| {
        Error::Internal(format!("the operating system gives no randomness: {error}"))
    })
}

/// A generator for the pure crates. Panics when the operating system has no randomness: nothing can be encrypted then.
pub(crate) fn rng() -> UnwrapErr<SysRng> {
    UnwrapErr(SysRng)
}

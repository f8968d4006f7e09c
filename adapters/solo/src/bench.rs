//! A ledger with a given state at height 1, for measurements: filling one through transactions takes minutes.

use std::io;

use domain::Height;
use ledger::header::{Certificate, sign_header};
use ledger::port::FinalHeader;
use ledger::{Chain, State};

use crate::SoloConfig;
use crate::disk::OsDisk;
use crate::log::Log;
use crate::{open, snapshot};

/// Writes `state`, which is at height 1, as the snapshot of a ledger that was made and never opened. Bytes written.
///
/// # Errors
/// [`io::Error`].
pub fn seed(config: &SoloConfig, state: State) -> io::Result<u64> {
    let chain = Chain::from(state.genesis_record());
    let mut header = open::genesis_header(&state, &chain);
    header.height = Height(1);
    let signature = sign_header(&config.validator, &chain.deployment, &header);
    let last = FinalHeader {
        header,
        certificate: Certificate {
            signatures: vec![signature],
        },
    };
    Log::create(&OsDisk, &config.dir, chain.genesis, Height(2))?;
    snapshot::write(&OsDisk, &config.dir, &last, state.tree())
}

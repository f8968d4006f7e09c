//! Commands that look at the ledger.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

/// `ledger`.
#[derive(Debug, Args)]
pub struct LedgerArgs {
    /// What to look at.
    #[command(subcommand)]
    pub command: LedgerCommand,
}

/// What `ledger` shows.
#[derive(Debug, Subcommand)]
pub enum LedgerCommand {
    /// The ledger at this moment: what is proved of it, and what its validator says
    Status,
    /// What became of a recent transaction
    Tx {
        /// Its hash, 64 hexadecimal digits
        #[arg(value_name = "HASH")]
        hash: String,
    },
    /// A value with the proof that shows it, checked against the pinned genesis
    #[command(after_help = "\
Examples:
  strongroom ledger proof governance
  strongroom ledger proof key-status KEY
  strongroom ledger proof key-grant KEY/PRINCIPAL --json   everything that a verifier needs")]
    Proof {
        /// Kind of the value
        #[arg(value_name = "KIND")]
        kind: ValueKind,
        /// Of what: a principal, key, committee; KEY/VERSION, KEY/PRINCIPAL
        #[arg(value_name = "ID")]
        id: Option<String>,
    },
}

/// A kind of value on the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ValueKind {
    /// The genesis record.
    Genesis,
    /// Who signs headers.
    Validators,
    /// Who governs.
    Governance,
    /// A principal's account.
    Account,
    /// How a key was created: KEY.
    KeyCreation,
    /// Where a key stands: KEY.
    KeyStatus,
    /// A version of a key: KEY/VERSION.
    KeyVersion,
    /// A grant: KEY/PRINCIPAL.
    KeyGrant,
    /// A committee of custodians.
    Committee,
    /// An enrolled worker: PRINCIPAL.
    Worker,
}

/// `attest`.
#[derive(Debug, Args)]
pub struct AttestArgs {
    /// What to look at.
    #[command(subcommand)]
    pub command: AttestCommand,
}

/// What `attest` shows.
#[derive(Debug, Clone, Subcommand)]
pub enum AttestCommand {
    /// The attestation policy of the ledger, with proofs, and what custodians and workers run
    Show,
    /// The measurement of a custodian's or worker's program on the software platform: what `admin provision` allows
    Measure {
        /// Its file
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
}

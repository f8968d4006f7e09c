//! Commands that work with named keys and with what is encrypted to them.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use client::KeyAddress;
use domain::{CommitteeId, KeyId, KeyName, KeyVersion, Principal};

use crate::units::parse_duration;

/// `key`.
#[derive(Debug, Args)]
#[command(after_help = "\
A named key opens nothing by itself: its halves lie as shares with custodians, who release what the ledger's grants allow.
There is no key file to lose or to steal.

A KEY is NAME (your own), PRINCIPAL/NAME (another's) or a key id.

Examples:
  strongroom key create payroll
  strongroom key grant payroll PRINCIPAL
  strongroom key public-key payroll -o payroll.pub    for encrypting without a network
  strongroom key rotate payroll
  strongroom key revoke payroll PRINCIPAL")]
pub struct KeyArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: KeyCommand,
}

/// What `key` does.
#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    /// Make a named key with its first version; goes on where an interrupted one stopped
    Create {
        /// Its name among your keys: letters, digits, `.`, `-` and `_`
        #[arg(value_name = "NAME")]
        name: KeyName,
        /// Name that every encryption context must have, or custodians refuse; may be repeated
        #[arg(long = "require-context", value_name = "NAME")]
        require_context: Vec<String>,
        /// Committee of custodians [default: the one that was admitted last]
        #[arg(long, value_name = "ID")]
        committee: Option<CommitteeId>,
    },
    /// List keys
    Ls {
        /// Whose [default: yours]
        #[arg(long, value_name = "PRINCIPAL")]
        owner: Option<Principal>,
    },
    /// Show a key with its versions and grants
    Show {
        /// Which key
        #[arg(value_name = "KEY")]
        key: KeyAddress,
    },
    /// Make a new version and encrypt under it from now on; old ones still open
    Rotate {
        /// Which key
        #[arg(value_name = "KEY")]
        key: KeyAddress,
    },
    /// Let a principal use a key
    Grant {
        /// Which key
        #[arg(value_name = "KEY")]
        key: KeyAddress,
        /// Who may
        #[arg(value_name = "PRINCIPAL")]
        grantee: Principal,
        /// What; may be repeated
        #[arg(long = "can", value_name = "WHAT", default_value = "decrypt")]
        can: Vec<Permission>,
        /// Until when, from now [default: until revoked]
        #[arg(long, value_name = "TIME", value_parser = parse_duration)]
        expires: Option<Duration>,
    },
    /// Take a grant back; returns when no majority of custodians releases under it any more
    Revoke {
        /// Which key
        #[arg(value_name = "KEY")]
        key: KeyAddress,
        /// Whose grant
        #[arg(value_name = "PRINCIPAL")]
        grantee: Principal,
    },
    /// Set when a version, or the whole key, stops opening anything
    Retire {
        /// Which key
        #[arg(value_name = "KEY")]
        key: KeyAddress,
        /// A version that is not the current one [default: the whole key]
        #[arg(long, value_name = "N")]
        version: Option<KeyVersion>,
        /// From now
        #[arg(long = "in", value_name = "TIME", default_value = "24h", value_parser = parse_duration)]
        after: Duration,
        /// Take back a deadline that has not passed
        #[arg(long, conflicts_with = "after")]
        cancel: bool,
    },
    /// Write the public keys of a key, with what proves them, for encrypting without a network
    PublicKey {
        /// Which key
        #[arg(value_name = "KEY")]
        key: KeyAddress,
        /// A version [default: the current one]
        #[arg(long, value_name = "N")]
        version: Option<KeyVersion>,
        /// New file, or `-` for standard output
        #[arg(long, short, value_name = "FILE", default_value = "-")]
        output: OsString,
    },
    /// Protect a key from being retired or destroyed
    DeleteProtect {
        /// Which key
        #[arg(value_name = "KEY")]
        key: KeyAddress,
        /// Protect it no longer
        #[arg(long)]
        off: bool,
    },
    /// Set the version below which custodians open nothing
    SetMinVersion {
        /// Which key
        #[arg(value_name = "KEY")]
        key: KeyAddress,
        /// The least version that is opened
        #[arg(value_name = "N")]
        version: KeyVersion,
    },
    /// Make a fresh data key of 32 bytes and print it, in the open and encrypted to a named key
    #[command(after_help = "\
The data key is for another program's encryption. Keep the envelope beside the data and forget the data key; `strongroom decrypt`
of the envelope gives it back.")]
    Datakey {
        /// Which key
        #[arg(value_name = "KEY")]
        key: KeyAddress,
        /// Encryption context NAME=VALUE, in the open and bound to it; may be repeated
        #[arg(long, value_name = "NAME=VALUE")]
        context: Vec<String>,
        /// Leave the data key itself out: whoever needs it decrypts the envelope
        #[arg(long)]
        without_plaintext: bool,
    },
    /// Wrap envelopes to the current version of their key, without touching what is in them
    Rewrap {
        /// Envelopes, replaced in place
        #[arg(value_name = "FILE", required = true)]
        files: Vec<PathBuf>,
        /// Another key in the place of the one that they are wrapped to
        #[arg(long, value_name = "KEY")]
        to: Option<KeyAddress>,
    },
}

/// What a grant allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Permission {
    /// Open what is encrypted to the key
    Decrypt,
    /// Pass on to others what one has oneself
    Grant,
    /// Make new versions
    Rotate,
}

/// `encrypt`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  strongroom encrypt --key payroll salaries.csv                     as salaries.csv.sealed
  strongroom encrypt --key payroll --context month=2026-11 *.csv
  strongroom encrypt --public-key payroll.pub --armor note.txt -o -  without any network
  tar c etc | strongroom encrypt --key backup -o etc.tar.sealed
  strongroom encrypt --passphrase --recipient me diary.txt

Every holder that is given can open it alone. Nothing in an envelope says who made it. The context is in the open and bound to the
content: custodians see it, and whoever changes it opens nothing.")]
pub struct EncryptArgs {
    /// Files, or `-` for standard input
    #[arg(value_name = "FILE", default_value = "-")]
    pub files: Vec<OsString>,
    /// File to write, or `-` for standard output [default: FILE.sealed; of standard input, standard output]
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<OsString>,
    /// Named key whose grantees may open it; may be repeated
    #[arg(long, value_name = "KEY")]
    pub key: Vec<KeyAddress>,
    /// Exported public key (`key public-key`): needs no network; may be repeated
    #[arg(long, value_name = "FILE")]
    pub public_key: Vec<PathBuf>,
    /// Id that an exported public key must have; needed where no genesis of its deployment is pinned
    #[arg(long, value_name = "ID")]
    pub expect: Vec<KeyId>,
    /// `me`, or a file with another's receiver key (`identity receiver-key`); may be repeated
    #[arg(long, value_name = "FILE")]
    pub recipient: Vec<OsString>,
    /// A passphrase opens it: asked for, or the first line of FILE
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    pub passphrase: Option<OsString>,
    /// Encryption context NAME=VALUE, in the open and bound to the content; may be repeated
    #[arg(long, value_name = "NAME=VALUE")]
    pub context: Vec<String>,
    /// Write text that survives mail and terminals
    #[arg(long, short)]
    pub armor: bool,
    /// Replace files that exist
    #[arg(long, short)]
    pub force: bool,
}

/// `decrypt`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  strongroom decrypt salaries.csv.sealed                as salaries.csv
  strongroom decrypt -o - note.txt.sealed
  strongroom decrypt *.sealed                           custodians are asked once for up to 64 files
  strongroom decrypt --passphrase diary.txt.sealed

Files appear whole or not at all. What goes to standard output is written piece by piece, each after it was checked: see the exit
status before relying on it.")]
pub struct DecryptArgs {
    /// Envelopes, binary or armored, or `-` for standard input
    #[arg(value_name = "FILE", default_value = "-")]
    pub files: Vec<OsString>,
    /// File to write, or `-` for standard output [default: FILE without `.sealed`; of standard input, standard output]
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<OsString>,
    /// Open with a passphrase: asked for, or the first line of FILE
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    pub passphrase: Option<OsString>,
    /// Entry NAME=VALUE that the encryption context must have; may be repeated
    #[arg(long, value_name = "NAME=VALUE")]
    pub context: Vec<String>,
    /// Replace files that exist
    #[arg(long, short)]
    pub force: bool,
}

/// `audit`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  strongroom audit log --key payroll
  strongroom audit verify --key payroll

Every custodian writes down each decision in a chain of hashes of its own. You see the entries about your keys; of others only that
they are there.")]
pub struct AuditArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: AuditCommand,
}

/// What `audit` does.
#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// Show what custodians decided about a key
    Log {
        /// Which key
        #[arg(long, value_name = "KEY")]
        key: KeyAddress,
        /// One custodian only, by its share index [default: each]
        #[arg(long, value_name = "INDEX")]
        custodian: Option<u8>,
        /// Entries after this number [default: from the beginning]
        #[arg(long, value_name = "N", default_value = "0")]
        after: u64,
        /// Entries of each custodian's log that are looked at, at most
        #[arg(long, value_name = "N", default_value = "1000", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
        limit: u64,
    },
    /// Check the logs of a key's custodians from their beginning, and against what was seen of them before
    Verify {
        /// Which key
        #[arg(long, value_name = "KEY")]
        key: KeyAddress,
    },
}

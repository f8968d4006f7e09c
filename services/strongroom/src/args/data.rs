//! Commands that move and look at data.

use std::ffi::OsString;

use clap::{Args, Subcommand};

use crate::units::parse_size;

/// Options of every command that transfers bytes.
#[derive(Clone, Debug, Args)]
pub struct TransferArgs {
    /// Bytes per second, at most, over all transfers [default: no limit]
    #[arg(long, value_name = "SIZE", env = "STRONGROOM_BANDWIDTH_LIMIT", value_parser = parse_size)]
    pub bandwidth_limit: Option<u64>,
    /// Objects in flight at once
    #[arg(long, short = 'j', value_name = "N", default_value = "4", value_parser = clap::value_parser!(u16).range(1..=64))]
    pub jobs: u16,
}

/// `put`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  strongroom put report.pdf sr://documents              as sr://documents/report.pdf
  strongroom put report.pdf sr://documents/2026/q1.pdf  under that very key
  strongroom put -r holiday sr://photos                 as sr://photos/holiday/...
  strongroom put -r holiday/ sr://photos/2026/          what is inside holiday, under 2026/
  strongroom put '*.jpg' '*.png' sr://photos/
  tar c etc | strongroom put - sr://backup/etc.tar

An interrupted put of a file goes on where it stopped when the same command is given again.")]
pub struct PutArgs {
    /// Files, folders (with -r), quoted globs, or `-`; then the address to put them at
    #[arg(value_name = "SOURCE... ADDRESS", required = true, num_args = 2..)]
    pub operands: Vec<OsString>,
    /// Store folders with everything in them
    #[arg(long, short)]
    pub recursive: bool,
    /// Return only when every object survives the loss of 4 nodes, not 2
    #[arg(long)]
    pub wait_placed: bool,
    /// Fail when the object exists already
    #[arg(long)]
    pub no_overwrite: bool,
    /// Options of transfers.
    #[command(flatten)]
    pub transfer: TransferArgs,
}

/// `get`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  strongroom get sr://documents/report.pdf              into ./report.pdf
  strongroom get sr://documents/report.pdf /tmp/r.pdf
  strongroom get 'sr://photos/2026/*.jpg' pictures/
  strongroom get -r sr://photos/holiday .               into ./holiday/...
  strongroom get sr://backup/etc.tar - | tar t

An interrupted get goes on where it stopped when the same command is given again. Every byte is checked before it is
written. A key that would lead outside the target folder is refused.")]
pub struct GetArgs {
    /// Addresses or quoted globs of objects; then the target: a file, a folder, or `-` [default: .]
    #[arg(value_name = "ADDRESS... [TARGET]", required = true, num_args = 1..)]
    pub operands: Vec<OsString>,
    /// Fetch everything below each address
    #[arg(long, short)]
    pub recursive: bool,
    /// Take `*`, `?`, `[` and `{` in keys literally
    #[arg(long)]
    pub no_glob: bool,
    /// Leave files that exist as they are, and fail for them
    #[arg(long)]
    pub no_overwrite: bool,
    /// Options of transfers.
    #[command(flatten)]
    pub transfer: TransferArgs,
}

/// `cat`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  strongroom cat sr://documents/notes.txt
  strongroom cat --range 0-65535 sr://backup/disk.img | file -")]
pub struct CatArgs {
    /// Addresses of objects
    #[arg(value_name = "ADDRESS", required = true)]
    pub addresses: Vec<OsString>,
    /// Bytes FIRST-LAST (both included), or FIRST- to the end, or -N for the last N
    #[arg(long, value_name = "RANGE", allow_hyphen_values = true)]
    pub range: Option<String>,
}

/// `ls`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  strongroom ls                        buckets
  strongroom ls sr://photos            what is directly in it
  strongroom ls -r sr://photos/2026/
  strongroom ls 'sr://photos/*/*.jpg'")]
pub struct LsArgs {
    /// Bucket, folder, object or quoted glob; without one, the buckets
    #[arg(value_name = "ADDRESS")]
    pub addresses: Vec<OsString>,
    /// Everything below, not only what is directly in it
    #[arg(long, short)]
    pub recursive: bool,
    /// Exact sizes in bytes
    #[arg(long)]
    pub bytes: bool,
    /// Take `*`, `?`, `[` and `{` in keys literally
    #[arg(long)]
    pub no_glob: bool,
}

/// `stat`.
#[derive(Debug, Args)]
pub struct StatArgs {
    /// Addresses of objects or buckets
    #[arg(value_name = "ADDRESS", required = true)]
    pub addresses: Vec<OsString>,
}

/// `du`.
#[derive(Debug, Args)]
pub struct DuArgs {
    /// Buckets or folders; without one, every bucket
    #[arg(value_name = "ADDRESS")]
    pub addresses: Vec<OsString>,
    /// Exact sizes in bytes
    #[arg(long)]
    pub bytes: bool,
}

/// `cp`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  strongroom cp sr://photos/a.jpg sr://archive/a.jpg
  strongroom cp -r sr://photos/2025/ sr://archive/photos/
  strongroom cp report.pdf sr://documents/              as `put` does
  strongroom cp sr://documents/report.pdf .             as `get` does

Between buckets only keys are wrapped anew: no data is read or written.")]
pub struct CpArgs {
    /// Sources, then the target; addresses need their scheme here
    #[arg(value_name = "SOURCE... TARGET", required = true, num_args = 2..)]
    pub operands: Vec<OsString>,
    /// Copy everything below
    #[arg(long, short)]
    pub recursive: bool,
    /// Fail when the target exists already
    #[arg(long)]
    pub no_overwrite: bool,
    /// Take `*`, `?`, `[` and `{` in keys literally
    #[arg(long)]
    pub no_glob: bool,
    /// Options of transfers.
    #[command(flatten)]
    pub transfer: TransferArgs,
}

/// `mv`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  strongroom mv sr://photos/a.jpg sr://photos/b.jpg
  strongroom mv -r sr://photos/2025/ sr://photos/archive/2025/

Within a bucket a move is one transaction: the object is never at both keys or at neither.")]
pub struct MvArgs {
    /// Sources, then the target
    #[arg(value_name = "SOURCE... TARGET", required = true, num_args = 2..)]
    pub operands: Vec<OsString>,
    /// Move everything below
    #[arg(long, short)]
    pub recursive: bool,
    /// Fail when the target exists already
    #[arg(long)]
    pub no_overwrite: bool,
    /// Take `*`, `?`, `[` and `{` in keys literally
    #[arg(long)]
    pub no_glob: bool,
}

/// `rm`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  strongroom rm sr://photos/a.jpg
  strongroom rm 'sr://photos/2025/*.tmp'
  strongroom rm -r sr://photos/2025/")]
pub struct RmArgs {
    /// Addresses or quoted globs of objects
    #[arg(value_name = "ADDRESS", required = true)]
    pub addresses: Vec<OsString>,
    /// Delete everything below
    #[arg(long, short)]
    pub recursive: bool,
    /// Succeed when there is nothing to delete
    #[arg(long, short)]
    pub force: bool,
    /// Say what would be deleted, and delete nothing
    #[arg(long, short = 'n')]
    pub dry_run: bool,
    /// Take `*`, `?`, `[` and `{` in keys literally
    #[arg(long)]
    pub no_glob: bool,
}

/// `sync`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  strongroom sync ./site sr://www/                       local to remote
  strongroom sync sr://www/ ./site --delete              remote to local, removing what is not there
  strongroom sync ./src sr://backup/src --exclude target --exclude '*.o' --dry-run

What did not change since the last sync is skipped. Files that are excluded are never deleted.")]
pub struct SyncArgs {
    /// Folder or address to read from
    #[arg(value_name = "SOURCE")]
    pub source: OsString,
    /// Address or folder to make alike
    #[arg(value_name = "TARGET")]
    pub target: OsString,
    /// Leave out what matches: a name anywhere, or a path from the top if it has a `/`; may be repeated
    #[arg(long, short = 'x', value_name = "GLOB")]
    pub exclude: Vec<String>,
    /// Delete from the target what the source does not have
    #[arg(long)]
    pub delete: bool,
    /// Say what would be done, and do nothing
    #[arg(long, short = 'n')]
    pub dry_run: bool,
    /// Options of transfers.
    #[command(flatten)]
    pub transfer: TransferArgs,
}

/// `verify`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  strongroom verify sr://documents/report.pdf
  strongroom verify -r sr://documents

Every chunk is fetched, its hash and every tag are checked, and nothing is written.")]
pub struct VerifyArgs {
    /// Addresses or quoted globs of objects
    #[arg(value_name = "ADDRESS", required = true)]
    pub addresses: Vec<OsString>,
    /// Everything below
    #[arg(long, short)]
    pub recursive: bool,
    /// Take `*`, `?`, `[` and `{` in keys literally
    #[arg(long)]
    pub no_glob: bool,
    /// Options of transfers.
    #[command(flatten)]
    pub transfer: TransferArgs,
}

/// `mb`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  strongroom mb sr://photos
  strongroom mb --key payroll sr://payslips       opened by whoever the ledger permits to use that key
  strongroom mb --profile untrusted sr://photos   10+10: twice the bytes, for nodes of strangers")]
pub struct MbArgs {
    /// Names of buckets
    #[arg(value_name = "ADDRESS", required = true)]
    pub addresses: Vec<OsString>,
    /// How chunks are coded: datacentre (10+4), untrusted (10+10), or K+M
    #[arg(long, value_name = "PROFILE", default_value = "datacentre")]
    pub profile: domain::Profile,
    /// Named key that opens what is put into it, and nothing else does [default: each writer's own identity]
    #[arg(long, value_name = "KEY")]
    pub key: Option<client::KeyAddress>,
}

/// `bucket`.
#[derive(Debug, Args)]
pub struct BucketArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: BucketCommand,
}

/// What to do with a bucket.
#[derive(Debug, Subcommand)]
pub enum BucketCommand {
    /// Show who owns, writes and reads it, and what its keys are wrapped to
    Show {
        /// Name of the bucket
        #[arg(value_name = "ADDRESS")]
        address: OsString,
    },
    /// Let a principal read or write
    #[command(after_help = "\
Examples:
  strongroom bucket grant sr://payslips SRuPf... read
  strongroom bucket grant sr://payslips SRuPf... write

READ lets somebody fetch ciphertext; what opens it is a matter of keys: for a bucket on a named key, grant them that key
too (strongroom key grant). Only the bucket's owner may do this.")]
    Grant(BucketRightArgs),
    /// Take a right away
    #[command(after_help = "\
Example:
  strongroom bucket revoke sr://payslips SRuPf... write

From then on the gateway refuses them, and new objects come under new bucket keys. What they fetched before, they have;
what they wrote stays readable.")]
    Revoke(BucketRightArgs),
}

/// A right of a principal in a bucket.
#[derive(Debug, Args)]
pub struct BucketRightArgs {
    /// Name of the bucket
    #[arg(value_name = "ADDRESS")]
    pub address: OsString,
    /// Whose right: as `strongroom identity show` prints it
    #[arg(value_name = "PRINCIPAL")]
    pub principal: domain::Principal,
    /// Which right
    #[arg(value_name = "RIGHT")]
    pub right: BucketRight,
}

/// What a principal may do besides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum BucketRight {
    /// Fetch ciphertext, list
    Read,
    /// Put, replace and delete objects; reads too
    Write,
}

/// `rb`.
#[derive(Debug, Args)]
pub struct RbArgs {
    /// Names of empty buckets
    #[arg(value_name = "ADDRESS", required = true)]
    pub addresses: Vec<OsString>,
}

//! The grammar of the command line.

mod data;
mod keys;
mod ledger;
mod platform;

use std::path::PathBuf;

use clap::builder::styling::{AnsiColor, Styles};
use clap::{Args, Parser, Subcommand};

pub use data::*;
pub use keys::*;
pub use ledger::*;
pub use platform::*;

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Cyan.on_default().bold())
    .usage(AnsiColor::Cyan.on_default().bold())
    .literal(AnsiColor::Green.on_default());

const AFTER_HELP: &str = "\
Addresses:
  sr://BUCKET/KEY names an object (strongroom:// is the long form); BUCKET/KEY does where only an address makes
  sense. Keys are taken literally: nothing is percent-decoded. `-` is standard input or output.

Settings:
  Every option can also be set by the environment variable named beside it and in one TOML file
  (config.toml in the configuration folder). Options win over the environment, the environment over the file.

Exit status:
  0 success; 1 failure; 2 wrong usage or configuration; 3 not found; 4 refused (passphrase, permission);
  5 integrity failure; 6 unavailable, try again; 7 conflict; 8 some items failed; 130 interrupted

Examples:
  strongroom init                          make an identity and a deployment in ./data
  strongroom up                            run the whole platform from ./data
  strongroom mb sr://photos                make a bucket
  strongroom put -r holiday sr://photos    store a folder
  strongroom get sr://photos/holiday/*.jpg ./pictures/";

/// Keeps files as encrypted pieces on machines that cannot read them.
#[derive(Debug, Parser)]
#[command(
    name = "strongroom",
    version,
    styles = STYLES,
    max_term_width = 110,
    after_long_help = AFTER_HELP,
    after_help = "`strongroom help` explains addresses, settings, exit statuses and has examples.",
    disable_help_subcommand = false,
    subcommand_required = true,
    arg_required_else_help = true
)]
pub struct Cli {
    /// Options of every command.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Options of every command.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Options of every command")]
pub struct Global {
    /// Print results as JSON, one value per line, and failures as JSON on standard error
    #[arg(long, global = true, display_order = 900)]
    pub json: bool,
    /// Say nothing but results and failures
    #[arg(long, short, global = true, display_order = 901)]
    pub quiet: bool,
    /// Draw no progress bars
    #[arg(long, global = true, display_order = 902)]
    pub no_progress: bool,
    /// Folder of the identity, settings and local state [default: $XDG_CONFIG_HOME/strongroom]
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        env = "STRONGROOM_CONFIG_DIR",
        display_order = 910
    )]
    pub config_dir: Option<PathBuf>,
    /// Settings file [default: config.toml in the configuration folder]
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "STRONGROOM_CONFIG",
        display_order = 911
    )]
    pub config: Option<PathBuf>,
    /// Where the gateway answers [default: http://127.0.0.1:8080]
    #[arg(
        long,
        global = true,
        value_name = "URL",
        env = "STRONGROOM_ENDPOINT",
        display_order = 912
    )]
    pub endpoint: Option<String>,
    /// The deployment that must answer; the first one that answered is remembered otherwise
    #[arg(
        long,
        global = true,
        value_name = "ID",
        env = "STRONGROOM_DEPLOYMENT",
        display_order = 913
    )]
    pub deployment: Option<String>,
    /// File whose first line is the passphrase of the identity
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "STRONGROOM_PASSPHRASE_FILE",
        display_order = 914
    )]
    pub passphrase_file: Option<PathBuf>,
    /// Command that prints the passphrase of the identity
    #[arg(
        long,
        global = true,
        value_name = "COMMAND",
        env = "STRONGROOM_PASSPHRASE_COMMAND",
        display_order = 915
    )]
    pub passphrase_command: Option<String>,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make an identity, and a deployment with its keys and certificates
    Init(InitArgs),
    /// Run the whole platform: gateway, 14 storage nodes, ledger, custodians and workers, each a process
    Up(UpArgs),
    /// Store a file, lose 4 of 14 nodes, read it back and compare; then keep serving
    Prove(ProveArgs),
    /// Run one storage node
    Node(NodeArgs),
    /// Run a gateway
    Gateway(GatewayArgs),
    /// Run the ledger's validator
    Validator(ValidatorArgs),
    /// Carry what enclaves on this machine ask to a validator elsewhere
    Relay(RelayArgs),

    /// Store files and folders
    Put(PutArgs),
    /// Fetch objects into files
    Get(GetArgs),
    /// Write objects to standard output
    Cat(CatArgs),
    /// List buckets and objects
    Ls(LsArgs),
    /// Show what is known about an object, and where its pieces are
    Stat(StatArgs),
    /// Sum up the sizes of objects
    Du(DuArgs),
    /// Copy objects, without moving their bytes where both sides are remote
    Cp(CpArgs),
    /// Move or rename objects
    Mv(MvArgs),
    /// Delete objects
    Rm(RmArgs),
    /// Make a folder and a bucket alike, in one direction
    Sync(SyncArgs),
    /// Read objects back and check every hash and tag
    Verify(VerifyArgs),
    /// Make a bucket
    Mb(MbArgs),
    /// Remove an empty bucket
    Rb(RbArgs),
    /// Show a bucket, and say who may read and write it
    Bucket(BucketArgs),

    /// Make, show, grant and rotate named keys, which nobody holds
    Key(KeyArgs),
    /// Encrypt files or a stream to named keys, people or a passphrase
    Encrypt(EncryptArgs),
    /// Open what `encrypt` made
    Decrypt(DecryptArgs),
    /// Read and check what custodians wrote down
    Audit(AuditArgs),

    /// Show, export or import the identity
    Identity(IdentityArgs),
    /// Make a short-lived bearer token, for curl and the like
    Token(TokenArgs),
    /// Look after a deployment
    Admin(AdminArgs),
    /// Look at the ledger, and check what it says
    Ledger(LedgerArgs),
    /// Show which code may hold keys here, and what that is worth
    Attest(AttestArgs),
    /// Measure the platform from here
    Bench(BenchArgs),

    /// Show the settings in force and where each came from
    Config(ConfigArgs),
    /// Print the shell completions
    Completions(CompletionsArgs),
    /// Write the manual pages into a folder
    Man(ManArgs),
}

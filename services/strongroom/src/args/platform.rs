//! Commands that make, run and look after a platform.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use crate::units::{parse_duration, parse_size};

/// `init`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  strongroom init                                   asks for a passphrase, uses ./data
  strongroom init --data /srv/strongroom --recovery-key-file /media/usb/recovery.txt
  STRONGROOM_PASSPHRASE_FILE=pass strongroom init --json --recovery-key-file key.txt

The identity (your key) is written to the configuration folder, sealed under the passphrase; an identity that is
there is kept. The deployment is written to the data folder. The recovery key is shown once and stored nowhere.")]
pub struct InitArgs {
    /// Folder of the deployment [default: ./data]
    #[arg(long, value_name = "DIR", env = "STRONGROOM_DATA")]
    pub data: Option<PathBuf>,
    /// Write the recovery key to this new file instead of showing it
    #[arg(long, value_name = "FILE", env = "STRONGROOM_RECOVERY_KEY_FILE")]
    pub recovery_key_file: Option<PathBuf>,
    /// Make the identity only, to use a deployment that runs elsewhere
    #[arg(long)]
    pub identity_only: bool,
}

/// Options of `up` that `prove` shares.
#[derive(Clone, Debug, Default, Args)]
pub struct PlatformArgs {
    /// Folder of the deployment [default: ./data]
    #[arg(long, value_name = "DIR", env = "STRONGROOM_DATA")]
    pub data: Option<PathBuf>,
    /// Where REST is served; port 0 takes a free one [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDRESS:PORT", env = "STRONGROOM_LISTEN")]
    pub listen: Option<SocketAddr>,
    /// Where gRPC is served; port 0 takes a free one [default: 127.0.0.1:50051, a free port if that one is taken]
    #[arg(long, value_name = "ADDRESS:PORT", env = "STRONGROOM_GRPC_LISTEN")]
    pub grpc_listen: Option<SocketAddr>,
    /// Metadata database: a postgres:// address [default: SQLite in the data folder]
    #[arg(
        long,
        value_name = "URL",
        env = "STRONGROOM_DATABASE",
        hide_env_values = true
    )]
    pub database: Option<String>,
    /// Mutual TLS between gateway and nodes on loopback ports, instead of Unix sockets
    #[arg(long, value_name = "BOOL", env = "STRONGROOM_TLS_NODES", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub tls_nodes: Option<bool>,
    /// First port of the nodes with --tls-nodes; 0 takes free ones [default: 7400]
    #[arg(long, value_name = "PORT", env = "STRONGROOM_NODE_PORT")]
    pub node_port: Option<u16>,
    /// Start neither ledger nor custodians and workers: objects only, no named keys
    #[arg(long, value_name = "BOOL", env = "STRONGROOM_NO_CUSTODY", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub no_custody: Option<bool>,
    /// Bytes of puts and gets in flight in the gateway [default: 96MiB]
    #[arg(long, value_name = "SIZE", env = "STRONGROOM_MEMORY_BUDGET", value_parser = parse_size)]
    pub memory_budget: Option<u64>,
    /// Bytes of the budget that one principal may take [default: half of it]
    #[arg(long, value_name = "SIZE", env = "STRONGROOM_PRINCIPAL_BUDGET", value_parser = parse_size)]
    pub principal_budget: Option<u64>,
    /// How long a replaced or deleted object stays readable for those who are reading it, at least 1s [default: 30s]
    #[arg(long, value_name = "TIME", env = "STRONGROOM_DELETION_GRACE", value_parser = parse_duration)]
    pub deletion_grace: Option<Duration>,
    /// How long an upload may be idle before it is undone, at least 30s [default: 24h]
    #[arg(long, value_name = "TIME", env = "STRONGROOM_UPLOAD_LIFETIME", value_parser = parse_duration)]
    pub upload_lifetime: Option<Duration>,
    /// Bytes that each node may store [default: what its disk has]
    #[arg(long, value_name = "SIZE", env = "STRONGROOM_NODE_CAPACITY", value_parser = parse_size)]
    pub node_capacity: Option<u64>,
    /// How often the gateway looks whether nodes are there [default: 5s]
    #[arg(long, value_name = "TIME", env = "STRONGROOM_PROBE_INTERVAL", value_parser = parse_duration)]
    pub probe_interval: Option<Duration>,
    /// Form of the log lines [default: text]
    #[arg(long, value_name = "FORM", env = "STRONGROOM_LOG_FORMAT")]
    pub log_format: Option<LogFormat>,
    /// Where the processes' logs go: `log` in each one's folder, or standard error [default: files]
    #[arg(long, value_name = "WHERE", env = "STRONGROOM_LOG_TO")]
    pub log_to: Option<LogTo>,
    /// What is logged: error, warn, info, debug, trace, or a filter per module [default: info]
    #[arg(long, value_name = "FILTER", env = "STRONGROOM_LOG")]
    pub log: Option<String>,
}

/// Form of log lines.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, serde::Deserialize, serde::Serialize,
)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

impl LogFormat {
    /// The word of the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "json",
        }
    }
}

/// Where the logs of `up`'s processes go.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, serde::Deserialize, serde::Serialize,
)]
#[serde(rename_all = "lowercase")]
pub enum LogTo {
    /// `log` in the folder of each process, bounded in size.
    #[default]
    Files,
    /// Standard error of `up`, each line with its process's name in front.
    Stderr,
}

/// `up`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  strongroom up                                     serves http://127.0.0.1:8080 from ./data
  strongroom up --data /srv/strongroom --listen 127.0.0.1:9999
  strongroom up --tls-nodes --node-port 0           mutual TLS to the nodes, on free ports
  strongroom up --log-to stderr --log-format json   for a service manager that keeps the logs

Besides gateway and nodes it runs the ledger's validator, 5 custodians and 2 workers (the programs strongroom-custodian and
strongroom-worker beside this one, or in STRONGROOM_LIBEXEC). At the first start, and when those programs have changed, the
deployment's operator has to admit them on the ledger. At the first start `up` does it when it is told the passphrase
(--passphrase-file and the like); otherwise run `strongroom admin provision` beside it.

Ctrl-C or SIGTERM stops the gateway first, then the others. A process that dies is started again.")]
pub struct UpArgs {
    /// Options of the platform.
    #[command(flatten)]
    pub platform: PlatformArgs,
}

/// `prove`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  strongroom prove                   proves it, then serves until Ctrl-C
  strongroom prove --once            ends after the proof; the last line is `proof: ok` or says what failed

It uses an identity of its own under DIR/demo, never yours.")]
pub struct ProveArgs {
    /// Options of the platform.
    #[command(flatten)]
    pub platform: PlatformArgs,
    /// End after the proof, with status 0 or 1
    #[arg(long)]
    pub once: bool,
    /// Size of the file that is made on the spot
    #[arg(long, value_name = "SIZE", default_value = "256MiB", value_parser = parse_size)]
    pub size: u64,
    /// Folder whose files are stored as well
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub files: PathBuf,
}

/// Options of every role that runs as a process.
#[derive(Clone, Debug, Default, Args)]
pub struct RoleArgs {
    /// Form of the log lines on standard error
    #[arg(long, value_name = "FORM", env = "STRONGROOM_LOG_FORMAT")]
    pub log_format: Option<LogFormat>,
    /// What is logged: error, warn, info, debug, trace, or a filter per module
    #[arg(long, value_name = "FILTER", env = "STRONGROOM_LOG")]
    pub log: Option<String>,
    /// End when the process with this id, which must be the parent, ends
    #[arg(long, value_name = "PID", hide = true)]
    pub supervised_by: Option<i32>,
}

/// `node`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  strongroom node --data /srv/node --deployment ID --listen tls:0.0.0.0:7400

The folder's `identity` holds ca.pem, certificate.pem and certificate.key, issued by the deployment's authority;
they may be replaced while the node runs.")]
pub struct NodeArgs {
    /// Options of every role.
    #[command(flatten)]
    pub role: RoleArgs,
    /// The node's folder
    #[arg(long, value_name = "DIR", env = "STRONGROOM_DATA")]
    pub data: Option<PathBuf>,
    /// `unix:PATH`, or `tls:ADDRESS:PORT`
    #[arg(long, value_name = "WHERE", env = "STRONGROOM_LISTEN")]
    pub listen: Option<String>,
    /// Bytes that may be stored [default: what the disk has]
    #[arg(long, value_name = "SIZE", env = "STRONGROOM_NODE_CAPACITY", value_parser = parse_size)]
    pub capacity: Option<u64>,
}

/// `validator`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  strongroom validator --data /srv/validator --deployment ID --listen tls:0.0.0.0:7500 --relay /run/strongroom/relay.sock

The folder holds `identity` (certificates, as for a node), `validator.key` (the key that signs headers) and `solo` (the ledger).
It is a solo ledger: whoever runs this process is the ledger.")]
pub struct ValidatorArgs {
    /// Options of every role.
    #[command(flatten)]
    pub role: RoleArgs,
    /// The validator's folder
    #[arg(long, value_name = "DIR", env = "STRONGROOM_DATA")]
    pub data: Option<PathBuf>,
    /// `unix:PATH`, or `tls:ADDRESS:PORT`
    #[arg(long, value_name = "WHERE", env = "STRONGROOM_LISTEN")]
    pub listen: Option<String>,
    /// Socket for enclaves on this machine
    #[arg(long, value_name = "SOCKET", env = "STRONGROOM_RELAY")]
    pub relay: Option<PathBuf>,
    /// Serve /health and /metrics without a certificate on this loopback address
    #[arg(long, value_name = "ADDRESS:PORT", env = "STRONGROOM_METRICS_LISTEN")]
    pub metrics_listen: Option<SocketAddr>,
}

/// `relay`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  strongroom relay --data /srv/relay --genesis genesis.cbor --validator tls:10.0.0.2:7500 --listen /run/strongroom/relay.sock

It carries what enclaves on this machine ask to a validator elsewhere, and is believed nothing by them. The folder's `identity`
holds a gateway's certificate.")]
pub struct RelayArgs {
    /// Options of every role.
    #[command(flatten)]
    pub role: RoleArgs,
    /// The relay's folder
    #[arg(long, value_name = "DIR", env = "STRONGROOM_DATA")]
    pub data: Option<PathBuf>,
    /// The ledger's genesis
    #[arg(long, value_name = "FILE", env = "STRONGROOM_GENESIS")]
    pub genesis: Option<PathBuf>,
    /// The validator: unix:PATH or tls:HOST:PORT
    #[arg(long, value_name = "WHERE", env = "STRONGROOM_VALIDATOR")]
    pub validator: Option<String>,
    /// The socket, in a folder that its owner alone may enter
    #[arg(long, value_name = "SOCKET", env = "STRONGROOM_RELAY")]
    pub listen: Option<PathBuf>,
}

/// `gateway`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  strongroom gateway --data /srv/gateway --deployment-file /srv/deployment.toml --listen 0.0.0.0:8080 \\
    --certificate rest.pem --key rest.key --node 0/ID@tls:10.0.0.4:7400,zone=a --node 1/ID@tls:10.0.1.4:7400,zone=b ...")]
pub struct GatewayArgs {
    /// Options of every role.
    #[command(flatten)]
    pub role: RoleArgs,
    /// The gateway's folder
    #[arg(long, value_name = "DIR", env = "STRONGROOM_DATA")]
    pub data: Option<PathBuf>,
    /// deployment.toml, as `init` wrote it
    #[arg(long, value_name = "FILE", env = "STRONGROOM_DEPLOYMENT_FILE")]
    pub deployment_file: Option<PathBuf>,
    /// Where REST is served
    #[arg(long, value_name = "ADDRESS:PORT", env = "STRONGROOM_LISTEN")]
    pub listen: Option<SocketAddr>,
    /// Where gRPC is served; without it there is none
    #[arg(long, value_name = "ADDRESS:PORT", env = "STRONGROOM_GRPC_LISTEN")]
    pub grpc_listen: Option<SocketAddr>,
    /// Certificate chain for clients, needed anywhere but on loopback
    #[arg(
        long,
        value_name = "FILE",
        env = "STRONGROOM_CERTIFICATE",
        requires = "key"
    )]
    pub certificate: Option<PathBuf>,
    /// Private key of that certificate
    #[arg(
        long,
        value_name = "FILE",
        env = "STRONGROOM_KEY",
        requires = "certificate"
    )]
    pub key: Option<PathBuf>,
    /// Metadata database: a postgres:// address [default: SQLite in the gateway's folder]
    #[arg(
        long,
        value_name = "URL",
        env = "STRONGROOM_DATABASE",
        hide_env_values = true
    )]
    pub database: Option<String>,
    /// The ledger's genesis; without it the deployment has no ledger
    #[arg(
        long,
        value_name = "FILE",
        env = "STRONGROOM_GENESIS",
        requires = "validator"
    )]
    pub genesis: Option<PathBuf>,
    /// The ledger's validator: unix:PATH or tls:HOST:PORT
    #[arg(
        long,
        value_name = "WHERE",
        env = "STRONGROOM_VALIDATOR",
        requires = "genesis"
    )]
    pub validator: Option<String>,
    /// The relay's socket, through which the attestation policy is read; needed for custodians
    #[arg(long, value_name = "SOCKET", requires = "genesis")]
    pub relay: Option<PathBuf>,
    /// A custodian: INDEX/PRINCIPAL@unix:PATH or INDEX/PRINCIPAL@tcp:HOST:PORT, INDEXs/... for a standby; once per custodian
    #[arg(long = "custodian", value_name = "CUSTODIAN", requires = "relay")]
    pub custodians: Vec<String>,
    /// A worker: PRINCIPAL@unix:PATH or PRINCIPAL@tcp:HOST:PORT; once per worker
    #[arg(long = "worker", value_name = "WORKER", requires = "relay")]
    pub workers: Vec<String>,
    /// A node: SLOT/ID@unix:PATH or SLOT/ID@tls:HOST:PORT, then `,zone=NAME` and `,weight=N` if wanted; once per node
    #[arg(long = "node", value_name = "NODE")]
    pub nodes: Vec<String>,
    /// Bytes of puts and gets in flight [default: 96MiB]
    #[arg(long, value_name = "SIZE", env = "STRONGROOM_MEMORY_BUDGET", value_parser = parse_size)]
    pub memory_budget: Option<u64>,
    /// Bytes of the budget that one principal may take [default: half of it]
    #[arg(long, value_name = "SIZE", env = "STRONGROOM_PRINCIPAL_BUDGET", value_parser = parse_size)]
    pub principal_budget: Option<u64>,
    /// How long a replaced or deleted object stays readable for those who are reading it, at least 1s [default: 30s]
    #[arg(long, value_name = "TIME", env = "STRONGROOM_DELETION_GRACE", value_parser = parse_duration)]
    pub deletion_grace: Option<Duration>,
    /// How long an upload may be idle before it is undone, at least 30s [default: 24h]
    #[arg(long, value_name = "TIME", env = "STRONGROOM_UPLOAD_LIFETIME", value_parser = parse_duration)]
    pub upload_lifetime: Option<Duration>,
    /// How often nodes are probed [default: 5s]
    #[arg(long, value_name = "TIME", env = "STRONGROOM_PROBE_INTERVAL", value_parser = parse_duration)]
    pub probe_interval: Option<Duration>,
}

/// `admin`.
#[derive(Debug, Args)]
pub struct AdminArgs {
    /// What to look at.
    #[command(subcommand)]
    pub command: AdminCommand,
}

/// What `admin` shows.
#[derive(Debug, Clone, Subcommand)]
pub enum AdminCommand {
    /// The storage nodes and their state
    Nodes,
    /// Whether everything is placed, and what is being repaired
    Status,
    /// Used and free space
    Space,
    /// Admit this deployment's custodians and workers on its ledger, signed by your identity; `up` must be running
    Provision(ProvisionArgs),
}

/// `admin provision`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
It shows what it would sign and asks. What is allowed is a program's measurement; `strongroom attest measure FILE` gives that of a
file.

Examples:
  strongroom admin provision
  strongroom admin provision --dry-run
  strongroom admin provision --yes --deny-others    after an upgrade: the new programs, and no others any more")]
pub struct ProvisionArgs {
    /// Folder of the deployment [default: ./data]
    #[arg(long, value_name = "DIR", env = "STRONGROOM_DATA")]
    pub data: Option<PathBuf>,
    /// Sign without asking
    #[arg(long)]
    pub yes: bool,
    /// Only say what would be signed
    #[arg(long)]
    pub dry_run: bool,
    /// Deny every measurement, allowed so far, that no program here has: an old program holds nothing any more
    #[arg(long)]
    pub deny_others: bool,
}

/// `identity`.
#[derive(Debug, Args)]
pub struct IdentityArgs {
    /// What to do with it.
    #[command(subcommand)]
    pub command: IdentityCommand,
}

/// What `identity` does.
#[derive(Debug, Subcommand)]
pub enum IdentityCommand {
    /// Show the principal (the public name) of the identity
    Show,
    /// Write the recovery kit: whoever has it is you, no passphrase protects it
    Export {
        /// New file for the kit, or `-` for standard output
        #[arg(value_name = "FILE")]
        file: OsString,
    },
    /// Write your receiver key, which others encrypt to with `encrypt --recipient`
    ReceiverKey {
        /// New file for it, or `-` for standard output
        #[arg(value_name = "FILE", default_value = "-")]
        file: OsString,
    },
    /// Take an identity from a recovery kit and seal it under a new passphrase
    Import {
        /// File with the kit, or `-` for standard input
        #[arg(value_name = "FILE")]
        file: OsString,
        /// Replace the identity that is there; the old one is kept beside it
        #[arg(long)]
        replace: bool,
    },
}

/// `token`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  curl -H \"Authorization: Bearer $(strongroom token)\" http://127.0.0.1:8080/v1/buckets

With a token one lists and moves ciphertext: what opens it never leaves this machine.")]
pub struct TokenArgs {
    /// How long it is good for, at most 1h
    #[arg(long, value_name = "TIME", default_value = "15m", value_parser = parse_duration)]
    pub expires: Duration,
    /// `read` or `write`, everywhere or in one bucket (`read:BUCKET`); may be repeated
    #[arg(long = "scope", value_name = "SCOPE", default_value = "read")]
    pub scopes: Vec<String>,
}

/// `bench`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  strongroom bench --data ./data               every load, with CPU and memory of the platform's processes
  strongroom bench --load 64MiB --time 30s --json

It makes a bucket of its own and removes it afterwards.")]
pub struct BenchArgs {
    /// Loads to run; may be repeated [default: all]
    #[arg(long = "load", value_name = "LOAD")]
    pub loads: Vec<BenchLoad>,
    /// Time for each measurement
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = parse_duration)]
    pub time: Duration,
    /// Objects in flight [default: 32 for 4 KiB and mixed, 8 for 1 MiB, 4 for 64 MiB, 16 decryptions]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub in_flight: Option<u16>,
    /// Folder of the platform under test, to measure its processes [default: ./data]
    #[arg(long, value_name = "DIR", env = "STRONGROOM_DATA")]
    pub data: Option<PathBuf>,
}

/// A load of `bench`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum BenchLoad {
    /// Objects of 4 KiB.
    #[value(name = "4KiB")]
    Small,
    /// Objects of 1 MiB.
    #[value(name = "1MiB")]
    Medium,
    /// Objects of 64 MiB.
    #[value(name = "64MiB")]
    Large,
    /// GET 45, STAT 30, PUT 15, DELETE 10, of 4 KiB to 1 MiB.
    #[value(name = "mixed")]
    Mixed,
    /// How soon a 1 GiB object begins: alone, beside 8 readers, and with 4 nodes killed (when --data names the platform).
    #[value(name = "first-byte")]
    FirstByte,
    /// Named keys: made, opened one by one and in batches, at half load, and objects behind one. The key stays, retired.
    #[value(name = "keys")]
    Keys,
}

/// `config`.
#[derive(Debug, Args)]
pub struct ConfigArgs {
    /// Options of the platform.
    #[command(flatten)]
    pub platform: PlatformArgs,
}

/// `completions`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  strongroom completions bash > /etc/bash_completion.d/strongroom
  strongroom completions zsh  > ~/.zfunc/_strongroom
  strongroom completions fish > ~/.config/fish/completions/strongroom.fish")]
pub struct CompletionsArgs {
    /// The shell
    #[arg(value_name = "SHELL")]
    pub shell: clap_complete::Shell,
}

/// `man`.
#[derive(Debug, Args)]
pub struct ManArgs {
    /// Folder for the pages; made when missing
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
}

//! The program: flags, start, stop.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use attestation::{EvidenceSource, Role};
use attested::{Admit, Endpoint, Local, SessionError, Trust};
use crypto::Identity;
use custody::LedgerName;
use domain::Principal;
use enclave::{HardenError, Hardened, LockError, MeasureError, PlatformError, SoftwarePlatform};
use enclave_client::{Address, Pool, ServeBounds, serve, session_limits};
use ledger::{Genesis, Record as _};
use relay::{RelayClient, View};
use sealing::SealedStore;
use tokio::net::{TcpListener, UnixListener};
use tokio::signal::unix::{SignalKind, signal};

use crate::identity::{IdentityError, open_or_create};
use crate::settings::Settings;
use crate::state::{About, Parts, Worker};

/// Of this program's evidence; raised when an older build must no longer be accepted.
const SECURITY_VERSION: u64 = 1;
/// The sealed store's folder in the data folder.
const STORE: &str = "store";
/// Bytes of a genesis file, at most.
const GENESIS_BYTES_MAX: u64 = 16_384;
/// Bytes of a file of addresses, at most.
const ADDRESSES_BYTES_MAX: u64 = 1 << 20;

/// Opens the post-quantum leg of named keys for one operation at a time.
///
/// Reads no configuration file and takes nothing from the host but what these flags name: who is asked and believed follows from
/// the genesis and from what the ledger proves.
#[derive(Debug, clap::Parser)]
#[command(name = "strongroom-worker", version)]
pub struct Args {
    /// The data folder, made when it is not there. The sealed store in it holds this worker's signing key.
    #[arg(long, value_name = "DIR")]
    pub data: PathBuf,
    /// The ledger's genesis record, as it was pinned.
    #[arg(long, value_name = "FILE")]
    pub genesis: PathBuf,
    /// Socket of the host's relay to the ledger, which is believed nothing.
    #[arg(long, value_name = "SOCKET", required_unless_present = "describe")]
    pub relay: Option<PathBuf>,
    /// Where to listen: unix:PATH or tcp:HOST:PORT.
    #[arg(long, value_name = "ADDRESS", required_unless_present = "describe")]
    pub listen: Option<Address>,
    /// What this process runs on: software:DIR, for development deployments only, protects nothing from the machine's owner.
    #[arg(long, value_name = "PLATFORM")]
    pub platform: Platform,
    /// A custodian and where it listens. May be given again.
    #[arg(long = "custodian", value_name = "PRINCIPAL=ADDRESS")]
    pub custodian: Vec<PeerAddress>,
    /// A file of custodians, one PRINCIPAL=ADDRESS a line.
    #[arg(long, value_name = "FILE")]
    pub custodians: Option<PathBuf>,
    /// Another worker and where it listens. May be given again.
    #[arg(long = "worker", value_name = "PRINCIPAL=ADDRESS")]
    pub worker: Vec<PeerAddress>,
    /// Make the sealed key if there is none, print what this worker is as JSON, and end.
    #[arg(long)]
    pub describe: bool,
}

/// Where evidence and the sealing key come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Platform {
    /// The software platform with its keys in this configuration folder.
    DangerSoftware(PathBuf),
}

/// Text that is none of what a flag takes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ArgError {
    /// Not a platform.
    #[error("`{0}` is no platform: write software:DIR")]
    Platform(String),
    /// Not a peer.
    #[error("`{0}` is no peer: write PRINCIPAL=unix:PATH or PRINCIPAL=tcp:HOST:PORT")]
    Peer(String),
}

impl FromStr for Platform {
    type Err = ArgError;

    fn from_str(text: &str) -> Result<Self, ArgError> {
        match text.split_once(':') {
            Some(("software", dir)) if !dir.is_empty() => Ok(Self::DangerSoftware(dir.into())),
            _ => Err(ArgError::Platform(text.to_owned())),
        }
    }
}

/// A peer's key and where it listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerAddress(pub Principal, pub Address);

impl FromStr for PeerAddress {
    type Err = ArgError;

    fn from_str(text: &str) -> Result<Self, ArgError> {
        let wrong = || ArgError::Peer(text.to_owned());
        let (principal, address) = text.split_once('=').ok_or_else(wrong)?;
        let principal = principal.parse().map_err(|_| wrong())?;
        Ok(Self(principal, address.parse().map_err(|_| wrong())?))
    }
}

/// Why a worker does not start, or has ended.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The process may be looked into.
    #[error("the process cannot be closed to its neighbours: {0}")]
    Harden(#[from] HardenError),
    /// A file, folder or socket.
    #[error("cannot {action} {}: {source}", path.display())]
    File {
        /// What was tried, as a verb.
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// The genesis file.
    #[error("{}: not a genesis record: {reason}", path.display())]
    Genesis {
        /// Where.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A line of the file of custodians.
    #[error("{}, line {line}: {reason}", path.display())]
    Custodians {
        /// Where.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// Why.
        reason: ArgError,
    },
    /// The genesis is no development deployment's.
    #[error(
        "the software platform is for development deployments only, and this genesis is not one's"
    )]
    NotDevelopment,
    /// Another software platform's keys.
    #[error("the genesis pins another software platform than the one given")]
    AnotherPlatform,
    /// The program cannot be measured.
    #[error("the program cannot be measured: {0}")]
    Measure(#[from] MeasureError),
    /// The platform's keys.
    #[error(transparent)]
    Platform(#[from] PlatformError),
    /// The signing key.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// Memory for shares.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// Attested sessions.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// The address to listen on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Where.
        address: Address,
        /// The system's answer.
        source: std::io::Error,
    },
    /// The runtime or its signals.
    #[error("cannot start: {0}")]
    Runtime(#[source] std::io::Error),
    /// A flag that this mode needs.
    #[error("{0} is missing")]
    Flag(&'static str),
}

/// Runs until SIGTERM or SIGINT, or prints the description.
///
/// # Errors
/// [`StartError`].
pub fn run(args: &Args, hardened: Result<Hardened, HardenError>) -> Result<(), StartError> {
    let hardened = hardened?;
    if args.describe {
        return say(&describe(args, &hardened)?);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(StartError::Runtime)?;
    runtime.block_on(async {
        let mut term = signal(SignalKind::terminate()).map_err(StartError::Runtime)?;
        let mut int = signal(SignalKind::interrupt()).map_err(StartError::Runtime)?;
        let stop = async move {
            tokio::select! {
                _ = term.recv() => {}
                _ = int.recv() => {}
            }
        };
        start(args, &hardened, stop).await
    })
}

/// What lies on the disk, opened.
struct Opened {
    genesis: Arc<Genesis>,
    platform: SoftwarePlatform,
    identity: Identity,
    /// Locked against other processes for as long as it is here.
    _store: SealedStore,
    about: About,
}

fn open(args: &Args, hardened: &Hardened) -> Result<Opened, StartError> {
    let genesis = Arc::new(read_genesis(&args.genesis)?);
    let measurement = enclave::measure_self()?;
    let Platform::DangerSoftware(dir) = &args.platform;
    if !genesis.development {
        return Err(StartError::NotDevelopment);
    }
    let platform = SoftwarePlatform::danger_open(
        dir,
        &args.data,
        genesis.deployment,
        measurement,
        SECURITY_VERSION,
        Some(hardened),
    )?;
    if genesis
        .software_root
        .is_some_and(|root| root != platform.root())
    {
        return Err(StartError::AnotherPlatform);
    }
    std::fs::create_dir_all(&args.data).map_err(file("create", &args.data))?;
    let store = args.data.join(STORE);
    let (identity, store) = open_or_create(&store, genesis.deployment, &platform)?;
    let about = About {
        platform: EvidenceSource::platform(&platform),
        measurement,
        version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    Ok(Opened {
        genesis,
        platform,
        identity,
        _store: store,
        about,
    })
}

/// What this worker is, as JSON, for whoever admits it to the ledger. Makes its sealed key when there is none.
///
/// # Errors
/// [`StartError`].
pub fn describe(args: &Args, hardened: &Hardened) -> Result<String, StartError> {
    let opened = open(args, hardened)?;
    let (principal, about) = (opened.identity.principal(), opened.about);
    // None of the values has a character that JSON would have to escape.
    Ok(format!(
        r#"{{"principal":"{principal}","role":"worker","platform":"{}","measurement":"{}"}}"#,
        about.platform, about.measurement,
    ))
}

/// Serves until `stop` resolves. Prints `ready` when it begins to.
///
/// # Errors
/// [`StartError`].
pub async fn start(
    args: &Args,
    hardened: &Hardened,
    stop: impl Future<Output = ()>,
) -> Result<(), StartError> {
    let opened = open(args, hardened)?;
    let relay = args.relay.as_ref().ok_or(StartError::Flag("--relay"))?;
    let listen = args.listen.as_ref().ok_or(StartError::Flag("--listen"))?;
    let mut custodians = args.custodian.clone();
    if let Some(path) = &args.custodians {
        custodians.extend(read_addresses(path)?);
    }
    let genesis = opened.genesis;
    let relay = RelayClient::new(relay);
    let view = View::start(relay, genesis.clone(), relay::Options::default()).await;
    let trust = Trust {
        deployment: genesis.deployment,
        verifiers: relay::verifiers(&genesis),
        policy: view.policy(),
        now: view.clock(),
    };
    let local = Local::Enclave {
        role: Role::Worker,
        source: Arc::new(opened.platform),
    };
    let endpoint = Arc::new(Endpoint::new(local, trust, session_limits())?);
    let pool = |role, peers: &[PeerAddress]| {
        let peers = peers.iter().cloned().map(|PeerAddress(key, at)| (key, at));
        Pool::start(&endpoint, role, peers, enclave_client::Settings::default())
    };
    let worker = Worker::new(Parts {
        ledger: LedgerName::from(&*genesis),
        custodians: pool(Role::Custodian, &custodians),
        workers: pool(Role::Worker, &args.worker),
        view: Arc::new(view),
        settings: Settings::default(),
        identity: opened.identity,
        about: opened.about,
    })?;
    serve_until(listen, endpoint.clone(), Arc::new(worker), stop).await
}

async fn serve_until(
    listen: &Address,
    endpoint: Arc<Endpoint>,
    worker: Arc<Worker>,
    stop: impl Future<Output = ()>,
) -> Result<(), StartError> {
    let failed = |source| StartError::Listen {
        address: listen.clone(),
        source,
    };
    let admit = Admit::roles(&[Role::Client, Role::Worker]);
    let bounds = ServeBounds::default();
    tracing::info!(worker = %worker.principal(), address = %listen, "serving");
    match listen {
        Address::Unix(path) => {
            remove_socket(path)?;
            let listener = UnixListener::bind(path).map_err(failed)?;
            say("ready")?;
            serve(listener, endpoint, admit, worker, bounds, stop).await;
            remove_socket(path)
        }
        Address::Tcp(host) => {
            let listener = TcpListener::bind(host).await.map_err(failed)?;
            say("ready")?;
            serve(listener, endpoint, admit, worker, bounds, stop).await;
            Ok(())
        }
    }
}

/// Takes a socket of an earlier process away; the sealed store's lock shows that none is running.
fn remove_socket(path: &Path) -> Result<(), StartError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(file("remove", path)(error))
        }
        _ => Ok(()),
    }
}

/// One line to whoever started this process.
fn say(line: &str) -> Result<(), StartError> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")
        .and_then(|()| out.flush())
        .map_err(file("write to", Path::new("standard output")))
}

fn file(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> StartError {
    move |source| StartError::File {
        action,
        path: path.to_path_buf(),
        source,
    }
}

fn read_bounded(path: &Path, bytes_max: u64) -> Result<Vec<u8>, StartError> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    let opened = std::fs::File::open(path).map_err(file("open", path))?;
    // One byte more than allowed makes whatever reads it refuse.
    opened
        .take(bytes_max + 1)
        .read_to_end(&mut bytes)
        .map_err(file("read", path))?;
    Ok(bytes)
}

fn read_genesis(path: &Path) -> Result<Genesis, StartError> {
    let bytes = read_bounded(path, GENESIS_BYTES_MAX)?;
    Genesis::decode(&bytes).map_err(|error| StartError::Genesis {
        path: path.to_path_buf(),
        reason: error.to_string(),
    })
}

fn read_addresses(path: &Path) -> Result<Vec<PeerAddress>, StartError> {
    let bytes = read_bounded(path, ADDRESSES_BYTES_MAX)?;
    let text = String::from_utf8_lossy(&bytes);
    let line = |(at, line): (usize, &str)| {
        let parsed: Result<PeerAddress, ArgError> = line.trim().parse();
        parsed.map_err(|reason| StartError::Custodians {
            path: path.to_path_buf(),
            line: at + 1,
            reason,
        })
    };
    text.lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty())
        .map(line)
        .collect()
}

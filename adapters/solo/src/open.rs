//! Opening: the newest good snapshot, then the log.

use std::fs::{self, File, OpenOptions};
use std::path::Path;
use std::time::{Duration, Instant};

use domain::{HeaderHash, Height};
use ledger::check::danger_check_again;
use ledger::execute::{BlockContext, Executor};
use ledger::header::{Certificate, Header, sign_header, verify_certificate};
use ledger::merkle::list;
use ledger::port::{Block, FinalHeader};
use ledger::{Chain, Genesis, Record as _, State};

use crate::disk::Disk;
use crate::error::OpenError;
use crate::log::{self, End, Log, Reader};
use crate::shared::Committed;
use crate::{RecoveryReport, SoloConfig, snapshot};

/// How long a start waits for a predecessor that was killed and has not gone yet.
const LOCK_WAIT: Duration = Duration::from_secs(2);

pub(crate) struct Opened {
    pub(crate) committed: Committed,
    pub(crate) log: Log,
    pub(crate) chain: Chain,
    pub(crate) report: RecoveryReport,
    pub(crate) lock: File,
    /// Transactions and bytes of log behind the snapshot.
    pub(crate) since_snapshot: (u64, u64),
    /// The last blocks that were read, for subscribers.
    pub(crate) recent: Vec<Block>,
}

/// Makes a ledger's folder with its genesis record.
pub(crate) fn create(disk: &dyn Disk, dir: &Path, genesis: &Genesis) -> Result<(), OpenError> {
    fs::create_dir_all(dir).map_err(|error| OpenError::io("make", dir, error))?;
    let path = dir.join("genesis");
    if path.exists() {
        return Err(OpenError::Exists(dir.to_owned()));
    }
    let temporary = dir.join("genesis.tmp");
    let write = || {
        let file = disk.open(&temporary)?;
        file.set_len(0)?;
        file.write(&genesis.encode(), 0)?;
        file.sync_data()?;
        disk.rename(&temporary, &path)?;
        disk.sync_dir(dir)
    };
    write().map_err(|error| OpenError::io("write", &path, error))
}

pub(crate) fn open(disk: &dyn Disk, config: &SoloConfig) -> Result<Opened, OpenError> {
    let dir = &config.dir;
    let genesis = read_genesis(disk, dir)?;
    if genesis.validators.keys() != [config.validator.principal()] {
        return Err(OpenError::Genesis(
            "a solo ledger has one validator, and this is not its key".to_owned(),
        ));
    }
    let lock = take_lock(dir)?;
    let chain = Chain::from(&genesis);
    let (mut committed, mut report) = base(disk, config, &genesis, &chain)?;
    let mut since_snapshot = (0, 0);
    let mut recent = Vec::new();
    let log = replay(
        disk,
        config,
        &chain,
        &mut committed,
        &mut report,
        &mut since_snapshot,
        &mut recent,
    )?;
    report.height = committed.state.height();
    report.keys = committed.state.tree().len();
    Ok(Opened {
        committed,
        log,
        chain,
        report,
        lock,
        since_snapshot,
        recent,
    })
}

fn read_genesis(disk: &dyn Disk, dir: &Path) -> Result<Genesis, OpenError> {
    let path = dir.join("genesis");
    if !path.exists() {
        return Err(OpenError::Missing(dir.to_owned()));
    }
    let read = || {
        let file = disk.open(&path)?;
        let len = usize::try_from(file.len()?).unwrap_or(usize::MAX);
        let mut bytes = vec![0; len.min(1 << 20)];
        file.read(0, &mut bytes)?;
        Ok(bytes)
    };
    let bytes = read().map_err(|error| OpenError::io("read", &path, error))?;
    Genesis::decode(&bytes).map_err(|error| OpenError::Genesis(error.to_string()))
}

fn take_lock(dir: &Path) -> Result<File, OpenError> {
    let path = dir.join("lock");
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(|error| OpenError::io("open", &path, error))?;
    let start = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(_) if start.elapsed() < LOCK_WAIT => {
                std::thread::sleep(Duration::from_millis(20));
            }
            Err(_) => return Err(OpenError::Locked(dir.to_owned())),
        }
    }
}

/// The header of height 0, which is as good as the genesis record itself.
pub(crate) fn genesis_header(state: &State, chain: &Chain) -> Header {
    let genesis = state.genesis_record();
    let nothing: [&[u8]; 0] = [];
    Header {
        genesis: chain.genesis,
        height: Height(0),
        time: genesis.time,
        previous: HeaderHash([0; 32]),
        state_root: state.root(),
        transactions_root: list::root(&nothing),
        receipts_root: list::root(&nothing),
        next_validators: genesis.validators.hash(&chain.deployment),
    }
}

/// The newest snapshot that is good, or the genesis.
fn base(
    disk: &dyn Disk,
    config: &SoloConfig,
    genesis: &Genesis,
    chain: &Chain,
) -> Result<(Committed, RecoveryReport), OpenError> {
    let dir = &config.dir;
    let io = |error| OpenError::io("list", dir, error);
    let snapshots = log::numbered(disk, dir, "snapshot-").map_err(io)?;
    let mut report = RecoveryReport::default();
    for height in snapshots.into_iter().rev() {
        let good = snapshot::read(disk, dir, height, genesis).and_then(|(last, state)| {
            let (validators, header) = (&genesis.validators, &last.header);
            if header.genesis != chain.genesis {
                return Err(snapshot::SnapshotError::Damaged("of another ledger"));
            }
            verify_certificate(&chain.deployment, validators, header, &last.certificate)
                .map_err(|_| snapshot::SnapshotError::Damaged("not signed by the validator"))?;
            Ok(Committed { state, last })
        });
        match good {
            Ok(committed) => {
                report.snapshot = height;
                return Ok((committed, report));
            }
            Err(error) => {
                tracing::error!(height = height.0, %error, "a snapshot is not used");
                report.damaged_snapshots += 1;
            }
        }
    }
    let files = log::files(disk, dir).map_err(io)?;
    if files.first().is_some_and(|first| first.0 > 1) {
        return Err(OpenError::NoBase(dir.clone()));
    }
    let state = State::genesis(genesis.clone());
    let header = genesis_header(&state, chain);
    let signature = sign_header(&config.validator, &chain.deployment, &header);
    let last = FinalHeader {
        header,
        certificate: Certificate {
            signatures: vec![signature],
        },
    };
    Ok((Committed { state, last }, report))
}

/// Executes the blocks behind the snapshot, and gives the log to go on with.
fn replay(
    disk: &dyn Disk,
    config: &SoloConfig,
    chain: &Chain,
    committed: &mut Committed,
    report: &mut RecoveryReport,
    since: &mut (u64, u64),
    recent: &mut Vec<Block>,
) -> Result<Log, OpenError> {
    let dir = &config.dir;
    let base = committed.state.height();
    let files = log::files(disk, dir).map_err(|error| OpenError::io("list", dir, error))?;
    // The file that has the block after the snapshot, and those behind it.
    let from = files
        .partition_point(|first| first.0 <= base.0.saturating_add(1))
        .saturating_sub(1);
    let files = files.get(from..).unwrap_or_default();
    // The file behind a snapshot is made before the snapshot is: without it, blocks are missing.
    if files.is_empty() && base.0 > 0 {
        return Err(OpenError::Gap {
            path: log::path(dir, Height(base.0.saturating_add(1))),
            expected: Height(base.0.saturating_add(1)),
            got: base,
        });
    }
    let mut resume = None;
    for (number, first) in files.iter().enumerate() {
        let open = Reader::open(disk, dir, chain.genesis, *first);
        let mut reader = open.map_err(|error| OpenError::io("open", dir, error))?;
        if first.0 > committed.state.height().0.saturating_add(1) {
            return Err(OpenError::Gap {
                path: reader.path().to_owned(),
                expected: Height(committed.state.height().0.saturating_add(1)),
                got: *first,
            });
        }
        while let Some(block) = reader.next()? {
            let height = block.last.header.height;
            if height <= committed.state.height() {
                continue;
            }
            apply(reader.path(), chain, committed, &block)?;
            report.replayed_blocks += 1;
            let transactions = u64::try_from(block.transactions.len()).unwrap_or(u64::MAX);
            report.replayed_transactions += transactions;
            since.0 += transactions;
            recent.push(block);
            if recent.len() > 2 * config.recent_blocks_max {
                recent.drain(..config.recent_blocks_max);
            }
        }
        since.1 += reader.offset();
        let last = number + 1 == files.len();
        match reader.end()? {
            End::Torn if !last => {
                return Err(OpenError::Corrupt {
                    path: reader.path().to_owned(),
                    offset: reader.offset(),
                });
            }
            End::Torn => report.torn = true,
            End::Clean => {}
        }
        if last {
            resume = Some((*first, reader.offset()));
        }
    }
    let next = Height(committed.state.height().0.saturating_add(1));
    let log = match resume {
        Some((first, end)) => Log::resume(disk, dir, chain.genesis, first, end),
        None => Log::create(disk, dir, chain.genesis, next),
    };
    log.map_err(|error| OpenError::io("open the log in", dir, error))
}

/// Executes one block and checks that it comes to what its header says.
fn apply(
    path: &Path,
    chain: &Chain,
    committed: &mut Committed,
    block: &Block,
) -> Result<(), OpenError> {
    let header = &block.last.header;
    let height = header.height;
    let wrong = |reason: String| OpenError::Wrong {
        path: path.to_owned(),
        height,
        reason,
    };
    let expected = Height(committed.state.height().0.saturating_add(1));
    if height != expected {
        return Err(OpenError::Gap {
            path: path.to_owned(),
            expected,
            got: height,
        });
    }
    let genesis = committed.state.genesis_record();
    verify_certificate(
        &chain.deployment,
        &genesis.validators,
        header,
        &block.last.certificate,
    )
    .map_err(|error| wrong(error.to_string()))?;
    let context = BlockContext {
        height,
        time: header.time,
    };
    // The certificate binds the transactions, and this very validator has verified their signatures before it signed.
    let mut executor = Executor::new(&committed.state, *chain, context);
    for bytes in &block.transactions {
        let checked =
            danger_check_again(chain, bytes).map_err(|rejection| wrong(rejection.to_string()))?;
        executor
            .apply(&checked)
            .map_err(|rejection| wrong(rejection.to_string()))?;
    }
    let executed = executor
        .finish()
        .map_err(|rejection| wrong(rejection.to_string()))?;
    let previous = committed.last.header.hash(&chain.deployment);
    if executed.header(chain, previous, &block.transactions) != *header {
        return Err(wrong("another state or another predecessor".to_owned()));
    }
    committed
        .state
        .commit(&executed)
        .map_err(|gap| wrong(gap.to_string()))?;
    committed.last = block.last.clone();
    Ok(())
}

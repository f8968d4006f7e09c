//! A ledger in memory that can be told to lie, behind a real relay on a real socket.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use domain::{Height, TransactionHash};
use ledger::header::{FreshAnswer, sign_freshness};
use ledger::port::{
    Answer, Block, Blocks, FinalHeader, Freshness, Ledger, ProvedValue, ReadError, SubmitError,
};
use ledger::{Genesis, Outcome, Receipt, Rejection, StatePrefix};
use relay::{Limits, Options, RelayClient, View};
use tokio::net::UnixListener;
use tokio::task::JoinHandle;

use crate::world::{DEPLOYMENT, VALIDATOR, World, genesis, person};

/// What the ledger behind the relay does wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lie {
    #[default]
    None,
    /// Every answer is this old one.
    OldHeaders,
    /// Fresh answers are signed by somebody else.
    ForgedFreshness,
    /// Fresh answers are those to the first nonce ever asked.
    ReplayedNonces,
    /// Certificates of somebody else.
    ForgedCertificates,
    /// Listings are empty.
    OmittedMeasurements,
    /// Listings are full of what does not exist.
    MadeUpMeasurements,
    /// Values are changed after they were proved.
    ChangedValues,
    /// Never an answer.
    Silence,
    /// Policy reads fail, freshness is answered.
    NoReads,
}

pub struct TestLedger {
    genesis: Genesis,
    inner: Mutex<Inner>,
}

pub struct Inner {
    pub world: World,
    pub lie: Lie,
    headers: BTreeMap<u64, FinalHeader>,
    /// State at the moment the lie began.
    old: Option<(FinalHeader, ledger::State)>,
    first: Option<Vec<FreshAnswer>>,
}

impl TestLedger {
    pub fn new(world: World, development: bool) -> Arc<Self> {
        let ledger = Self {
            genesis: genesis(development),
            inner: Mutex::new(Inner {
                world,
                lie: Lie::None,
                headers: BTreeMap::new(),
                old: None,
                first: None,
            }),
        };
        ledger.lock().note();
        Arc::new(ledger)
    }

    pub fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }

    pub fn lie(&self, lie: Lie) {
        let mut inner = self.lock();
        inner.lie = lie;
        let last = inner.last();
        inner.old = Some((last, inner.world.state.clone()));
    }

    /// An empty block.
    pub fn block(&self) -> FinalHeader {
        let mut inner = self.lock();
        inner.world.block(&[]);
        inner.note();
        inner.last()
    }

    pub fn with_world<T>(&self, work: impl FnOnce(&mut World) -> T) -> T {
        let mut inner = self.lock();
        let out = work(&mut inner.world);
        inner.note();
        out
    }

    async fn unless_silent(&self) {
        let silent = self.lock().lie == Lie::Silence;
        if silent {
            std::future::pending::<()>().await;
        }
    }
}

impl Inner {
    fn note(&mut self) {
        let last = self.last();
        self.headers.insert(last.header.height.0, last);
    }

    pub fn last(&mut self) -> FinalHeader {
        FinalHeader {
            header: self.world.newest.clone(),
            certificate: self.world.certificate(),
        }
    }
}

pub struct NoBlocks;

impl Blocks for NoBlocks {
    async fn next(&mut self) -> Result<Block, ReadError> {
        Err(ReadError::Unavailable("none".to_owned()))
    }
}

impl Ledger for TestLedger {
    type Blocks = NoBlocks;

    fn genesis(&self) -> &Genesis {
        &self.genesis
    }

    async fn submit(&self, transaction: Bytes) -> Result<Receipt, SubmitError> {
        self.unless_silent().await;
        let mut inner = self.lock();
        let executed = inner.world.block(&[transaction.to_vec()]);
        inner.note();
        let receipt = executed.receipts[0].clone();
        match &receipt.outcome {
            Outcome::Applied => Ok(receipt),
            Outcome::Rejected(code) => Err(SubmitError::Rejected(Rejection::Remote {
                code: Rejection::known_code(code),
                detail: "refused".to_owned(),
            })),
        }
    }

    async fn read(&self, keys: Vec<Bytes>, freshness: Freshness) -> Result<Answer, ReadError> {
        self.unless_silent().await;
        let mut inner = self.lock();
        if inner.lie == Lie::NoReads {
            return Err(ReadError::Unavailable("not now".to_owned()));
        }
        let (mut last, state) = match (inner.lie, inner.old.clone()) {
            (Lie::OldHeaders, Some(old)) => old,
            _ => (inner.last(), inner.world.state.clone()),
        };
        if let Freshness::AtLeast(wanted) = freshness
            && last.header.height < wanted
            && inner.lie != Lie::OldHeaders
        {
            let height = last.header.height;
            return Err(ReadError::NotReached { wanted, height });
        }
        if inner.lie == Lie::ForgedCertificates {
            let stranger = person(77);
            let signature = ledger::header::sign_header(&stranger, &DEPLOYMENT, &last.header);
            last.certificate.signatures[0].signature = signature.signature;
        }
        let changed = inner.lie == Lie::ChangedValues;
        let values = keys.iter().map(|key| {
            let (value, proof) = state.prove(key);
            let value = value.map(|value| {
                let mut bytes = value.to_vec();
                if changed {
                    bytes[0] ^= 1;
                }
                bytes.into()
            });
            ProvedValue { value, proof }
        });
        Ok(Answer {
            values: values.collect(),
            last,
        })
    }

    async fn list(
        &self,
        prefix: StatePrefix,
        after: Option<Bytes>,
        limit: usize,
    ) -> Result<Vec<(Bytes, Bytes)>, ReadError> {
        self.unless_silent().await;
        let inner = self.lock();
        let copy = |bytes: &Arc<[u8]>| Bytes::copy_from_slice(bytes);
        match inner.lie {
            Lie::OmittedMeasurements => Ok(Vec::new()),
            Lie::MadeUpMeasurements => Ok((0..limit)
                .map(|number| {
                    let mut key = vec![35, 1, 1];
                    key.extend(number.to_be_bytes());
                    (key.into(), Bytes::from_static(b"x"))
                })
                .collect()),
            _ => Ok(inner
                .world
                .state
                .list(&prefix.encode(), after.as_deref(), limit)
                .map(|(key, value)| (copy(key), copy(value)))
                .collect()),
        }
    }

    async fn subscribe(&self, _: Height) -> Result<NoBlocks, ReadError> {
        Ok(NoBlocks)
    }

    async fn finality(&self, height: Option<Height>) -> Result<FinalHeader, ReadError> {
        self.unless_silent().await;
        let mut inner = self.lock();
        match height {
            None => Ok(inner.last()),
            Some(height) => {
                let found = inner.headers.get(&height.0).cloned();
                found.ok_or(ReadError::Pruned(height))
            }
        }
    }

    async fn freshness(&self, nonce: [u8; 32]) -> Result<Vec<FreshAnswer>, ReadError> {
        self.unless_silent().await;
        let mut inner = self.lock();
        let header = inner.world.newest.clone();
        let signer = match inner.lie {
            Lie::ForgedFreshness => 77,
            _ => VALIDATOR,
        };
        let mut answer = sign_freshness(&person(signer), &DEPLOYMENT, &header, nonce);
        answer.signature.validator = person(VALIDATOR).principal();
        let answers = vec![answer];
        let first = inner.first.get_or_insert_with(|| answers.clone()).clone();
        Ok(match inner.lie {
            Lie::ReplayedNonces => first,
            _ => answers,
        })
    }

    async fn receipt(&self, _: TransactionHash) -> Result<Option<Receipt>, ReadError> {
        Ok(None)
    }
}

/// A ledger with a relay in front of it.
pub struct Rig {
    pub ledger: Arc<TestLedger>,
    pub dir: tempfile::TempDir,
    server: Option<JoinHandle<()>>,
}

impl Rig {
    pub fn new() -> Self {
        Self::with(World::ready(), true, Limits::default())
    }

    pub fn with(world: World, development: bool, limits: Limits) -> Self {
        let mut rig = Self {
            ledger: TestLedger::new(world, development),
            dir: tempfile::tempdir().unwrap(),
            server: None,
        };
        rig.listen(limits);
        rig
    }

    pub fn path(&self) -> std::path::PathBuf {
        self.dir.path().join("relay.sock")
    }

    pub fn listen(&mut self, limits: Limits) {
        let _ = std::fs::remove_file(self.path());
        let listener = UnixListener::bind(self.path()).unwrap();
        let ledger = self.ledger.clone();
        let serve = relay::serve(listener, ledger, limits, std::future::pending());
        self.server = Some(tokio::spawn(serve));
    }

    /// The relay is gone, its connections with it.
    pub async fn kill(&mut self) {
        let server = self.server.take().unwrap();
        server.abort();
        let _ = server.await;
    }

    pub fn client(&self) -> RelayClient {
        RelayClient::new(self.path())
    }

    pub async fn view(&self) -> View {
        View::start(
            self.client(),
            Arc::new(self.ledger.genesis().clone()),
            QUICK,
        )
        .await
    }
}

/// Ticks every 100 ms, fresh for a second.
pub const QUICK: Options = Options {
    every: Duration::from_millis(100),
    retry: Duration::from_millis(50),
    tick: Duration::from_millis(400),
    fresh_for: Duration::from_secs(1),
};

/// Waits until it holds, at most 10 s.
pub async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..500 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("never: {what}");
}

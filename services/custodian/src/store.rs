//! What a custodian keeps, sealed: who it is, its shares, what versions it is still making, what it decided.
//!
//! ```text
//! 69                                     identity: its seed (32)
//! 72  BLAKE3(72 key version fencing)[..20] a share: `threshold::record` (242)
//! 68  key (32)  u32 version  u64 fencing the share is not known to be of an active version yet: hash of the statement (32)
//! 6f  key       version      fencing     attempt (1): outcome of a key generation (`outcome.rs`), until a share is held
//! 61  u64 sequence                       an audit record
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use attestation::{Role, SealingKeySource};
use crypto::{Identity, Secret};
use custody::ShareName;
use custody::version::DhOutcome;
use domain::{DeploymentId, KeyId, KeyVersion};
use rand_core::CryptoRng;
use sealing::{
    Change, OpenError, ReadError, SealedStore, StoreConfig, StoreState, Usage, WriteError,
};
use threshold::CustodianRecord;
use threshold::dkg::Outcome;
use zeroize::Zeroizing;

use crate::audit_log::AuditRecords;
use crate::outcome;

const IDENTITY: u8 = b'i';
const SHARE: u8 = b'r';
const HELD: u8 = b'h';
const OUTCOME: u8 = b'o';
const AUDIT: u8 = b'a';
/// A share's key is short, as there may be a million of them; what it is of stands in the record.
const SHARE_NAME_BYTES: usize = 20;

/// Why a store cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It does not open.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// It cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// It cannot be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// Records of another program, or damaged ones that are authentic all the same.
    #[error("the sealed store holds {0}, which this program does not understand")]
    Foreign(&'static str),
}

/// An attempt at a version whose fate is open.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Open {
    /// Attempts of the key generation whose outcome is stored.
    pub attempts: BTreeSet<u8>,
    /// The statement for which a share is held.
    pub held: Option<[u8; 32]>,
}

/// What was found at the start.
#[derive(Debug)]
pub struct Found {
    /// Attempts at versions whose fate is open.
    pub open: BTreeMap<ShareName, Open>,
    /// First and last sequence number of the audit log, when it has records.
    pub audit: Option<(u64, u64)>,
    /// Shares held.
    pub shares: u64,
}

/// The sealed store of one custodian. Every method blocks while the disk works.
#[derive(Debug)]
pub struct Store {
    sealed: SealedStore,
    deployment: DeploymentId,
}

impl Store {
    /// Opens the store in `dir`, or makes it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn open(
        dir: &Path,
        deployment: DeploymentId,
        platform: &dyn SealingKeySource,
    ) -> Result<Self, StoreError> {
        let config = StoreConfig::new(dir, deployment, Role::Custodian, b"custodian");
        // The ledger holds an anchor of the audit log that lies in the same store (`anchoring.rs`), which is compared once the ledger answers.
        let (sealed, report) = SealedStore::open(&config, platform, None)?;
        if report.dropped_bytes > 0 {
            tracing::info!(bytes = report.dropped_bytes, "dropped an unfinished write");
        }
        Ok(Self { sealed, deployment })
    }

    /// The custodian's identity, drawn when there is none.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn identity(&self, rng: &mut dyn CryptoRng) -> Result<Identity, StoreError> {
        if let Some(seed) = self.sealed.get(&[IDENTITY])? {
            let seed = Secret::from_slice(&seed).ok_or(StoreError::Foreign("an identity"))?;
            return Ok(Identity::from_seed(seed));
        }
        let seed = Secret::<32>::random(rng);
        self.sealed.apply(&[Change::Put {
            key: &[IDENTITY],
            value: seed.expose(),
        }])?;
        Ok(Identity::from_seed(seed))
    }

    /// Looks through everything once.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn load(&self) -> Result<Found, StoreError> {
        let mut found = Found {
            open: BTreeMap::new(),
            audit: None,
            shares: 0,
        };
        let mut foreign = None;
        self.sealed.for_each(|key, value| {
            let known = match key.split_first() {
                Some((&IDENTITY, [])) => true,
                Some((&SHARE, rest)) => {
                    found.shares += 1;
                    rest.len() == SHARE_NAME_BYTES
                }
                Some((&HELD, rest)) => match (read_name(rest), value.try_into()) {
                    (Some(name), Ok(statement)) => {
                        found.open.entry(name).or_default().held = Some(statement);
                        true
                    }
                    _ => false,
                },
                Some((&OUTCOME, rest)) => match rest.split_last() {
                    Some((attempt, rest)) => read_name(rest).is_some_and(|name| {
                        found
                            .open
                            .entry(name)
                            .or_default()
                            .attempts
                            .insert(*attempt)
                    }),
                    None => false,
                },
                Some((&AUDIT, rest)) => rest.try_into().is_ok_and(|bytes| {
                    let sequence = u64::from_be_bytes(bytes);
                    let (first, last) = found.audit.unwrap_or((sequence, sequence));
                    found.audit = Some((first.min(sequence), last.max(sequence)));
                    true
                }),
                _ => false,
            };
            if !known {
                foreign = Some(StoreError::Foreign("a record of an unknown kind"));
            }
        })?;
        foreign.map_or(Ok(found), Err)
    }

    /// The encoded share of that name.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn share(&self, name: &ShareName) -> Result<Option<Zeroizing<Vec<u8>>>, StoreError> {
        Ok(self.sealed.get(&share_key(name))?)
    }

    /// Whether there is a share of that name.
    #[must_use]
    pub fn has_share(&self, name: &ShareName) -> bool {
        self.sealed.contains(&share_key(name))
    }

    /// Keeps the outcome of a key generation.
    ///
    /// # Errors
    /// [`StoreError`]; it must not be said to be stored then.
    pub fn put_outcome(&self, name: &ShareName, outcome: &Outcome) -> Result<(), StoreError> {
        let value = outcome::encode(outcome);
        self.sealed.apply(&[Change::Put {
            key: &outcome_key(name, outcome.attempt),
            value: &value,
        }])?;
        Ok(())
    }

    /// The outcome of an attempt of a key generation.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn outcome(&self, name: &ShareName, attempt: u8) -> Result<Option<DhOutcome>, StoreError> {
        let Some(bytes) = self.sealed.get(&outcome_key(name, attempt))? else {
            return Ok(None);
        };
        outcome::decode(&self.deployment, name, attempt, &bytes)
            .map(Some)
            .ok_or(StoreError::Foreign("an outcome"))
    }

    /// Keeps a share for that statement; the outcomes of the key generation go, as the share has what matters of one of them.
    ///
    /// # Errors
    /// [`StoreError`]; the share must not be acknowledged then.
    pub fn hold(
        &self,
        name: &ShareName,
        record: &CustodianRecord,
        statement: &[u8; 32],
        open: &Open,
    ) -> Result<(), StoreError> {
        let (share, held) = (share_key(name), key(HELD, name));
        let value = record.encode();
        let outcomes: Vec<Vec<u8>> = open
            .attempts
            .iter()
            .map(|attempt| outcome_key(name, *attempt))
            .collect();
        let mut changes = vec![
            Change::Put {
                key: &share,
                value: &value,
            },
            Change::Put {
                key: &held,
                value: statement,
            },
        ];
        changes.extend(outcomes.iter().map(|key| Change::Delete { key }));
        self.sealed.apply(&changes)?;
        Ok(())
    }

    /// Ends an attempt: its share stays when it became active, and everything of it goes when it never will.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn settle(&self, name: &ShareName, open: &Open, active: bool) -> Result<(), StoreError> {
        let mut gone: Vec<Vec<u8>> = open
            .attempts
            .iter()
            .map(|attempt| outcome_key(name, *attempt))
            .collect();
        if open.held.is_some() {
            gone.push(key(HELD, name));
            if !active {
                gone.push(share_key(name));
            }
        }
        if gone.is_empty() {
            return Ok(());
        }
        let changes: Vec<Change<'_>> = gone.iter().map(|key| Change::Delete { key }).collect();
        self.sealed.apply(&changes)?;
        Ok(())
    }

    /// What stands for the store's whole history.
    #[must_use]
    pub fn state(&self) -> StoreState {
        self.sealed.state()
    }

    /// How much it takes.
    #[must_use]
    pub fn usage(&self) -> Usage {
        self.sealed.usage()
    }
}

impl AuditRecords for Store {
    fn append(
        &self,
        records: &[(u64, Vec<u8>)],
        drop: std::ops::Range<u64>,
    ) -> Result<(), StoreError> {
        let keys: Vec<Vec<u8>> = records.iter().map(|(at, _)| audit_key(*at)).collect();
        let gone: Vec<Vec<u8>> = drop.map(audit_key).collect();
        let puts = keys
            .iter()
            .zip(records)
            .map(|(key, (_, value))| Change::Put { key, value });
        let deletes = gone.iter().map(|key| Change::Delete { key });
        let changes: Vec<Change<'_>> = puts.chain(deletes).collect();
        self.sealed.apply(&changes)?;
        Ok(())
    }

    fn get(&self, sequence: u64) -> Result<Option<Vec<u8>>, StoreError> {
        let record = self.sealed.get(&audit_key(sequence))?;
        Ok(record.map(|bytes| bytes.to_vec()))
    }
}

fn key(kind: u8, name: &ShareName) -> Vec<u8> {
    [
        [kind].as_slice(),
        name.key.as_bytes(),
        &name.version.get().to_be_bytes(),
        &name.fencing.to_be_bytes(),
    ]
    .concat()
}

fn share_key(name: &ShareName) -> Vec<u8> {
    let hash = blake3::hash(&key(SHARE, name));
    let mut out = vec![SHARE];
    out.extend(hash.as_bytes().iter().take(SHARE_NAME_BYTES));
    out
}

fn outcome_key(name: &ShareName, attempt: u8) -> Vec<u8> {
    let mut out = key(OUTCOME, name);
    out.push(attempt);
    out
}

fn audit_key(sequence: u64) -> Vec<u8> {
    [[AUDIT].as_slice(), &sequence.to_be_bytes()].concat()
}

fn read_name(bytes: &[u8]) -> Option<ShareName> {
    let (id, rest) = bytes.split_first_chunk::<32>()?;
    let (version, fencing) = rest.split_first_chunk::<4>()?;
    Some(ShareName {
        key: KeyId(*id),
        version: KeyVersion::new(u32::from_be_bytes(*version)).ok()?,
        fencing: u64::from_be_bytes(fencing.try_into().ok()?),
    })
}

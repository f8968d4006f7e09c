//! A platform with fixed roots, and short names for what tests do most.

use std::path::{Path, PathBuf};

use attestation::{Role, SealingKeySource, SourceError};
use crypto::Secret;
use domain::{DeploymentId, PlatformType};
use sealing::{Change, OpenError, OpenReport, SealedStore, StoreConfig, StoreState};

/// A sealing root per role, as the software platform's.
pub struct Platform(pub u8);

impl SealingKeySource for Platform {
    fn platform(&self) -> PlatformType {
        PlatformType::Software
    }

    fn sealing_root(&self, role: Role) -> Result<Secret<32>, SourceError> {
        Ok(Secret::take(&mut [self.0 + role.code(); 32]))
    }
}

pub fn config(dir: &Path) -> StoreConfig {
    StoreConfig::new(dir, DeploymentId([1; 32]), Role::Custodian, b"slot 1")
}

pub fn try_open(
    dir: &Path,
    ledger: Option<StoreState>,
) -> Result<(SealedStore, OpenReport), OpenError> {
    SealedStore::open(&config(dir), &Platform(1), ledger)
}

pub fn open(dir: &Path) -> SealedStore {
    try_open(dir, None).unwrap().0
}

pub fn put(store: &SealedStore, key: &[u8], value: &[u8]) -> StoreState {
    store.apply(&[Change::Put { key, value }]).unwrap()
}

pub fn delete(store: &SealedStore, key: &[u8]) -> StoreState {
    store.apply(&[Change::Delete { key }]).unwrap()
}

pub fn get(store: &SealedStore, key: &[u8]) -> Option<Vec<u8>> {
    store.get(key).unwrap().map(|value| value.to_vec())
}

pub fn file(dir: &Path) -> PathBuf {
    dir.join("sealed.log")
}

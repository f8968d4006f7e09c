//! The worker's own signing key: drawn once, kept in the sealed store.

use std::path::Path;

use attestation::{Role, SealingKeySource};
use crypto::{Identity, Secret};
use domain::DeploymentId;
use sealing::{Change, OpenError, ReadError, SealedStore, StoreConfig, WriteError};

use crate::state::rng;

/// Whose store it is.
const OWNER: &[u8] = b"worker";
/// Where in it the key's seed is.
const KEY: &[u8] = b"identity";

/// Why there is no signing key.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The store does not open.
    #[error("the sealed store does not open: {0}")]
    Open(#[from] OpenError),
    /// The store does not give the key.
    #[error("the signing key cannot be read: {0}")]
    Read(#[from] ReadError),
    /// The store does not take the key.
    #[error("the signing key cannot be stored: {0}")]
    Write(#[from] WriteError),
    /// What is stored is no key.
    #[error("what is stored as the signing key has not 32 bytes")]
    Damaged,
}

/// Opens the store in `dir` and the key in it; draws and stores one when there is none, durably before it is returned. The store
/// stays open with it, so that no other process uses the same key.
///
/// # Errors
/// [`IdentityError`].
pub fn open_or_create(
    dir: &Path,
    deployment: DeploymentId,
    platform: &dyn SealingKeySource,
) -> Result<(Identity, SealedStore), IdentityError> {
    let config = StoreConfig::new(dir, deployment, Role::Worker, OWNER);
    let (store, _) = SealedStore::open(&config, platform, None)?;
    let seed = match store.get(KEY)? {
        Some(bytes) => Secret::from_slice(&bytes).ok_or(IdentityError::Damaged)?,
        None => {
            let seed: Secret<32> = Secret::random(&mut rng());
            store.apply(&[Change::Put {
                key: KEY,
                value: seed.expose(),
            }])?;
            seed
        }
    };
    Ok((Identity::from_seed(seed), store))
}

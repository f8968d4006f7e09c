//! The port to named keys: what wraps to one, and what has its wraps opened.
//!
//! Wrapping needs the key's public half only. Opening asks custodians and a worker, who each check that the ledger permits
//! it; so it may be refused, and it takes a round trip.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use crypto::Secret;
use crypto::context::EncryptionContext;
use crypto::kem::{Encapsulator, KemCiphertext};
use domain::{KeyId, KeyVersion};

use crate::error::Result;

/// What a [`NamedKeys`] answers with, later.
pub type Later<'a, T> = Pin<Box<dyn Future<Output = Result<T>> + Send + 'a>>;

/// Whoever can use named keys on behalf of this client's principal.
pub trait NamedKeys: Send + Sync {
    /// The current version of a key, to wrap to. Cached for minutes, verified against the ledger.
    fn encapsulator(&self, key: KeyId) -> Later<'_, Arc<Encapsulator>>;

    /// K of one ciphertext of a key version, released by its custodians for the context that it was made in.
    fn open<'a>(
        &'a self,
        key: KeyId,
        version: KeyVersion,
        ciphertext: &'a KemCiphertext,
        context: &'a EncryptionContext,
    ) -> Later<'a, Secret<32>>;
}

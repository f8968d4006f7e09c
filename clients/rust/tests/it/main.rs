//! The client against a gateway in this process, for what a real one cannot be asked to do: lie, forge and fail on cue.

#![allow(clippy::unwrap_used, missing_docs)]

mod fake;
mod faults;
mod lies;
mod named_keys;
mod objects;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use client::{Client, ClientConfig, DeploymentPin};
use crypto::{Identity, Secret};
use domain::{BucketName, ObjectKey, Profile};
use fake::{DEPLOYMENT, Fake};

pub fn identity(byte: u8) -> Arc<Identity> {
    Arc::new(Identity::from_seed(Secret::take(&mut [byte; 32])))
}

pub fn config(fake: &Fake, state: &Path, who: u8) -> ClientConfig {
    let endpoint = format!("http://{}", fake.address);
    let mut config = ClientConfig::new(
        endpoint,
        identity(who),
        DeploymentPin::Id(DEPLOYMENT),
        state,
    );
    config.retry_for = Duration::from_secs(5);
    config
}

pub fn bucket() -> BucketName {
    "photos".parse().unwrap()
}

pub fn key(text: &str) -> ObjectKey {
    text.parse().unwrap()
}

/// Bytes that differ everywhere.
pub fn content(len: usize, seed: u8) -> Vec<u8> {
    let mut out = vec![0; len];
    blake3::Hasher::new_keyed(&[seed; 32])
        .finalize_xof()
        .fill(&mut out);
    out
}

pub struct World {
    pub fake: Fake,
    pub client: Client,
    pub dir: tempfile::TempDir,
}

/// A gateway, a client and a bucket.
pub async fn world() -> World {
    let fake = Fake::start().await;
    let dir = tempfile::tempdir().unwrap();
    let client = Client::connect(config(&fake, &dir.path().join("state"), 1))
        .await
        .unwrap();
    client
        .make_bucket(&bucket(), Profile::DATACENTRE, None)
        .await
        .unwrap();
    World { fake, client, dir }
}

/// Another client of the same user, with nothing in memory.
impl World {
    pub async fn fresh_client(&self) -> Client {
        let state = self.dir.path().join("state");
        Client::connect(config(&self.fake, &state, 1))
            .await
            .unwrap()
    }
}

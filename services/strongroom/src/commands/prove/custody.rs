//! The second half of the promise: whoever the ledger permits opens an object, with custodians lost, and nobody else does.

use std::sync::Arc;

use client::BucketChange;
use client::keys::CreateKey;
use crypto::{Identity, Secret};
use domain::{KeyId, KeyName, Principal};
use ledger::records::{ContextPolicy, Operations};

use super::material::Item;
use super::{Context, Demo, PATIENCE, Remote, Store, read_back};
use crate::failure::{Exit, Failure, Outcome};
use crate::platform::Platform;
use crate::store::explain;

/// Custodians that are killed while everything still opens: n - t.
pub const KILLED_CUSTODIANS: [u8; 2] = [2, 4];
/// One more: then fewer than t are left.
const ONE_MORE: u8 = 5;
/// Objects that each of the readers opens.
const OPENED_MAX: usize = 20;

/// The named key of the demonstration, and three who have to do with it.
pub struct Custody {
    /// The key that the bucket is on.
    pub key: KeyId,
    granted: Arc<Identity>,
    stranger: Arc<Identity>,
}

/// A demonstration's other person: made anew each time.
fn somebody() -> Outcome<Arc<Identity>> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|error| {
        Failure::new(
            Exit::Failure,
            "randomness",
            format!("the system gave no randomness: {error}"),
        )
    })?;
    Ok(Arc::new(Identity::from_seed(Secret::take(&mut seed))))
}

impl Custody {
    /// Makes the key, or takes the one of an earlier run.
    pub async fn prepare(store: &Store) -> Outcome<Self> {
        let keys = store.keys().await?;
        let name = "proof".parse::<KeyName>();
        let what = CreateKey {
            name: name.map_err(|error| Failure::usage(error.to_string()))?,
            committee: None,
            context: ContextPolicy::ANY,
        };
        // They were admitted a moment ago: each has to read that from the ledger before it believes the others.
        let started = std::time::Instant::now();
        let info = loop {
            match keys.create(&what).await.map_err(explain) {
                Ok((info, _)) => break info,
                Err(failure)
                    if failure.exit == Exit::Unavailable && started.elapsed() < PATIENCE =>
                {
                    tokio::time::sleep(std::time::Duration::from_millis(250)).await;
                }
                Err(failure) => return Err(failure),
            }
        };
        Ok(Self {
            key: info.id,
            granted: somebody()?,
            stranger: somebody()?,
        })
    }

    /// Lets both others fetch ciphertext, and one of them open it.
    pub async fn grant(&self, store: &Store, bucket: &Remote) -> Outcome {
        for who in [self.granted.principal(), self.stranger.principal()] {
            let change = BucketChange::AddReader(who);
            store.change_bucket(&bucket.bucket, change).await?;
        }
        let keys = store.keys().await?;
        let grantee: Principal = self.granted.principal();
        keys.grant(&self.key, grantee, Operations::DECRYPT, None)
            .await
            .map_err(explain)?;
        Ok(())
    }

    /// With n - t custodians down: the owner and the granted one open, the stranger does not.
    pub async fn with_some_down(
        &self,
        context: &Context,
        demo: &Demo,
        bucket: &Remote,
        items: &[Item],
    ) -> Outcome<usize> {
        let items = items.get(..items.len().min(OPENED_MAX)).unwrap_or(items);
        // Connections of their own: nothing is unwrapped in them yet.
        for who in [&demo.identity, &self.granted] {
            let store = demo.store_of(who).await?;
            let differing = read_back(context, &store, bucket, items).await?;
            if let Some(first) = differing.first() {
                return Err(Failure::new(
                    Exit::Integrity,
                    "integrity",
                    format!("{first} came back different for {}", who.principal()),
                ));
            }
        }
        let refused = Exit::Refused;
        self.fails(context, demo, &self.stranger, bucket, items, refused)
            .await?;
        Ok(items.len())
    }

    /// With fewer than t left: nobody opens anything; with one back, the owner does.
    pub async fn with_too_many_down(
        &self,
        context: &Context,
        demo: &Demo,
        platform: &Platform,
        bucket: &Remote,
        items: &[Item],
    ) -> Outcome {
        let items = items.get(..1).unwrap_or(items);
        platform.hold_custodians(&[ONE_MORE]).await;
        for who in [&demo.identity, &self.granted] {
            let unavailable = Exit::Unavailable;
            self.fails(context, demo, who, bucket, items, unavailable)
                .await?;
        }
        platform.release_custodians(&[ONE_MORE]).await;
        // A custodian that is back has to hear of the ledger, and to be found again.
        let started = std::time::Instant::now();
        loop {
            let store = demo.store_of(&demo.identity).await?;
            match read_back(context, &store, bucket, items).await {
                Ok(differing) if differing.is_empty() => return Ok(()),
                Ok(differing) => {
                    return Err(Failure::new(
                        Exit::Integrity,
                        "integrity",
                        format!("different: {differing:?}"),
                    ));
                }
                Err(failure) if started.elapsed() > PATIENCE => return Err(failure),
                Err(_) => tokio::time::sleep(std::time::Duration::from_millis(250)).await,
            }
        }
    }

    /// Checks that `who` opens nothing, for the reason that it should be.
    async fn fails(
        &self,
        context: &Context,
        demo: &Demo,
        who: &Arc<Identity>,
        bucket: &Remote,
        items: &[Item],
        reason: Exit,
    ) -> Outcome {
        let store = demo.store_of(who).await?;
        match read_back(context, &store, bucket, items).await {
            Err(failure) if failure.exit == reason => Ok(()),
            Err(failure) => Err(failure),
            Ok(_) => Err(Failure::new(
                Exit::Integrity,
                "not_refused",
                format!(
                    "{} opened an object that nobody may open now",
                    who.principal()
                ),
            )),
        }
    }
}

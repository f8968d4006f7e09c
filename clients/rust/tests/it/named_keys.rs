//! Buckets on named keys, and who may do what in a bucket.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use client::{BucketChange, ByteRange, Client, Error, ErrorKind, Later, NamedKeys, PutOptions};
use crypto::EncryptionContext;
use crypto::Secret;
use crypto::kem::{Encapsulator, KemCiphertext, KeyRef, PqSeed, PublicKeys, SharedSecrets};
use crypto::ristretto::{Element, SecretScalar};
use domain::{BucketName, KeyId, KeyVersion, Profile};
use getrandom::SysRng;
use getrandom::rand_core::UnwrapErr;

use crate::fake::{DEPLOYMENT, Fake};
use crate::{config, content, identity, key};

const KEY: KeyId = KeyId([7; 32]);

struct Version {
    seed: PqSeed,
    x: SecretScalar,
    key: KeyRef,
}

/// Custodians, workers and ledger in one: both legs of every version, and who may use them.
#[derive(Default)]
struct Custody {
    versions: Mutex<BTreeMap<KeyVersion, Version>>,
    opened: AtomicUsize,
}

impl Custody {
    fn rotate(&self) {
        let mut versions = self.versions.lock().unwrap();
        let number = u32::try_from(versions.len()).unwrap() + 1;
        let mut rng = UnwrapErr(SysRng);
        let seed = PqSeed::random(&mut rng);
        let x = SecretScalar::random(&mut rng);
        let version = KeyVersion::new(number).unwrap();
        let key = KeyRef {
            deployment: DEPLOYMENT,
            key: KEY,
            version,
            public: PublicKeys {
                pq: seed.public(),
                dh: Element::from_point(x.times_base()).unwrap(),
            },
        };
        versions.insert(version, Version { seed, x, key });
    }
}

/// One principal's way to it.
struct Access {
    custody: Arc<Custody>,
    granted: bool,
}

impl NamedKeys for Access {
    fn encapsulator(&self, key: KeyId) -> Later<'_, Arc<Encapsulator>> {
        assert_eq!(key, KEY);
        let versions = self.custody.versions.lock().unwrap();
        let newest = versions.values().next_back().unwrap().key.clone();
        Box::pin(async move { Ok(Arc::new(Encapsulator::new(newest))) })
    }

    fn open<'a>(
        &'a self,
        key: KeyId,
        version: KeyVersion,
        ciphertext: &'a KemCiphertext,
        context: &'a EncryptionContext,
    ) -> Later<'a, Secret<32>> {
        Box::pin(async move {
            assert_eq!(key, KEY);
            if !self.granted {
                return Err(Error::NoKey {
                    what: format!("named key {key}"),
                    reason: "not-granted".to_owned(),
                });
            }
            self.custody.opened.fetch_add(1, Ordering::Relaxed);
            let versions = self.custody.versions.lock().unwrap();
            let whole = &versions[&version];
            let hash = context.hash(&DEPLOYMENT);
            let parts = ciphertext.parts(&DEPLOYMENT, hash);
            let u = parts.verify(&whole.key.target()).unwrap();
            let dh = Element::from_point(u.point() * whole.x.danger_scalar()).unwrap();
            let pq = whole.seed.open(&whole.key.public.pq).unwrap();
            let shared = SharedSecrets::new(pq.decapsulate(&ciphertext.pq), &dh);
            Ok(whole.key.derive_key(ciphertext, &hash, &shared))
        })
    }
}

struct World {
    fake: Fake,
    custody: Arc<Custody>,
    dir: tempfile::TempDir,
}

impl World {
    async fn start() -> Self {
        let custody = Arc::new(Custody::default());
        custody.rotate();
        Self {
            fake: Fake::start().await,
            custody,
            dir: tempfile::tempdir().unwrap(),
        }
    }

    /// A client of user `who`, with nothing in memory.
    async fn client(&self, who: u8, granted: bool) -> Client {
        let state = self.dir.path().join("state");
        let client = Client::connect(config(&self.fake, &state, who))
            .await
            .unwrap();
        client.use_named_keys(Arc::new(Access {
            custody: Arc::clone(&self.custody),
            granted,
        }));
        client
    }

    fn opened(&self) -> usize {
        self.custody.opened.load(Ordering::Relaxed)
    }
}

fn payslips() -> BucketName {
    "payslips".parse().unwrap()
}

async fn put(client: &Client, name: &str, bytes: &[u8]) {
    try_put(client, name, bytes).await.unwrap();
}

async fn try_put(client: &Client, name: &str, bytes: &[u8]) -> Result<(), Error> {
    let options = PutOptions::default();
    let (bucket, key) = (payslips(), key(name));
    let stored = client.put_bytes(&bucket, &key, bytes, &options);
    stored.await.map(|_| ())
}

async fn get(client: &Client, name: &str) -> Result<Vec<u8>, Error> {
    let (bucket, key) = (payslips(), key(name));
    let got = client.get_bytes(&bucket, &key, ByteRange::All);
    got.await.map(|(_, bytes)| bytes.to_vec())
}

#[tokio::test]
async fn whoever_is_granted_the_key_opens_the_bucket_and_nobody_else() {
    let world = World::start().await;
    let owner = world.client(1, true).await;
    let bucket = owner
        .make_bucket(&payslips(), Profile::DATACENTRE, Some(KEY))
        .await
        .unwrap();
    assert_eq!(bucket.key(), Some(KEY));
    let (small, large) = (content(500, 1), content(3 << 20, 2));
    put(&owner, "small", &small).await;
    put(&owner, "large", &large).await;
    assert_eq!(world.opened(), 0, "writing asks nobody");

    let reader = world.client(2, true).await;
    assert!(get(&reader, "small").await.unwrap() == small);
    assert!(get(&reader, "large").await.unwrap() == large);
    assert_eq!(world.opened(), 1, "one bucket key, unwrapped once");
    // The owner as well, on another machine: its own identity opens nothing here.
    assert!(get(&world.client(1, true).await, "large").await.unwrap() == large);
    assert_eq!(world.opened(), 2);

    let third = world.client(3, false).await;
    for name in ["small", "large"] {
        let error = get(&third, name).await.unwrap_err();
        assert!(matches!(error, Error::NoKey { .. }), "{error}");
    }
    let without = Client::connect(config(&world.fake, &world.dir.path().join("other"), 2))
        .await
        .unwrap();
    // This gateway has no ledger to ask.
    let error = get(&without, "small").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage, "{error}");
}

#[tokio::test]
async fn a_rotated_key_has_a_new_bucket_key_and_old_objects_stay_readable() {
    let world = World::start().await;
    let owner = world.client(1, true).await;
    owner
        .make_bucket(&payslips(), Profile::DATACENTRE, Some(KEY))
        .await
        .unwrap();
    put(&owner, "old", b"under version 1").await;
    put(&owner, "also old", b"under version 1").await;
    world.custody.rotate();
    put(&owner, "new", b"under version 2").await;
    let reader = world.client(2, true).await;
    for (name, bytes) in [("old", b"under version 1"), ("new", b"under version 2")] {
        assert_eq!(get(&reader, name).await.unwrap(), bytes);
    }
    assert_eq!(world.opened(), 2, "two bucket keys");
    get(&reader, "also old").await.unwrap();
    assert_eq!(world.opened(), 2);
}

#[tokio::test]
async fn a_right_that_is_lost_starts_new_keys_and_leaves_what_was_written() {
    let world = World::start().await;
    let owner = world.client(1, true).await;
    let other = identity(2).principal();
    owner
        .make_bucket(&payslips(), Profile::DATACENTRE, Some(KEY))
        .await
        .unwrap();
    let writer = world.client(2, true).await;
    let refused = try_put(&writer, "w", b"x").await.unwrap_err();
    assert!(matches!(refused, Error::NotAWriter(_)), "{refused}");
    let name = payslips();
    let change = |change| owner.change_bucket(&name, change);
    let added = change(BucketChange::AddWriter(other)).await.unwrap();
    assert_eq!(added.unwrap().key_generation(), 0, "nobody lost anything");
    assert!(
        change(BucketChange::AddWriter(other))
            .await
            .unwrap()
            .is_none()
    );

    let writer = world.client(2, true).await;
    put(&writer, "theirs", b"written while allowed").await;
    let removed = change(BucketChange::RemoveWriter(other)).await.unwrap();
    assert_eq!(removed.unwrap().key_generation(), 1);
    // What they wrote then still counts; the owner's next object comes under a key of the new generation.
    let reader = world.client(1, true).await;
    assert_eq!(
        get(&reader, "theirs").await.unwrap(),
        b"written while allowed"
    );
    put(&reader, "after", b"new").await;
    let before = world.opened();
    let fresh = world.client(3, true).await;
    get(&fresh, "theirs").await.unwrap();
    get(&fresh, "after").await.unwrap();
    assert_eq!(world.opened(), before + 2);
    let former = world.client(2, true).await;
    let refused = try_put(&former, "again", b"x").await.unwrap_err();
    assert!(matches!(refused, Error::NotAWriter(_)), "{refused}");

    // Readers: listed, and only the owner decides.
    let added = change(BucketChange::AddReader(other)).await.unwrap();
    assert_eq!(added.unwrap().readers(), [other]);
    let error = world
        .client(2, true)
        .await
        .change_bucket(&payslips(), BucketChange::NewKeys)
        .await
        .unwrap_err();
    assert!(matches!(error, Error::NotTheOwner(_)), "{error}");
    assert!(
        change(BucketChange::RemoveReader(other))
            .await
            .unwrap()
            .is_some()
    );
    assert!(
        change(BucketChange::RemoveReader(other))
            .await
            .unwrap()
            .is_none()
    );
}

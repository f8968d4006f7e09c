//! The records that clients make and everyone else may have altered. What decodes must be the one encoding of what it
//! says, and what nobody signed must not verify.

use crypto::wrap::{BucketKey, Wrap};
use crypto::{ChunkProof, Identity, Secret};
use domain::{BucketId, Cid, ObjectKey, Profile, TimestampMs};
use sealed::bucket::{Bucket, BucketRecord, VerifiedBucket};
use sealed::bucket_key::BucketKeyRecord;
use sealed::manifest::{self, ChunkList, ContentManifest, FinishedManifest, Geometry};
use sealed::object::{ObjectOpener, ObjectSealer};
use sealed::small::{SmallHead, SmallRecord};
use sealed::{ChunkEntry, Entry, SignedEntry, Target as EntryTarget, VersionRecord};
use std::sync::LazyLock;

use crate::{Target, fixed};

pub const MANIFEST: Target = Target {
    name: "manifest",
    run: manifest,
    seeds: || [0, 1, 3, 1025].map(|chunks| object(chunks).root).to_vec(),
};

pub const MANIFEST_PAGE: Target = Target {
    name: "manifest_page",
    run: manifest_page,
    seeds: || {
        let page = object(1025).last_page.expect("1,025 chunks need pages");
        vec![page.bytes]
    },
};

pub const BUCKET_RECORD: Target = Target {
    name: "bucket_record",
    run: bucket_record,
    seeds: || vec![BUCKET.record().encode()],
};

pub const BUCKET_KEY_RECORD: Target = Target {
    name: "bucket_key_record",
    run: bucket_key_record,
    seeds: || {
        let record = key_record();
        let mut wraps = record.wraps().to_vec();
        wraps.push(Wrap::Other {
            kind: 9,
            data: b"a kind of tomorrow".to_vec(),
        });
        let more = record.clone().with_wraps(wraps).expect("two wraps");
        vec![record.encode(), more.encode()]
    },
};

pub const ENTRY: Target = Target {
    name: "entry",
    run: entry,
    seeds: || {
        vec![
            tombstone().encode(),
            small(b"plaintext").version().entry().encode(),
        ]
    },
};

pub const VERSION_RECORD: Target = Target {
    name: "version_record",
    run: version_record,
    seeds: || {
        let deleted = VersionRecord::tombstone(tombstone()).expect("a tombstone");
        vec![deleted.encode(), small(b"plaintext").version().encode()]
    },
};

pub const SMALL_RECORD: Target = Target {
    name: "small_record",
    run: small_record,
    seeds: || {
        vec![
            small(b"").encode(),
            small(b"plaintext").encode(),
            small(b"plaintext").with_bucket_key(key_record()).encode(),
        ]
    },
};

static IDENTITY: LazyLock<Identity> = LazyLock::new(fixed::identity);

static BUCKET: LazyLock<VerifiedBucket> = LazyLock::new(|| {
    let bucket = Bucket::create(
        &mut fixed::rng(),
        &fixed::deployment(),
        IDENTITY.principal(),
        "photos".parse().expect("a bucket name"),
        Profile::DATACENTRE,
        TimestampMs(1_700_000_000_000),
    );
    let record = bucket.sign(&IDENTITY, &fixed::deployment());
    record.verify(&fixed::deployment()).expect("just signed")
});

fn bucket_id() -> BucketId {
    BUCKET.record().id
}

fn key() -> BucketKey {
    let secret = Secret::take(&mut [0xbe; 32]);
    BucketKey::new(
        fixed::bucket_key(),
        bucket_id(),
        secret,
        fixed::deployment(),
    )
}

fn key_record() -> BucketKeyRecord {
    let holder = IDENTITY.receiver_key(&fixed::deployment());
    BucketKeyRecord::create(
        &mut fixed::rng(),
        &IDENTITY,
        &fixed::deployment(),
        &key(),
        TimestampMs(1_700_000_000_000),
        3,
        &[&holder],
    )
    .expect("one holder")
}

fn name() -> ObjectKey {
    "2026/a.jpg".parse().expect("an object key")
}

fn small(plain: &[u8]) -> SmallRecord {
    let head = SmallHead {
        bucket: bucket_id(),
        name: name(),
        writer_set: 1,
        time: TimestampMs(1_700_000_000_000),
        predecessor: None,
    };
    let metadata = Some(&b"metadata"[..]);
    let record = SmallRecord::seal(
        &mut fixed::rng(),
        &fixed::deployment(),
        &IDENTITY,
        &key(),
        head,
        plain,
        metadata,
    );
    record.expect("a few bytes")
}

fn tombstone() -> SignedEntry {
    let entry = Entry {
        bucket: bucket_id(),
        name: name(),
        version: fixed::version(),
        writer: IDENTITY.principal(),
        writer_set: 1,
        time: TimestampMs(1_700_000_000_000),
        target: EntryTarget::Tombstone,
        predecessor: None,
        metadata: None,
    };
    entry.sign(&IDENTITY, &fixed::deployment())
}

/// An object of so many chunks of 100 bytes, sealed once and listed again and again; none means one empty chunk.
fn object(chunks: usize) -> FinishedManifest {
    let mut sealer = ObjectSealer::with_dek(fixed::dek(), Geometry::LARGEST);
    let plain: &[u8] = if chunks == 0 { b"" } else { &[7; 100] };
    let mut out = Vec::new();
    let sealed = sealer.seal_chunk(&mut fixed::rng(), plain, &mut out);
    let chunk = ChunkEntry::from(&sealed.expect("100 bytes"));
    for _ in 0..chunks.max(1) {
        sealer.push(chunk).expect("a chunk of an object");
    }
    sealer.finish().expect("one chunk or more").1
}

fn manifest(input: &[u8]) -> bool {
    let Ok(manifest) = ContentManifest::decode(input) else {
        return false;
    };
    assert_eq!(manifest.encode(), input, "one encoding for one manifest");
    assert_eq!(manifest.cid(), manifest::cid_of(input));
    assert!(manifest.chunk_count() > 0);
    if let ChunkList::Inline(chunks) = manifest.chunks() {
        let sum: u64 = chunks.iter().map(|chunk| u64::from(chunk.plain_len)).sum();
        assert_eq!(sum, manifest.size());
    }
    let Ok(opener) = ObjectOpener::new(&manifest.cid(), input, fixed::dek()) else {
        // A manifest that carries another object's commitment or HMAC decodes and is refused here.
        return true;
    };
    let size = opener.size();
    for range in [0..size, 0..1, size.saturating_sub(1)..size, size..size + 1] {
        let missing = opener.missing_pages(&range);
        let Ok(reads) = opener.reads(&range) else {
            continue;
        };
        assert!(missing.is_empty(), "read through a page that is not there");
        let taken: usize = reads.iter().map(|read| read.take).sum();
        assert_eq!(u64::try_from(taken), Ok(range.end - range.start));
        for read in &reads {
            let mut out = vec![1];
            assert!(
                opener
                    .open_read(read, b"never sealed", ChunkProof::default(), &mut out)
                    .is_err()
            );
            assert!(out.is_empty(), "unchecked plaintext was handed out");
        }
    }
    true
}

fn manifest_page(input: &[u8]) -> bool {
    let Ok(chunks) = manifest::decode_page(input) else {
        return false;
    };
    assert!(!chunks.is_empty());
    // A page that no root names is refused by every root.
    static ROOT: LazyLock<FinishedManifest> = LazyLock::new(|| object(1025));
    let last = ROOT.last_page.as_ref().expect("1,025 chunks need pages");
    let opened = ROOT.manifest.open_page(last.index, input);
    assert_eq!(opened.is_ok(), manifest::cid_of(input) == last.cid);
    true
}

fn bucket_record(input: &[u8]) -> bool {
    let Ok(record) = BucketRecord::decode(input) else {
        return false;
    };
    assert_eq!(record.encode(), input, "one encoding for one record");
    let owner = record.owner;
    if let Ok(verified) = record.verify(&fixed::deployment()) {
        assert!(
            owner != IDENTITY.principal() || verified == *BUCKET,
            "a record that its owner never signed"
        );
    }
    true
}

fn bucket_key_record(input: &[u8]) -> bool {
    let Ok(record) = BucketKeyRecord::decode(input) else {
        return false;
    };
    assert_eq!(record.encode(), input, "one encoding for one record");
    assert!(!record.wraps().is_empty() && record.wraps().len() <= domain::limits::WRAPS_MAX);
    if let Ok(opened) = record.unwrap_key(&fixed::deployment(), &*IDENTITY) {
        assert!(
            record.statement().writer != IDENTITY.principal()
                || opened.danger_key().ct_eq(key().danger_key()),
            "another key than the one committed to"
        );
    }
    true
}

fn entry(input: &[u8]) -> bool {
    let Ok(entry) = SignedEntry::decode(input) else {
        return false;
    };
    assert_eq!(entry.encode(), input, "one encoding for one entry");
    check_entry(&entry);
    true
}

/// Only the bucket's owner may write, and of theirs there are only the entries that the seeds signed.
fn check_entry(entry: &SignedEntry) {
    if entry.verify(&BUCKET).is_ok() {
        assert_eq!(entry.writer, IDENTITY.principal());
        assert_eq!(entry.name, name(), "an entry that its writer never signed");
        assert!(
            entry
                .verify_for(&BUCKET, &name(), Some(&entry.version))
                .is_ok()
        );
    }
}

fn version_record(input: &[u8]) -> bool {
    let Ok(record) = VersionRecord::decode(input) else {
        return false;
    };
    assert_eq!(record.encode(), input, "one encoding for one record");
    check_entry(record.entry());
    assert_eq!(
        record.entry().object().is_some(),
        record.protection().is_some()
    );
    if record.unwrap_dek(&key()).is_ok() {
        assert!(record.protection().is_some());
    }
    true
}

fn small_record(input: &[u8]) -> bool {
    let Ok(record) = SmallRecord::decode(input) else {
        return false;
    };
    assert_eq!(record.encode(), input, "one encoding for one record");
    assert_eq!(record.chunk_cid(), Ok(Cid::of_raw(record.chunk())));
    if let Ok(plain) = record.open(&BUCKET, &name(), &key()) {
        assert!(
            plain.is_empty() || plain.as_slice() == b"plaintext",
            "bytes that nobody wrote"
        );
    }
    true
}

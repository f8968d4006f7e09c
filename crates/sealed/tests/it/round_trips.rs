//! Any valid record survives its encoding; no bytes at all make a decoder panic or take what it would not write.

use domain::{BucketId, Cid, Codec, KeyId, ObjectKey, Principal, Profile, TimestampMs, VersionId};
use proptest::prelude::*;
use sealed::bucket::{Bucket, BucketRecord, FormerWriter, Readers, WriterSet, bucket_id};
use sealed::bucket_key::BucketKeyRecord;
use sealed::entry::{Entry, Predecessor, SignedEntry, Target};
use sealed::manifest::{ContentManifest, Geometry, decode_page};
use sealed::{SmallRecord, VersionRecord};

use crate::support::{DEPLOYMENT, alice, bucket, small};

prop_compose! {
    fn entry()(
        bucket: [u8; 32],
        name in "[^\0]{1,200}",
        version: [u8; 16],
        writer_set in 1_u64..,
        time: u64,
        object in prop::option::of((any::<[u8; 32]>(), any::<u64>())),
        predecessor in prop::option::of(prop::option::of(any::<[u8; 16]>())),
        metadata in prop::option::of(prop::collection::vec(any::<u8>(), 0..200)),
    ) -> Entry {
        Entry {
            bucket: BucketId(bucket),
            name: name.parse::<ObjectKey>().unwrap(),
            version: VersionId(version),
            writer: alice().principal(),
            writer_set,
            time: TimestampMs(time),
            metadata: object.and(metadata),
            target: object.map_or(Target::Tombstone, |(digest, size)| Target::Object {
                manifest: Cid::from_digest(Codec::DagCbor, digest),
                size,
            }),
            predecessor: predecessor.map(|id| {
                id.map_or(Predecessor::Nothing, |id| Predecessor::Version(VersionId(id)))
            }),
        }
    }
}

prop_compose! {
    fn any_bucket()(
        random: [u8; 32],
        name in "[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]",
        data in 1_u8..128,
        parity in 0_u8..127,
        blocks in 16_u8..=64,
        version in 1_u64..,
        writers in prop::collection::vec(any::<[u8; 32]>(), 0..20),
        former in prop::collection::vec((any::<[u8; 32]>(), any::<u64>()), 0..3),
        readers in prop::collection::vec(any::<[u8; 32]>(), 0..3),
        key in prop::option::of(any::<[u8; 32]>()),
        key_generation in 0_u64..3,
        created: u64,
    ) -> Bucket {
        let owner = alice().principal();
        Bucket {
            id: bucket_id(&DEPLOYMENT, &owner, &random),
            owner,
            random,
            name: name.parse().unwrap(),
            profile: Profile::new(data, parity).unwrap(),
            geometry: Geometry::new(blocks).unwrap(),
            writers: WriterSet::new(version, writers.into_iter().map(Principal).collect())
                .unwrap()
                .with_former(
                    former
                        .into_iter()
                        .filter(|_| version > 1)
                        .map(|(writer, until)| FormerWriter {
                            writer: Principal(writer),
                            until: 1 + until % (version - 1),
                        })
                        .collect(),
                )
                .unwrap(),
            readers: Readers::new(readers.into_iter().map(Principal).collect()).unwrap(),
            key: key.map(KeyId),
            key_generation,
            created: TimestampMs(created),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn entries(entry in entry()) {
        let signed = entry.clone().sign(&alice(), &DEPLOYMENT);
        let decoded = SignedEntry::decode(&signed.encode()).unwrap();
        prop_assert_eq!(&decoded, &signed);
        prop_assert_eq!(&*decoded, &entry);
        prop_assert!(decoded.verify_signature(&DEPLOYMENT).is_ok());
        prop_assert_eq!(decoded.hash(), signed.hash());
    }

    #[test]
    fn buckets(bucket in any_bucket()) {
        let signed = bucket.clone().sign(&alice(), &DEPLOYMENT);
        let decoded = BucketRecord::decode(&signed.encode()).unwrap();
        prop_assert_eq!(&*decoded, &bucket);
        prop_assert!(decoded.verify(&DEPLOYMENT).is_ok());
    }

    /// What a decoder takes, it writes again byte for byte; so nothing has two forms.
    #[test]
    fn decoders_take_only_what_they_would_write(
        which in 0_usize..5,
        cuts in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        garbage in prop::collection::vec(any::<u8>(), 0..400),
    ) {
        let record = small("fuzz", b"plain", Some(b"meta"));
        let mut bytes = match which {
            0 => record.encode(),
            1 => record.version().encode(),
            2 => record.manifest().to_vec(),
            3 => bucket(&alice(), "photos").sign(&alice(), &DEPLOYMENT).encode(),
            _ => garbage,
        };
        for (at, byte) in cuts {
            if !bytes.is_empty() {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
        }
        if let Ok(record) = SmallRecord::decode(&bytes) {
            prop_assert_eq!(record.encode(), bytes.clone());
        }
        if let Ok(record) = VersionRecord::decode(&bytes) {
            prop_assert_eq!(record.encode(), bytes.clone());
        }
        if let Ok(record) = ContentManifest::decode(&bytes) {
            prop_assert_eq!(record.encode(), bytes.clone());
        }
        if let Ok(record) = BucketRecord::decode(&bytes) {
            prop_assert_eq!(record.encode(), bytes.clone());
        }
        if let Ok(record) = BucketKeyRecord::decode(&bytes) {
            prop_assert_eq!(record.encode(), bytes.clone());
        }
        let _ = decode_page(&bytes);
    }
}

#[test]
fn records_that_break_a_bound_are_refused() {
    let mut record = bucket(&alice(), "photos");
    let many = (0_u32..1_001)
        .map(|n| {
            let mut bytes = [0; 32];
            bytes[..4].copy_from_slice(&n.to_be_bytes());
            Principal(bytes)
        })
        .collect::<Vec<_>>();
    assert!(WriterSet::new(1, many.clone()).is_err());
    assert!(WriterSet::new(0, Vec::new()).is_err());
    record.writers = WriterSet::new(1, many[..1_000].to_vec()).unwrap();
    let full = record.sign(&alice(), &DEPLOYMENT);
    assert_eq!(BucketRecord::decode(&full.encode()), Ok(full));
    for decoded in [
        SmallRecord::decode(&vec![0; (1 << 20) + 1]).err(),
        VersionRecord::decode(&vec![0; (1 << 20) + 1]).err(),
        ContentManifest::decode(&vec![0; 81_921]).err(),
    ] {
        assert!(matches!(decoded, Some(sealed::RecordError::TooLong { .. })));
    }
}

//! One flipped bit in any byte of any record is refused somewhere on the way to its use.

use crypto::wrap::{Passphrase, WrapTo};
use domain::VersionId;
use sealed::bucket::BucketRecord;
use sealed::bucket_key::BucketKeyRecord;
use sealed::entry::{Entry, Predecessor, SignedEntry, Target};
use sealed::manifest::{ContentManifest, cid_of, decode_page};
use sealed::{ObjectOpener, SmallRecord, VersionRecord};

use crate::support::{DEPLOYMENT, FixedRng, TIME, alice, bucket, key, photos, small};

/// Flips one bit of each byte in turn (another bit each time) and cuts at each byte.
fn refuses_all(bytes: &[u8], accepts: impl Fn(&[u8]) -> bool) {
    assert!(
        accepts(bytes),
        "the unaltered record must pass, or this test shows nothing"
    );
    for i in 0..bytes.len() {
        let mut altered = bytes.to_vec();
        altered[i] ^= 1 << (i % 8);
        assert!(!accepts(&altered), "byte {i} of {}", bytes.len());
    }
    for len in 0..bytes.len() {
        assert!(!accepts(&bytes[..len]), "cut at {len}");
    }
    let mut longer = bytes.to_vec();
    longer.push(0);
    assert!(!accepts(&longer), "one byte more");
}

#[test]
fn bucket_record() {
    let record = bucket(&alice(), "photos").sign(&alice(), &DEPLOYMENT);
    refuses_all(&record.encode(), |bytes| {
        BucketRecord::decode(bytes).is_ok_and(|record| record.verify(&DEPLOYMENT).is_ok())
    });
}

#[test]
fn entry_with_every_field() {
    let (bucket, _) = photos();
    let entry = Entry {
        bucket: bucket.id,
        name: key("näme/\u{202e}"),
        version: VersionId([1; 16]),
        writer: alice().principal(),
        writer_set: 1,
        time: TIME,
        target: Target::Object {
            manifest: cid_of(b"manifest"),
            size: 70_000,
        },
        predecessor: Some(Predecessor::Version(VersionId([2; 16]))),
        metadata: Some(vec![7; 40]),
    };
    refuses_all(&entry.sign(&alice(), &DEPLOYMENT).encode(), |bytes| {
        SignedEntry::decode(bytes).is_ok_and(|entry| entry.verify(&bucket).is_ok())
    });
}

#[test]
fn bucket_key_record_by_identity_and_by_passphrase() {
    let (_, bucket_key) = photos();
    let receiver = alice().receiver_key(&DEPLOYMENT);
    let create = |holder: &dyn WrapTo| {
        let mut rng = FixedRng::new("fields");
        BucketKeyRecord::create(
            &mut rng,
            &alice(),
            &DEPLOYMENT,
            &bucket_key,
            TIME,
            3,
            &[holder],
        )
        .unwrap()
        .encode()
    };
    refuses_all(&create(&receiver), |bytes| {
        BucketKeyRecord::decode(bytes)
            .is_ok_and(|record| record.unwrap_key(&DEPLOYMENT, &alice()).is_ok())
    });
    // Costs may come out larger, up to their bounds, which is slow: those bytes are tested one by one in `crypto`.
    let passphrase = Passphrase {
        bytes: b"hunter2",
        costs: Some((8, 1, 1)),
    };
    let bytes = create(&passphrase);
    let record = BucketKeyRecord::decode(&bytes).unwrap();
    assert!(record.unwrap_key(&DEPLOYMENT, &passphrase).is_ok());
    let wrong = Passphrase {
        bytes: b"hunter3",
        costs: None,
    };
    assert!(record.unwrap_key(&DEPLOYMENT, &wrong).is_err());
}

#[test]
fn version_record() {
    let (bucket, bucket_key) = photos();
    let record = small("fields", b"plain", None);
    let manifest = record.manifest().to_vec();
    refuses_all(&record.version().encode(), |bytes| {
        let Ok(version) = VersionRecord::decode(bytes) else {
            return false;
        };
        let Ok(dek) = version.unwrap_dek(&bucket_key) else {
            return false;
        };
        version.entry().verify(&bucket).is_ok()
            && ObjectOpener::for_entry(version.entry(), &manifest, dek).is_ok()
    });
}

#[test]
fn small_record() {
    let (bucket, bucket_key) = photos();
    let record = small(
        "fields",
        b"some plaintext of a few bytes",
        Some(b"metadata"),
    );
    let metadata_opens = |record: &SmallRecord| {
        let dek = record.version().unwrap_dek(&bucket_key).unwrap();
        record.version().entry().open_metadata(&dek).is_some()
    };
    refuses_all(&record.encode(), |bytes| {
        SmallRecord::decode(bytes).is_ok_and(|record| {
            record.open(&bucket, &key("fields"), &bucket_key).is_ok() && metadata_opens(&record)
        })
    });
}

/// Even when the CID is computed anew over the altered manifest: by its form, its commitment or its HMAC.
#[test]
fn manifest_whose_cid_follows_the_alteration() {
    let (_, bucket_key) = photos();
    let record = small("fields", b"plain", None);
    refuses_all(record.manifest(), |bytes| {
        let dek = record.version().unwrap_dek(&bucket_key).unwrap();
        ObjectOpener::new(&cid_of(bytes), bytes, dek).is_ok()
    });
}

#[test]
fn no_decoder_takes_another_types_record() {
    let small = small("types", b"plain", None);
    let version = small.version().encode();
    let entry = small.version().entry().encode();
    let bucket = bucket(&alice(), "photos")
        .sign(&alice(), &DEPLOYMENT)
        .encode();
    let all: [(&str, Vec<u8>); 5] = [
        ("small", small.encode()),
        ("version", version),
        ("entry", entry),
        ("bucket", bucket),
        ("manifest", small.manifest().to_vec()),
    ];
    for (name, bytes) in &all {
        let taken = [
            ("small", SmallRecord::decode(bytes).is_ok()),
            ("version", VersionRecord::decode(bytes).is_ok()),
            ("entry", SignedEntry::decode(bytes).is_ok()),
            ("bucket", BucketRecord::decode(bytes).is_ok()),
            ("manifest", ContentManifest::decode(bytes).is_ok()),
            ("page", decode_page(bytes).is_ok()),
            ("bucket key", BucketKeyRecord::decode(bytes).is_ok()),
        ];
        for (decoder, taken) in taken {
            assert_eq!(taken, decoder == *name, "{decoder} of {name}");
        }
    }
}

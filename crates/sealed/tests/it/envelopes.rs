//! The committed vectors of the KEM and of envelopes, version 1: made here from fixed randomness, read
//! by this implementation and by the second one in `testing/reader`.
//!
//! `STRONGROOM_WRITE_VECTORS=1 cargo nextest run -p sealed envelopes` writes them anew; see `vectors` for when that is right.

use crypto::kem::{Encapsulator, KemCiphertext, KeyRef, PqSeed, PublicKeys, SharedSecrets, proof};
use crypto::ristretto::{Element, SecretScalar};
use crypto::wrap::{BucketKey, Passphrase, ReleasedKey, Wrap, WrapContext, WrapTo};
use crypto::{ContextHash, EncryptionContext, NamedKeyWrap, Secret};
use domain::{BucketId, BucketKeyId, KeyId, KeyVersion};
use sealed::Envelope;
use sealed::armor::{self, ArmorKind};
use sealed::envelope::HeadReader;
use serde_json::{Value, json};

use crate::support::{DEPLOYMENT, FixedRng, alice, plaintext};
use crate::vector_files::{array, committed, folder, golden, hex, pretty, unhex};

const SET: &str = "envelopes/v1";
const PASSPHRASE: &str = "correct horse battery staple";

/// Both secrets of a named key in one place, as no deployment ever has them.
struct WholeKey {
    seed: PqSeed,
    x: SecretScalar,
    key: KeyRef,
}

impl WholeKey {
    fn new(seed: Secret<64>, x: SecretScalar, key: KeyId, version: KeyVersion) -> Self {
        let seed = PqSeed::from_secret(seed);
        let public = PublicKeys {
            pq: seed.public(),
            dh: Element::from_point(x.times_base()).unwrap(),
        };
        let key = KeyRef {
            deployment: DEPLOYMENT,
            key,
            version,
            public,
        };
        Self { seed, x, key }
    }

    fn fixed() -> Self {
        let mut rng = FixedRng::new("named key");
        let (seed, x) = (Secret::random(&mut rng), SecretScalar::random(&mut rng));
        Self::new(seed, x, KeyId([0x4e; 32]), KeyVersion::new(3).unwrap())
    }

    fn committed(all: &Value) -> Self {
        let key = &all["key"];
        let x = SecretScalar::from_secret(&Secret::take(&mut array(&key["x"]))).unwrap();
        let seed = Secret::take(&mut array(&key["seed"]));
        let version = u32::try_from(key["version"].as_u64().unwrap()).unwrap();
        let whole = Self::new(
            seed,
            x,
            KeyId(array(&key["id"])),
            KeyVersion::new(version).unwrap(),
        );
        assert_eq!(hex(whole.key.public.pq.as_bytes()), key["pq"]);
        assert_eq!(hex(whole.key.public.dh.as_bytes()), key["dh"]);
        assert_eq!(hex(&whole.key.target().public.0), key["public_keys_hash"]);
        whole
    }

    fn shared(&self, ciphertext: &KemCiphertext, context: &ContextHash) -> SharedSecrets {
        let parts = ciphertext.parts(&DEPLOYMENT, *context);
        let u = parts.verify(&self.key.target()).unwrap();
        let dh = Element::from_point(u.point() * self.x.danger_scalar()).unwrap();
        let pq = self.seed.open(&self.key.public.pq).unwrap();
        SharedSecrets::new(pq.decapsulate(&ciphertext.pq), &dh)
    }

    fn release(&self, wrap: &NamedKeyWrap, context: &WrapContext) -> ReleasedKey {
        let hash = context.context_hash(&DEPLOYMENT);
        let shared = self.shared(&wrap.ciphertext, &hash);
        ReleasedKey {
            kem_hash: wrap.kem_hash(&DEPLOYMENT, context),
            key: self.key.derive_key(&wrap.ciphertext, &hash, &shared),
        }
    }
}

fn named(wraps: &[Wrap]) -> &NamedKeyWrap {
    let find = |wrap: &'_ Wrap| match wrap {
        Wrap::NamedKey(_) => true,
        Wrap::Identity { .. } | Wrap::Passphrase { .. } | Wrap::Other { .. } => false,
    };
    match wraps.iter().find(|wrap| find(wrap)) {
        Some(Wrap::NamedKey(wrap)) => wrap,
        _ => panic!("no wrap to a named key"),
    }
}

fn contexts() -> [EncryptionContext; 3] {
    [
        EncryptionContext::default(),
        EncryptionContext::from_user([("purpose", "payroll"), ("month", "2026-11")]).unwrap(),
        EncryptionContext::from_user([("ключ", "значение"), ("b", "")]).unwrap(),
    ]
}

fn kem_case(whole: &WholeKey, number: usize, context: &EncryptionContext) -> Value {
    let mut rng = FixedRng::new(&format!("kem {number}"));
    let m = Secret::random(&mut rng);
    let (r, s) = (
        SecretScalar::random(&mut rng),
        SecretScalar::random(&mut rng),
    );
    let hash = context.hash(&DEPLOYMENT);
    let encapsulator = Encapsulator::new(whole.key.clone());
    let (ciphertext, key) = encapsulator.danger_encapsulate_with(&m, &r, &s, &hash);
    let parts = ciphertext.parts(&DEPLOYMENT, hash);
    let shared = whole.shared(&ciphertext, &hash);
    assert!(
        whole
            .key
            .derive_key(&ciphertext, &hash, &shared)
            .ct_eq(&key)
    );
    json!({
        "m": hex(m.expose()),
        "r": hex(r.to_secret().expose()),
        "s": hex(s.to_secret().expose()),
        "context": context,
        "context_encoding": hex(&context.encode()),
        "context_hash": hex(&hash.0),
        "pq_hash": hex(&parts.pq.0),
        "ciphertext": hex(&ciphertext.to_bytes()),
        "kem_hash": hex(&parts.kem_hash(&DEPLOYMENT).0),
        "ss_pq": hex(shared.pq.expose()),
        "ss_dh": hex(shared.dh.expose()),
        "key": hex(key.expose()),
    })
}

/// A stream in chunks of one block, as a file.
fn stream_file(whole: &WholeKey, name: &str, len: usize) -> Vec<u8> {
    let mut rng = FixedRng::new(&format!("envelope {name}"));
    let named = Encapsulator::new(whole.key.clone());
    let (envelope, mut sealer) =
        Envelope::stream(&mut rng, &DEPLOYMENT, contexts()[1].clone(), &[&named], 1).unwrap();
    let mut file = envelope.to_file();
    let plain = plaintext(name, len);
    let mut rest = plain.as_slice();
    while !rest.is_empty() {
        let taken = sealer.push(&mut rng, rest, &mut file).unwrap();
        rest = &rest[taken..];
    }
    sealer.finish(&mut rng, &mut file);
    file
}

const INLINE: [(&str, usize); 3] = [("empty", 0), ("short", 100), ("full", 65_520)];
const STREAMS: [(&str, usize); 3] = [
    ("stream-empty", 0),
    ("stream-block", 65_520),
    ("stream", 140_000),
];

#[test]
fn envelope_vectors_are_what_this_implementation_makes() {
    let whole = WholeKey::fixed();
    let kem: Vec<Value> = contexts()
        .iter()
        .enumerate()
        .map(|(number, context)| kem_case(&whole, number, context))
        .collect();
    let receiver = alice().receiver_key(&DEPLOYMENT);
    let passphrase = Passphrase {
        bytes: PASSPHRASE.as_bytes(),
        costs: Some((64, 1, 1)),
    };
    let named_key = Encapsulator::new(whole.key.clone());
    let holders: [&dyn WrapTo; 3] = [&named_key, &receiver, &passphrase];
    let mut envelopes = Vec::new();
    for (name, len) in INLINE {
        let mut rng = FixedRng::new(&format!("envelope {name}"));
        let (context, plain) = (contexts()[1].clone(), plaintext(name, len));
        let envelope = Envelope::seal(&mut rng, &DEPLOYMENT, context, &holders, &plain).unwrap();
        let file = envelope.to_file();
        golden(SET, &format!("{name}.envelope"), &file);
        if name == "short" {
            let text = armor::encode(ArmorKind::Envelope, &file);
            golden(SET, "short.armor", text.as_bytes());
        }
        envelopes.push(json!({
            "name": name,
            "size": len,
            "kem_hash": hex(&named(envelope.wraps()).kem_hash(&DEPLOYMENT, &envelope.wrap_context()).0),
            "dek": hex(envelope.unwrap_dek(&alice()).unwrap().danger_key().expose()),
        }));
    }
    let mut streams = Vec::new();
    for (name, len) in STREAMS {
        golden(
            SET,
            &format!("{name}.envelope"),
            &stream_file(&whole, name, len),
        );
        streams.push(json!({ "name": name, "size": len }));
    }
    let mut rng = FixedRng::new("bucket key wrap");
    let bucket_key = BucketKey::new(
        BucketKeyId([0xb2; 16]),
        BucketId([0xb1; 32]),
        Secret::random(&mut rng),
        DEPLOYMENT,
    );
    let context = WrapContext::BucketKey {
        bucket: bucket_key.bucket,
        key: bucket_key.id,
    };
    let wrap = named_key
        .wrap(&mut rng, &DEPLOYMENT, &context, bucket_key.danger_key())
        .unwrap();
    let all = json!({
        "format": 1,
        "deployment": hex(&DEPLOYMENT.0),
        "second_generator": hex(proof::second_generator().compress().as_bytes()),
        "key": {
            "id": hex(whole.key.key.as_bytes()),
            "version": whole.key.version.get(),
            "seed": hex(whole.seed.danger_bytes().expose()),
            "x": hex(whole.x.to_secret().expose()),
            "pq": hex(whole.key.public.pq.as_bytes()),
            "dh": hex(whole.key.public.dh.as_bytes()),
            "public_keys_hash": hex(&whole.key.target().public.0),
        },
        "kem": kem,
        "passphrase": PASSPHRASE,
        "plaintext": "BLAKE3 output stream over \"plaintext NAME\"",
        "inline": envelopes,
        "streams": streams,
        "bucket_key_wrap": {
            "bucket": hex(bucket_key.bucket.as_bytes()),
            "id": hex(bucket_key.id.as_bytes()),
            "key": hex(bucket_key.danger_key().expose()),
            "kind": wrap.to_parts().0,
            "data": hex(&wrap.to_parts().1),
        },
    });
    golden(SET, "envelopes.json", &pretty(&all));
}

#[test]
fn committed_envelopes_open() {
    let all = committed(SET, "envelopes.json");
    let whole = WholeKey::committed(&all);
    let read = |name: &str| std::fs::read(folder(SET).join(name)).unwrap();
    let passphrase = Passphrase {
        bytes: all["passphrase"].as_str().unwrap().as_bytes(),
        costs: None,
    };
    for case in all["kem"].as_array().unwrap() {
        let context: EncryptionContext = serde_json::from_value(case["context"].clone()).unwrap();
        let hash = context.hash(&DEPLOYMENT);
        let ciphertext = KemCiphertext::from_bytes(&unhex(&case["ciphertext"])).unwrap();
        let shared = whole.shared(&ciphertext, &hash);
        let key = whole.key.derive_key(&ciphertext, &hash, &shared);
        assert_eq!(hex(key.expose()), case["key"]);
        assert_eq!(
            hex(&ciphertext.kem_hash(&DEPLOYMENT, hash).0),
            case["kem_hash"]
        );
    }
    for entry in all["inline"].as_array().unwrap() {
        let name = entry["name"].as_str().unwrap();
        let envelope = Envelope::from_file(&read(&format!("{name}.envelope"))).unwrap();
        let released = whole.release(named(envelope.wraps()), &envelope.wrap_context());
        assert_eq!(hex(&released.kem_hash.0), entry["kem_hash"]);
        let size = usize::try_from(entry["size"].as_u64().unwrap()).unwrap();
        for holder in [
            &released as &dyn crypto::wrap::UnwrapWith,
            &alice(),
            &passphrase,
        ] {
            let dek = envelope.unwrap_dek(holder).unwrap();
            assert_eq!(hex(dek.danger_key().expose()), entry["dek"]);
            assert!(envelope.open(&dek).unwrap().as_slice() == plaintext(name, size));
        }
    }
    let armored = armor::decode(ArmorKind::Envelope, &read("short.armor")).unwrap();
    assert_eq!(armored, read("short.envelope"));
    for entry in all["streams"].as_array().unwrap() {
        let name = entry["name"].as_str().unwrap();
        let file = read(&format!("{name}.envelope"));
        let (at, envelope) = HeadReader::new().push(&file).unwrap();
        let envelope = envelope.unwrap();
        let released = whole.release(named(envelope.wraps()), &envelope.wrap_context());
        let mut opener = envelope
            .open_stream(envelope.unwrap_dek(&released).unwrap())
            .unwrap();
        let (mut rest, mut out) = (&file[at..], Vec::new());
        while !rest.is_empty() {
            let taken = opener.push(rest, &mut out).unwrap();
            rest = &rest[taken..];
        }
        opener.finish().unwrap();
        let size = usize::try_from(entry["size"].as_u64().unwrap()).unwrap();
        assert!(out == plaintext(name, size), "{name}");
    }
    let stored = &all["bucket_key_wrap"];
    let wrap = Wrap::from_parts(stored["kind"].as_u64().unwrap(), &unhex(&stored["data"])).unwrap();
    let context = WrapContext::BucketKey {
        bucket: BucketId(array(&stored["bucket"])),
        key: BucketKeyId(array(&stored["id"])),
    };
    let wraps = [wrap];
    let released = whole.release(named(&wraps), &context);
    let key =
        crypto::wrap::UnwrapWith::unwrap_key(&released, &DEPLOYMENT, &context, &wraps).unwrap();
    assert_eq!(hex(key.expose()), stored["key"]);
}

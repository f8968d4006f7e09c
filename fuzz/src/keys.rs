//! Identity files, seeds in text, public keys, wraps and recovery records: what a disk, a user or another principal wrote.

use std::sync::LazyLock;

use crypto::identity::ReceiverKey;
use crypto::passphrase::PassphraseParams;
use crypto::recovery::{self, RecoveryOpener, RecoverySecret, RecoverySession};
use crypto::seed_text::{self, SeedKind};
use crypto::wrap::{Passphrase, UnwrapWith as _, Wrap, WrapContext, WrapTo as _};
use crypto::{Identity, Secret, Signature, hybrid, identity_file};
use domain::Principal;

use crate::{Target, fixed};

pub const IDENTITY_FILE: Target = Target {
    name: "identity_file",
    run: identity_file,
    seeds: || {
        let cheap = PassphraseParams::danger_cheap([7; 16]);
        let file = identity_file::seal_with(&IDENTITY, PASSPHRASE, &cheap);
        vec![file.expect("8 KiB for a seed")]
    },
};

pub const SEED_TEXT: Target = Target {
    name: "seed_text",
    run: seed_text,
    seeds: || {
        let seed = Secret::take(&mut [0x5d; 32]);
        [SeedKind::Identity, SeedKind::Recovery]
            .into_iter()
            .flat_map(|kind| {
                let kit = seed_text::kit(kind, &seed, &[("principal", "nobody")]);
                [
                    kit.as_bytes().to_vec(),
                    seed_text::digits(kind, &seed).as_bytes().to_vec(),
                ]
            })
            .collect()
    },
};

pub const RECEIVER_KEY: Target = Target {
    name: "receiver_key",
    run: receiver_key,
    seeds: || {
        let key = IDENTITY.receiver_key(&fixed::deployment());
        vec![
            [
                key.principal().as_bytes().as_slice(),
                &key.signature().0,
                &key.public().to_bytes(),
            ]
            .concat(),
        ]
    },
};

pub const WRAP: Target = Target {
    name: "wrap",
    run: wrap,
    seeds: || {
        let key = Secret::take(&mut [0x4e; 32]);
        let receiver = IDENTITY.receiver_key(&fixed::deployment());
        let passphrase = Passphrase {
            bytes: PASSPHRASE,
            costs: Some((8, 1, 1)),
        };
        let wraps = [
            receiver.wrap(&mut fixed::rng(), &fixed::deployment(), &context(), &key),
            passphrase.wrap(&mut fixed::rng(), &fixed::deployment(), &context(), &key),
            Ok(Wrap::Other {
                kind: 9,
                data: b"a kind of tomorrow".to_vec(),
            }),
        ];
        wraps
            .into_iter()
            .map(|wrap| {
                let (kind, data) = wrap.expect("memory for a seed").to_parts();
                let mut seed = vec![u8::try_from(kind).unwrap_or(u8::MAX)];
                seed.extend_from_slice(&data);
                seed
            })
            .collect()
    },
};

pub const RECOVERY_RECORD: Target = Target {
    name: "recovery_record",
    run: recovery_record,
    seeds: || {
        let session = recovery_session();
        vec![
            session.encoded().to_vec(),
            session.seal(&mut fixed::rng(), b"a record"),
            session.seal(&mut fixed::rng(), b""),
        ]
    },
};

const PASSPHRASE: &[u8] = b"correct horse";
/// What a derivation may cost here; the decoder's own bound of 256 MiB would leave ten inputs a second.
const CHEAP: (u32, u32) = (64, 2);

static IDENTITY: LazyLock<Identity> = LazyLock::new(fixed::identity);

static RECOVERY: LazyLock<RecoveryOpener> = LazyLock::new(|| {
    let mut opener = recovery_opener();
    opener
        .add_session(recovery_session().encoded())
        .expect("a session made for this secret");
    opener
});

fn recovery_seed() -> Secret<32> {
    Secret::take(&mut [0x7e; 32])
}

fn recovery_opener() -> RecoveryOpener {
    RecoveryOpener::new(
        RecoverySecret::from_seed(&recovery_seed()),
        fixed::deployment(),
    )
}

fn recovery_session() -> RecoverySession {
    let public = RecoverySecret::from_seed(&recovery_seed()).public();
    RecoverySession::start(&mut fixed::rng(), &public, fixed::deployment())
}

fn context() -> WrapContext {
    WrapContext::BucketKey {
        bucket: fixed::bucket(),
        key: fixed::bucket_key(),
    }
}

fn identity_file(input: &[u8]) -> bool {
    let Ok(principal) = identity_file::principal(input) else {
        assert!(identity_file::open(input, PASSPHRASE).is_err());
        return false;
    };
    assert_eq!(input.len(), identity_file::FILE_BYTES);
    let number = |at: usize| {
        let bytes = input
            .get(at..at + 4)
            .and_then(|bytes| bytes.try_into().ok());
        bytes.map_or(u32::MAX, u32::from_be_bytes)
    };
    if number(37) <= CHEAP.0 && number(41) <= CHEAP.1 {
        if let Ok(identity) = identity_file::open(input, PASSPHRASE) {
            assert_eq!(identity.principal(), principal);
        }
        assert!(identity_file::open(input, b"another passphrase").is_err());
    }
    true
}

fn seed_text(input: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(input) else {
        return false;
    };
    let mut kinds = 0;
    for kind in [SeedKind::Identity, SeedKind::Recovery] {
        if let Ok(seed) = seed_text::parse(kind, text) {
            kinds += 1;
            let again = seed_text::parse(kind, &seed_text::digits(kind, &seed));
            assert!(again.is_ok_and(|again| again.ct_eq(&seed)));
        }
    }
    assert!(kinds <= 1, "one text is a seed of two kinds");
    kinds == 1
}

/// `principal (32) signature (64) public key`.
fn receiver_key(input: &[u8]) -> bool {
    let Some((principal, rest)) = input.split_first_chunk::<32>() else {
        return false;
    };
    let Some((signature, public)) = rest.split_first_chunk::<64>() else {
        return false;
    };
    if let Ok(key) = hybrid::HybridPublic::from_bytes(public) {
        assert_eq!(key.to_bytes(), public, "one encoding for one public key");
    }
    let key = ReceiverKey::from_parts(
        &fixed::deployment(),
        Principal(*principal),
        public,
        Signature(*signature),
    );
    key.is_ok_and(|key| key.public().to_bytes() == public)
}

/// `kind (1) data`.
fn wrap(input: &[u8]) -> bool {
    let Some((&kind, data)) = input.split_first() else {
        return false;
    };
    let Ok(wrap) = Wrap::from_parts(u64::from(kind), data) else {
        return false;
    };
    assert_eq!(wrap.to_parts(), (u64::from(kind), data.to_vec()));
    let costly = match &wrap {
        Wrap::Passphrase { params, .. } => {
            let [m0, m1, m2, m3, p0, p1, p2, p3, ..] = params.encode();
            u32::from_be_bytes([m0, m1, m2, m3]) > CHEAP.0
                || u32::from_be_bytes([p0, p1, p2, p3]) > CHEAP.1
        }
        Wrap::Identity { .. } | Wrap::NamedKey(_) | Wrap::Other { .. } => false,
    };
    if !costly {
        let wraps = [wrap];
        // Either the key that was wrapped, or an error: never another key.
        let opened = [
            IDENTITY.unwrap_key(&fixed::deployment(), &context(), &wraps),
            Passphrase {
                bytes: PASSPHRASE,
                costs: None,
            }
            .unwrap_key(&fixed::deployment(), &context(), &wraps),
        ];
        assert!(opened.iter().filter(|key| key.is_ok()).count() <= 1);
    }
    true
}

fn recovery_record(input: &[u8]) -> bool {
    let session = recovery_opener().add_session(input).is_ok();
    let record = match recovery::session_of(input) {
        Ok(_) => RECOVERY.open(input).is_ok(),
        Err(_) => {
            assert!(RECOVERY.open(input).is_err());
            false
        }
    };
    session || record
}

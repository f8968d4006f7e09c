//! KEM ciphertexts, envelopes, their streams and armor: what strangers send to be opened.

use std::sync::LazyLock;

use crypto::kem::{Encapsulator, KemCiphertext, KeyRef, PqSeed, PublicKeys};
use crypto::ristretto::{Element, SecretScalar};
use crypto::wrap::{Passphrase, Wrap, WrapTo};
use crypto::{ContextHash, EncryptionContext, Identity, Secret};
use domain::{KeyId, KeyVersion};
use sealed::Envelope;
use sealed::armor::{self, ArmorKind};
use sealed::envelope::{Body, HeadReader, INLINE_PLAIN_BYTES_MAX};

use crate::{Target, fixed};

pub const KEM_CIPHERTEXT: Target = Target {
    name: "kem_ciphertext",
    run: kem_ciphertext,
    seeds: || {
        let (ciphertext, _) = ENCAPSULATOR.encapsulate(&mut fixed::rng(), &CONTEXT);
        vec![ciphertext.to_bytes()]
    },
};

pub const ENVELOPE: Target = Target {
    name: "envelope",
    run: envelope,
    seeds: || {
        let (stream, _) = stream_head();
        vec![
            inline(b"").to_file(),
            inline(b"plaintext").to_file(),
            stream.to_file(),
        ]
    },
};

pub const ENVELOPE_STREAM: Target = Target {
    name: "envelope_stream",
    run: envelope_stream,
    seeds: || {
        [0, 9, 65_530]
            .into_iter()
            .map(|len| {
                let (_, mut sealer) = stream_head();
                let (plain, mut frames) = (vec![7; len], Vec::new());
                let mut rest = plain.as_slice();
                while !rest.is_empty() {
                    let taken = sealer.push(&mut fixed::rng(), rest, &mut frames);
                    rest = &rest[taken.expect("a short stream")..];
                }
                sealer.finish(&mut fixed::rng(), &mut frames);
                frames
            })
            .collect()
    },
};

pub const ARMOR: Target = Target {
    name: "armor",
    run: armored,
    seeds: || {
        [0, 1, 48, 100]
            .map(|len| armor::encode(ArmorKind::Envelope, &vec![7; len]).into_bytes())
            .to_vec()
    },
};

const CONTEXT: ContextHash = ContextHash([0xc0; 32]);

static IDENTITY: LazyLock<Identity> = LazyLock::new(fixed::identity);

static KEY: LazyLock<KeyRef> = LazyLock::new(|| {
    let dh = SecretScalar::from_wide(&[0xdc; 64]).times_base();
    KeyRef {
        deployment: fixed::deployment(),
        key: KeyId([0x4e; 32]),
        version: KeyVersion::FIRST,
        public: PublicKeys {
            pq: PqSeed::from_secret(Secret::take(&mut [0x9a; 64])).public(),
            dh: Element::from_point(dh).expect("not the identity"),
        },
    }
});

static ENCAPSULATOR: LazyLock<Encapsulator> = LazyLock::new(|| Encapsulator::new(KEY.clone()));

fn context() -> EncryptionContext {
    EncryptionContext::from_user([("purpose", "fuzz"), ("a", "")]).expect("a short context")
}

fn inline(plain: &[u8]) -> Envelope {
    let receiver = IDENTITY.receiver_key(&fixed::deployment());
    let passphrase = Passphrase {
        bytes: b"correct horse",
        costs: Some((8, 1, 1)),
    };
    let holders: [&dyn WrapTo; 3] = [&*ENCAPSULATOR, &receiver, &passphrase];
    let deployment = fixed::deployment();
    Envelope::seal(&mut fixed::rng(), &deployment, context(), &holders, plain)
        .expect("a short plaintext")
}

fn stream_head() -> (Envelope, sealed::envelope::StreamSealer) {
    let receiver = IDENTITY.receiver_key(&fixed::deployment());
    let deployment = fixed::deployment();
    Envelope::stream(&mut fixed::rng(), &deployment, context(), &[&receiver], 1)
        .expect("chunks of one block")
}

fn kem_ciphertext(input: &[u8]) -> bool {
    let Ok(ciphertext) = KemCiphertext::from_bytes(input) else {
        return false;
    };
    assert_eq!(
        ciphertext.to_bytes(),
        input,
        "one encoding for one ciphertext"
    );
    static MADE: LazyLock<KemCiphertext> =
        LazyLock::new(|| ENCAPSULATOR.encapsulate(&mut fixed::rng(), &CONTEXT).0);
    let parts = ciphertext.parts(&fixed::deployment(), CONTEXT);
    if parts.verify(ENCAPSULATOR.target()).is_ok() {
        assert_eq!(ciphertext, *MADE, "a proof that nobody made");
    }
    true
}

fn envelope(input: &[u8]) -> bool {
    let Ok((taken, Some(envelope))) = HeadReader::new().push(input) else {
        assert!(Envelope::from_file(input).is_err());
        return false;
    };
    assert_eq!(
        envelope.to_file(),
        input[..taken],
        "one encoding for one envelope"
    );
    if let Ok(dek) = envelope.unwrap_dek(&*IDENTITY) {
        match envelope.body() {
            Body::Inline(_) => {
                if let Ok(plain) = envelope.open(&dek) {
                    assert!(plain.len() <= INLINE_PLAIN_BYTES_MAX);
                    assert!(plain.is_empty() || plain.as_slice() == b"plaintext");
                }
            }
            Body::Stream { .. } => assert!(envelope.open_stream(dek).is_ok()),
        }
    }
    for wrap in envelope.wraps() {
        if let Wrap::NamedKey(wrap) = wrap {
            let context = envelope.wrap_context();
            let _ = wrap.kem_hash(envelope.deployment(), &context);
        }
    }
    true
}

/// Frames in pieces of several lengths: the same plaintext and the same verdict.
fn envelope_stream(input: &[u8]) -> bool {
    static HEAD: LazyLock<Envelope> = LazyLock::new(|| stream_head().0);
    let verdict = |piece: usize| {
        let dek = HEAD.unwrap_dek(&*IDENTITY).expect("its own envelope");
        let mut opener = HEAD.open_stream(dek).expect("a stream");
        let mut out = Vec::new();
        for mut part in input.chunks(piece) {
            while !part.is_empty() {
                match opener.push(part, &mut out) {
                    Ok(taken) => part = &part[taken..],
                    Err(_) => return (out, false),
                }
            }
        }
        (out, opener.finish().is_ok())
    };
    let (plain, whole) = verdict(usize::MAX);
    assert_eq!(verdict(4_099), (plain.clone(), whole), "pieces matter");
    assert!(
        plain.iter().all(|byte| *byte == 7),
        "bytes that nobody sealed"
    );
    whole
}

fn armored(input: &[u8]) -> bool {
    let Ok(bytes) = armor::decode(ArmorKind::Envelope, input) else {
        return false;
    };
    let text = armor::encode(ArmorKind::Envelope, &bytes);
    let given: Vec<u8> = input
        .iter()
        .copied()
        .filter(|byte| *byte != b'\r')
        .collect();
    let given = given.strip_suffix(b"\n").unwrap_or(&given);
    assert_eq!(
        text.trim_end().as_bytes(),
        given,
        "one text for one content"
    );
    true
}

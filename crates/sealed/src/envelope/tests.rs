use super::*;
use crypto::kem::{Encapsulator, KeyRef, PqSeed, PublicKeys, SharedSecrets};
use crypto::ristretto::{Element, SecretScalar};
use crypto::wrap::{NamedKeyWrap, Passphrase, ReleasedKey};
use crypto::{Identity, Secret};
use domain::{KeyId, KeyVersion};
use getrandom::{SysRng, rand_core::UnwrapErr};
use proptest::prelude::*;

const DEPLOYMENT: DeploymentId = DeploymentId([1; 32]);
const PASSPHRASE: Passphrase<'_> = Passphrase {
    bytes: b"correct horse",
    costs: Some((8, 1, 1)),
};

fn rng() -> UnwrapErr<SysRng> {
    UnwrapErr(SysRng)
}

fn identity(byte: u8) -> Identity {
    Identity::from_seed(Secret::take(&mut [byte; 32]))
}

fn context() -> EncryptionContext {
    EncryptionContext::from_user([("purpose", "payroll"), ("month", "2026-11")]).unwrap()
}

/// A named key whose secrets are whole: custodians, worker and recipient in one.
struct Custody {
    seed: PqSeed,
    x: SecretScalar,
    key: KeyRef,
}

fn custody() -> Custody {
    let seed = PqSeed::from_secret(Secret::take(&mut [5; 64]));
    let x = SecretScalar::from_wide(&[5; 64]);
    let public = PublicKeys {
        pq: seed.public(),
        dh: Element::from_point(x.times_base()).unwrap(),
    };
    let key = KeyRef {
        deployment: DEPLOYMENT,
        key: KeyId([5; 32]),
        version: KeyVersion::FIRST,
        public,
    };
    Custody { seed, x, key }
}

impl Custody {
    fn release(&self, envelope: &Envelope) -> ReleasedKey {
        let find = |wrap: &Wrap| match wrap {
            Wrap::NamedKey(wrap) => Some((**wrap).clone()),
            _ => None,
        };
        let wrap: NamedKeyWrap = envelope.wraps().iter().find_map(find).unwrap();
        let context = envelope.wrap_context();
        let hash = context.context_hash(&DEPLOYMENT);
        let parts = wrap.ciphertext.parts(&DEPLOYMENT, hash);
        let u = parts.verify(&self.key.target()).unwrap();
        let dh = Element::from_point(u.point() * self.x.danger_scalar()).unwrap();
        let pq = self.seed.open(&self.key.public.pq).unwrap();
        let shared = SharedSecrets::new(pq.decapsulate(&wrap.ciphertext.pq), &dh);
        ReleasedKey {
            kem_hash: parts.kem_hash(&DEPLOYMENT),
            key: self.key.derive_key(&wrap.ciphertext, &hash, &shared),
        }
    }
}

/// To a named key, an identity and a passphrase.
fn sealed(plaintext: &[u8]) -> Envelope {
    let named = Encapsulator::new(custody().key);
    let alice = identity(1).receiver_key(&DEPLOYMENT);
    let holders: [&dyn WrapTo; 3] = [&named, &alice, &PASSPHRASE];
    Envelope::seal(&mut rng(), &DEPLOYMENT, context(), &holders, plaintext).unwrap()
}

#[test]
fn every_holder_opens_the_same_payload() {
    for len in [0, 1, 1_024, INLINE_PLAIN_BYTES_MAX] {
        let plaintext: Vec<u8> = (0..len).map(|i| i.to_le_bytes()[0]).collect();
        let envelope = Envelope::from_file(&sealed(&plaintext).to_file()).unwrap();
        assert_eq!(envelope.context(), &context());
        let released = custody().release(&envelope);
        let alice = identity(1);
        let holders: [&dyn UnwrapWith; 3] = [&released, &alice, &PASSPHRASE];
        for holder in holders {
            let dek = envelope.unwrap_dek(holder).unwrap();
            assert_eq!(envelope.open(&dek).unwrap().as_slice(), plaintext);
            assert!(matches!(
                envelope.open_stream(dek),
                Err(EnvelopeError::Body(_))
            ));
        }
        assert!(matches!(
            envelope.unwrap_dek(&identity(2)),
            Err(EnvelopeError::Unwrap(UnwrapError::NotForMe(_)))
        ));
    }
}

#[test]
fn holders_and_lengths_are_bounded() {
    let seal = |holders: &[&dyn WrapTo], len: usize| {
        Envelope::seal(&mut rng(), &DEPLOYMENT, context(), holders, &vec![0; len])
    };
    let one: &dyn WrapTo = &PASSPHRASE;
    let too_long = INLINE_PLAIN_BYTES_MAX + 1;
    assert_eq!(
        seal(&[one], too_long),
        Err(EnvelopeError::TooLong(too_long))
    );
    assert_eq!(seal(&[], 1), Err(EnvelopeError::Holders));
    let alice = identity(1).receiver_key(&DEPLOYMENT);
    let many: Vec<&dyn WrapTo> = vec![&alice; WRAPS_MAX];
    let full = seal(&many, INLINE_PLAIN_BYTES_MAX).unwrap();
    assert_eq!(Envelope::decode(&full.encode()), Ok(full));
    let many: Vec<&dyn WrapTo> = vec![&alice; WRAPS_MAX + 1];
    assert_eq!(seal(&many, 1), Err(EnvelopeError::Holders));
}

#[test]
fn a_holder_is_added_without_touching_the_payload() {
    let envelope = sealed(b"payload");
    let dek = envelope.unwrap_dek(&identity(1)).unwrap();
    let bob = identity(2).receiver_key(&DEPLOYMENT);
    let wraps = envelope.wrap_to(&mut rng(), &dek, &[&bob]).unwrap();
    let rewrapped = envelope.clone().with_wraps(wraps).unwrap();
    let dek = rewrapped.unwrap_dek(&identity(2)).unwrap();
    assert_eq!(rewrapped.open(&dek).unwrap().as_slice(), b"payload");
    assert!(rewrapped.unwrap_dek(&identity(1)).is_err());
    assert_eq!(rewrapped.body(), envelope.body());
    assert_eq!(envelope.with_wraps(vec![]), Err(EnvelopeError::Holders));
}

/// Two holders who are shown different contents under one envelope: what the commitment prevents.
#[test]
fn a_wrap_of_another_dek_is_refused() {
    let (envelope, other) = (sealed(b"one"), sealed(b"two"));
    let foreign = other.unwrap_dek(&identity(1)).unwrap();
    let alice = identity(1).receiver_key(&DEPLOYMENT);
    let wraps = envelope.wrap_to(&mut rng(), &foreign, &[&alice]).unwrap();
    let mixed = envelope.with_wraps(wraps).unwrap();
    assert_eq!(
        mixed.unwrap_dek(&identity(1)).unwrap_err(),
        EnvelopeError::Commitment
    );
}

#[test]
fn every_altered_byte_of_a_file_is_refused() {
    let file = sealed(b"payload").to_file();
    let alice = identity(1);
    let open = |file: &[u8]| -> Result<Zeroizing<Vec<u8>>, EnvelopeError> {
        let envelope = Envelope::from_file(file)?;
        let named = envelope.wraps().iter().find_map(|wrap| match wrap {
            Wrap::NamedKey(wrap) => Some(wrap.clone()),
            _ => None,
        });
        // Each wrap on its own: an altered one is no reason why another does not open.
        let by_identity = envelope.unwrap_dek(&alice);
        let by_passphrase = envelope.unwrap_dek(&PASSPHRASE);
        let by_name = named.ok_or(EnvelopeError::Holders).and_then(|wrap| {
            let hash = envelope.wrap_context().context_hash(envelope.deployment());
            let parts = wrap.ciphertext.parts(envelope.deployment(), hash);
            let target = KeyRef {
                deployment: *envelope.deployment(),
                key: wrap.key,
                version: wrap.version,
                public: custody().key.public,
            };
            let refused = EnvelopeError::Unwrap(UnwrapError::Malformed(3));
            parts.verify(&target.target()).map_err(|_| refused)?;
            envelope.unwrap_dek(&custody().release(&envelope))
        });
        let (first, second, third) = (by_identity?, by_passphrase?, by_name?);
        let plain = envelope.open(&first)?;
        assert_eq!(plain, envelope.open(&second)?);
        assert_eq!(plain, envelope.open(&third)?);
        Ok(plain)
    };
    assert_eq!(open(&file).unwrap().as_slice(), b"payload");
    for at in 0..file.len() {
        let mut altered = file.clone();
        altered[at] ^= 1;
        assert!(open(&altered).is_err(), "byte {at}");
    }
    for len in (0..file.len()).step_by(13) {
        assert!(Envelope::from_file(&file[..len]).is_err(), "{len} bytes");
    }
    let longer = [file.as_slice(), &[0]].concat();
    assert!(matches!(
        Envelope::from_file(&longer),
        Err(EnvelopeError::Length(_))
    ));
    let mut later = file.clone();
    later[4] = 2;
    assert_eq!(
        Envelope::from_file(&later),
        Err(EnvelopeError::UnsupportedVersion(2))
    );
    let mut huge = file;
    huge[5..9].fill(0xff);
    assert!(matches!(
        Envelope::from_file(&huge),
        Err(EnvelopeError::Length(_))
    ));
}

#[test]
fn the_context_is_bound_to_payload_and_wraps() {
    let mut envelope = sealed(b"payload");
    let dek = envelope.unwrap_dek(&identity(1)).unwrap();
    envelope.context = EncryptionContext::from_user([("purpose", "other")]).unwrap();
    assert!(envelope.unwrap_dek(&identity(1)).is_err());
    assert!(envelope.unwrap_dek(&PASSPHRASE).is_err());
    assert_eq!(envelope.open(&dek).unwrap_err(), EnvelopeError::Payload);
}

#[test]
fn heads_are_read_from_pieces_of_any_length() {
    let file = [sealed(b"payload").to_file(), b"after".to_vec()].concat();
    for piece in [1, 2, 7, 1_000, file.len()] {
        let mut reader = HeadReader::new();
        let (mut at, mut found) = (0, None);
        while found.is_none() {
            let end = (at + piece).min(file.len());
            let (taken, envelope) = reader.push(&file[at..end]).unwrap();
            assert!(taken > 0);
            (at, found) = (at + taken, envelope);
        }
        assert_eq!(&file[at..], b"after");
    }
    assert_eq!(
        HeadReader::new().push(b"SRxN").unwrap_err(),
        EnvelopeError::NotAnEnvelope
    );
}

// --- streams ---

const CHUNK: usize = BLOCK_PLAIN_BYTES;

fn plaintext(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 31 % 251).to_le_bytes()[0]).collect()
}

/// Frames of a stream in chunks of one block, fed in pieces.
fn stream_of(plaintext: &[u8], piece: usize) -> (Envelope, Vec<u8>) {
    let alice = identity(1).receiver_key(&DEPLOYMENT);
    let (envelope, mut sealer) =
        Envelope::stream(&mut rng(), &DEPLOYMENT, context(), &[&alice], 1).unwrap();
    let mut frames = Vec::new();
    for mut part in plaintext.chunks(piece.max(1)) {
        while !part.is_empty() {
            let taken = sealer.push(&mut rng(), part, &mut frames).unwrap();
            part = &part[taken..];
        }
    }
    sealer.finish(&mut rng(), &mut frames);
    (envelope, frames)
}

fn open_frames(
    envelope: &Envelope,
    frames: &[u8],
    piece: usize,
) -> (Vec<u8>, Result<(), StreamError>) {
    let dek = envelope.unwrap_dek(&identity(1)).unwrap();
    let mut opener = envelope.open_stream(dek).unwrap();
    let mut out = Vec::new();
    for mut part in frames.chunks(piece.max(1)) {
        while !part.is_empty() {
            match opener.push(part, &mut out) {
                Ok(taken) => part = &part[taken..],
                Err(error) => {
                    assert_eq!(opener.push(part, &mut out), Err(StreamError::Failed));
                    return (out, Err(error));
                }
            }
        }
    }
    (out, opener.finish())
}

#[test]
fn streams_of_every_length_at_a_border_come_back() {
    for len in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK, 3 * CHUNK + 5] {
        let plain = plaintext(len);
        let (envelope, frames) = stream_of(&plain, 10_000);
        assert_eq!(Envelope::decode(&envelope.encode()), Ok(envelope.clone()));
        let chunks = len.div_ceil(CHUNK).max(1);
        assert_eq!(frames.len(), len + chunks * (20 + 16));
        for piece in [frames.len(), 1_000, 65_536 + 20] {
            let (out, result) = open_frames(&envelope, &frames, piece);
            assert_eq!((out == plain, result), (true, Ok(())), "{len} {piece}");
        }
        let dek = envelope.unwrap_dek(&identity(1)).unwrap();
        assert!(matches!(envelope.open(&dek), Err(EnvelopeError::Body(_))));
    }
}

#[test]
fn larger_chunks_take_fewer_frames() {
    let alice = identity(1).receiver_key(&DEPLOYMENT);
    for blocks in [0, 65] {
        let refused = Envelope::stream(&mut rng(), &DEPLOYMENT, context(), &[&alice], blocks);
        assert!(matches!(refused, Err(EnvelopeError::Body(_))));
    }
    let (envelope, mut sealer) =
        Envelope::stream(&mut rng(), &DEPLOYMENT, context(), &[&alice], 64).unwrap();
    let plain = plaintext(64 * CHUNK + 1);
    let mut frames = Vec::new();
    let mut rest = plain.as_slice();
    while !rest.is_empty() {
        let taken = sealer.push(&mut rng(), rest, &mut frames).unwrap();
        rest = &rest[taken..];
    }
    sealer.finish(&mut rng(), &mut frames);
    assert_eq!(frames.len(), plain.len() + 2 * 20 + 65 * 16);
    let (out, result) = open_frames(&envelope, &frames, frames.len());
    assert_eq!((out == plain, result), (true, Ok(())));
}

#[test]
fn chunks_are_bound_to_their_place_and_end() {
    const FRAME: usize = CHUNK + 36;
    let (envelope, frames) = stream_of(&plaintext(2 * CHUNK + 9), usize::MAX);
    let (first, rest) = frames.split_at(FRAME);
    let (second, last) = rest.split_at(FRAME);
    let check = |frames: &[&[u8]], error: StreamError, out_len: usize| {
        let (out, result) = open_frames(&envelope, &frames.concat(), usize::MAX);
        assert_eq!((out.len(), result), (out_len, Err(error)));
    };
    check(&[second, first, last], StreamError::Chunk { index: 0 }, 0);
    check(
        &[first, first, last],
        StreamError::Chunk { index: 1 },
        CHUNK,
    );
    check(&[first, last], StreamError::Chunk { index: 1 }, CHUNK);
    check(
        &[first, second],
        StreamError::Truncated { index: 2 },
        2 * CHUNK,
    );
    check(&[first], StreamError::Truncated { index: 1 }, CHUNK);
    check(&[], StreamError::Truncated { index: 0 }, 0);
    check(&[&frames, b"x"], StreamError::Trailing, 2 * CHUNK + 9);
    check(&[&frames, first], StreamError::Trailing, 2 * CHUNK + 9);
    // A full chunk that says it is the last, and a last one that says it is not.
    let mut ended = first.to_vec();
    ended[0] |= 0x80;
    check(&[&ended], StreamError::Chunk { index: 0 }, 0);
    let mut unended = last.to_vec();
    unended[0] &= 0x7f;
    check(
        &[first, second, &unended],
        StreamError::Header { index: 2 },
        2 * CHUNK,
    );
    // A chunk of nothing after the first.
    let empty = [0x80_u8, 0, 0, 0].to_vec();
    check(&[first, &empty], StreamError::Header { index: 1 }, CHUNK);
    let (other, _) = stream_of(&plaintext(9), usize::MAX);
    let (out, result) = open_frames(&other, &frames, usize::MAX);
    assert_eq!(
        (out.len(), result),
        (0, Err(StreamError::Chunk { index: 0 }))
    );
}

#[test]
fn every_altered_byte_of_a_frame_is_refused() {
    let (envelope, frames) = stream_of(&plaintext(100), usize::MAX);
    for at in 0..frames.len() {
        let mut altered = frames.clone();
        altered[at] ^= 1;
        let (out, result) = open_frames(&envelope, &altered, usize::MAX);
        assert!(out.is_empty() && result.is_err(), "byte {at}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn pieces_do_not_matter(len in 0_usize..200_000, seal in 1_usize..150_000, open in 1_usize..150_000) {
        let plain = plaintext(len);
        let (envelope, frames) = stream_of(&plain, seal);
        let (out, result) = open_frames(&envelope, &frames, open);
        prop_assert_eq!(result, Ok(()));
        prop_assert!(out == plain);
    }
}

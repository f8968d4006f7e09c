//! HPKE (RFC 9180) in base mode with HKDF-SHA-256 and AES-256-GCM, one message for each encapsulation, whichever the KEM.

use hpke::aead::AesGcm256;
use hpke::kdf::HkdfSha256;
use hpke::{
    Deserializable, HpkeError, Kem, OpModeR, OpModeS, Serializable, setup_receiver,
    setup_sender_with_rng,
};
use rand_core::CryptoRng;
use zeroize::Zeroizing;

/// Bytes of the AEAD's tag.
pub(crate) const TAG_BYTES: usize = 16;

/// `encapsulated key || ciphertext || tag`. Fails only where the KEM refuses the public key.
pub(crate) fn seal<K: Kem>(
    public: &K::PublicKey,
    rng: &mut dyn CryptoRng,
    info: &[u8],
    aad: &[u8],
    plaintext: &[u8],
) -> Result<Vec<u8>, HpkeError> {
    let mut rng = rng;
    let (encapsulated, mut context) =
        setup_sender_with_rng::<AesGcm256, HkdfSha256, K>(&OpModeS::Base, public, info, &mut rng)?;
    let sealed = context.seal(plaintext, aad)?;
    let mut out = encapsulated.to_bytes().to_vec();
    out.extend_from_slice(&sealed);
    Ok(out)
}

/// Opens what [`seal`] made; `body` is what follows the encapsulated key.
pub(crate) fn open<K: Kem>(
    private: &K::PrivateKey,
    encapsulated: &[u8],
    info: &[u8],
    aad: &[u8],
    body: &[u8],
) -> Result<Zeroizing<Vec<u8>>, HpkeError> {
    let encapsulated = K::EncappedKey::from_bytes(encapsulated)?;
    let mut context =
        setup_receiver::<AesGcm256, HkdfSha256, K>(&OpModeR::Base, private, &encapsulated, info)?;
    context.open(body, aad).map(Zeroizing::new)
}

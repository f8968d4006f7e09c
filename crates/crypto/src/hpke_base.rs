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

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use data_encoding::HEXLOWER;
    use hpke::kem::{X25519HkdfSha256, XWing};
    use rand_core::{TryCryptoRng, TryRng};

    use super::*;

    /// The bytes that a published vector draws, in order; nothing may be drawn beyond them.
    struct Drawn(Vec<u8>);

    impl TryRng for Drawn {
        type Error = Infallible;

        fn try_next_u32(&mut self) -> Result<u32, Infallible> {
            panic!("vectors draw bytes")
        }

        fn try_next_u64(&mut self) -> Result<u64, Infallible> {
            panic!("vectors draw bytes")
        }

        fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Infallible> {
            let rest = self.0.split_off(out.len());
            out.copy_from_slice(&self.0);
            self.0 = rest;
            Ok(())
        }
    }

    impl TryCryptoRng for Drawn {}

    fn unhex(text: &str) -> Vec<u8> {
        HEXLOWER.decode(text.as_bytes()).unwrap()
    }

    /// The vector of base mode for KEM 0x0020, KDF 0x0001 and AEAD 0x0002 in the file of test vectors that RFC 9180 names
    /// (its appendix prints other AEADs only), first encryption: from the sender's randomness, byte for byte, and back.
    #[test]
    fn seals_and_opens_what_rfc_9180_gives_for_this_suite() {
        let info = unhex("4f6465206f6e2061204772656369616e2055726e");
        let aad = unhex("436f756e742d30");
        let plaintext = unhex("4265617574792069732074727574682c20747275746820626561757479");
        let secret = unhex("497b4502664cfea5d5af0b39934dac72242a74f8480451e1aee7d6a53320333d");
        let public = unhex("430f4b9859665145a6b1ba274024487bd66f03a2dd577d7753c68d7d7d00c00c");
        let drawn = unhex("2cd7c601cefb3d42a62b04b7a9041494c06c7843818e0ce28a8f704ae7ab20f9");
        let encapsulated =
            unhex("6c93e09869df3402d7bf231bf540fadd35cd56be14f97178f0954db94b7fc256");
        let body = unhex(
            "e5d84cd531cfb583096e7cfa9641bd3079cf3a91cda813c52deb5f512be9931980a41de125a925cdad859d5b7a",
        );

        let private = <X25519HkdfSha256 as Kem>::PrivateKey::from_bytes(&secret).unwrap();
        let own = X25519HkdfSha256::sk_to_pk(&private);
        assert_eq!(own.to_bytes().as_slice(), public);
        let mut rng = Drawn(drawn);
        let sealed = seal::<X25519HkdfSha256>(&own, &mut rng, &info, &aad, &plaintext).unwrap();
        assert!(rng.0.is_empty());
        assert_eq!(sealed, [encapsulated.as_slice(), &body].concat());
        let open = |info: &[u8], aad: &[u8]| {
            open::<X25519HkdfSha256>(&private, &encapsulated, info, aad, &body)
        };
        assert_eq!(open(&info, &aad).unwrap().as_slice(), plaintext);
        assert!(open(&info, b"Count-1").is_err());
        assert!(open(b"", &aad).is_err());
    }

    /// draft-connolly-cfrg-xwing-kem's vectors (`vectors/x-wing.json`): public keys from seeds, encapsulated keys from the sender's
    /// randomness, and the shared secrets on both sides.
    #[test]
    fn x_wing_is_the_drafts() {
        let all: serde_json::Value =
            serde_json::from_str(include_str!("../vectors/x-wing.json")).unwrap();
        let all = all.as_array().unwrap();
        assert_eq!(all.len(), 3);
        for vector in all {
            let field = |name: &str| unhex(vector[name].as_str().unwrap());
            let private = <XWing as Kem>::PrivateKey::from_bytes(&field("seed")).unwrap();
            let public = XWing::sk_to_pk(&private);
            assert_eq!(public.to_bytes().as_slice(), field("pk"));
            let mut rng = Drawn(field("eseed"));
            let sealed = seal::<XWing>(&public, &mut rng, b"info", b"aad", b"key").unwrap();
            assert!(rng.0.is_empty());
            let (encapsulated, body) = sealed.split_at(field("ct").len());
            assert_eq!(encapsulated, field("ct"));
            let opened = open::<XWing>(&private, encapsulated, b"info", b"aad", body).unwrap();
            assert_eq!(opened.as_slice(), b"key");
            let encapsulated = <XWing as Kem>::EncappedKey::from_bytes(encapsulated).unwrap();
            let shared = XWing::decap(&private, None, &encapsulated).unwrap();
            assert_eq!(shared.0.as_slice(), field("ss"));
        }
    }
}

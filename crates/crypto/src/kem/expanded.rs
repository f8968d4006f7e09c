//! ML-KEM-768 keys in libcrux's expanded form, on AVX2 where the processor has it.
//!
//! libcrux chooses its implementation at run time for packed keys only; for expanded ones, which save a third of an
//! opening and two thirds of an encapsulation, the choice is made here, once for each key. On other architectures than
//! x86-64 the portable code is used.

use libcrux_ml_kem::mlkem768::{MlKem768Ciphertext, MlKem768PublicKey};

/// The same few calls for each implementation of libcrux.
macro_rules! implementation {
    ($name:ident) => {
        mod $name {
            use libcrux_ml_kem::mlkem768::$name::unpacked;
            use libcrux_ml_kem::mlkem768::{MlKem768Ciphertext, MlKem768PublicKey};

            pub(in crate::kem) struct Public(Box<unpacked::MlKem768PublicKeyUnpacked>);

            impl Public {
                pub(super) fn expand(public: &MlKem768PublicKey) -> Self {
                    let mut expanded = Box::new(unpacked::init_public_key());
                    unpacked::unpacked_public_key(public, &mut expanded);
                    Self(expanded)
                }

                pub(super) fn encapsulate(&self, m: [u8; 32]) -> (MlKem768Ciphertext, [u8; 32]) {
                    unpacked::encapsulate(&self.0, m)
                }
            }

            pub(in crate::kem) struct Pair(Box<unpacked::MlKem768KeyPairUnpacked>);

            impl Pair {
                pub(super) fn generate(seed: &[u8; 64]) -> Self {
                    let mut pair = Box::new(unpacked::init_key_pair());
                    unpacked::generate_key_pair_mut(*seed, &mut pair);
                    Self(pair)
                }

                #[cfg(test)]
                pub(super) fn from_packed(
                    secret: &libcrux_ml_kem::mlkem768::MlKem768PrivateKey,
                ) -> Self {
                    let mut pair = Box::new(unpacked::init_key_pair());
                    unpacked::key_pair_from_private_mut(secret, &mut pair);
                    Self(pair)
                }

                pub(super) fn public(&self) -> MlKem768PublicKey {
                    unpacked::key_pair_serialized_public_key(&self.0)
                }

                pub(super) fn decapsulate(&self, ciphertext: &MlKem768Ciphertext) -> [u8; 32] {
                    unpacked::decapsulate(&self.0, ciphertext)
                }
            }

            impl Drop for Pair {
                fn drop(&mut self) {
                    // The fields are libcrux's own and cannot be wiped one by one: the whole is overwritten by an empty
                    // pair, and black_box keeps the compiler from leaving that out because nobody reads it.
                    *self.0 = unpacked::init_key_pair();
                    std::hint::black_box(&mut *self.0);
                }
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
implementation!(avx2);
implementation!(portable);

/// A public key with its matrix.
pub(super) enum ExpandedPublic {
    #[cfg(target_arch = "x86_64")]
    Avx2(avx2::Public),
    Portable(portable::Public),
}

/// A key pair, wiped on drop.
pub(super) enum ExpandedPair {
    #[cfg(target_arch = "x86_64")]
    Avx2(avx2::Pair),
    Portable(portable::Pair),
}

impl ExpandedPublic {
    pub(super) fn expand(public: &MlKem768PublicKey) -> Self {
        #[cfg(target_arch = "x86_64")]
        if has_avx2() {
            return Self::Avx2(avx2::Public::expand(public));
        }
        Self::portable(public)
    }

    fn portable(public: &MlKem768PublicKey) -> Self {
        Self::Portable(portable::Public::expand(public))
    }

    pub(super) fn encapsulate(&self, m: [u8; 32]) -> (MlKem768Ciphertext, [u8; 32]) {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(public) => public.encapsulate(m),
            Self::Portable(public) => public.encapsulate(m),
        }
    }
}

impl ExpandedPair {
    pub(super) fn generate(seed: &[u8; 64]) -> Self {
        #[cfg(target_arch = "x86_64")]
        if has_avx2() {
            return Self::Avx2(avx2::Pair::generate(seed));
        }
        Self::portable(seed)
    }

    fn portable(seed: &[u8; 64]) -> Self {
        Self::Portable(portable::Pair::generate(seed))
    }

    pub(super) fn public(&self) -> MlKem768PublicKey {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(pair) => pair.public(),
            Self::Portable(pair) => pair.public(),
        }
    }

    pub(super) fn decapsulate(&self, ciphertext: &MlKem768Ciphertext) -> [u8; 32] {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(pair) => pair.decapsulate(ciphertext),
            Self::Portable(pair) => pair.decapsulate(ciphertext),
        }
    }
}

/// libcrux's AVX2 code also uses what came with AVX2: BMI1, BMI2, FMA and MOVBE.
#[cfg(target_arch = "x86_64")]
fn has_avx2() -> bool {
    std::is_x86_feature_detected!("avx2")
        && std::is_x86_feature_detected!("bmi1")
        && std::is_x86_feature_detected!("bmi2")
        && std::is_x86_feature_detected!("fma")
        && std::is_x86_feature_detected!("movbe")
}

#[cfg(test)]
mod tests {
    use super::*;
    use libcrux_ml_kem::mlkem768;

    /// Every implementation gives, byte for byte, what libcrux's packed interface gives.
    #[test]
    fn implementations_agree() {
        for byte in 0..32 {
            let seed = [byte; 64];
            let packed = mlkem768::generate_key_pair(seed);
            let (ciphertext, shared) =
                mlkem768::encapsulate(packed.public_key(), [byte ^ 0x5a; 32]);
            let mut garbage = ciphertext.clone();
            garbage[7] ^= 1;
            let rejected = mlkem768::decapsulate(packed.private_key(), &garbage);
            assert_ne!(rejected, shared);
            let publics = [ExpandedPublic::expand, ExpandedPublic::portable];
            for public in publics.map(|expand| expand(packed.public_key())) {
                let (again, secret) = public.encapsulate([byte ^ 0x5a; 32]);
                assert_eq!(again.as_slice(), ciphertext.as_slice());
                assert_eq!(secret, shared);
            }
            let pairs = [ExpandedPair::generate, ExpandedPair::portable];
            for pair in pairs.map(|generate| generate(&seed)) {
                assert_eq!(pair.public().as_slice(), packed.public_key().as_slice());
                assert_eq!(pair.decapsulate(&ciphertext), shared);
                assert_eq!(pair.decapsulate(&garbage), rejected);
            }
        }
    }

    /// NIST's ACVP vectors for decapsulation, whose keys come packed; half of the ciphertexts are altered.
    #[test]
    fn nist_acvp_decapsulation() {
        let Some(vectors) = crate::kem::pq::tests::acvp() else {
            return;
        };
        let hex = |value: &serde_json::Value| {
            data_encoding::HEXLOWER
                .decode(value.as_str().unwrap().as_bytes())
                .unwrap()
        };
        let group = &vectors["decapsulate"];
        let packed = hex(&group["dk"]).as_slice().try_into().unwrap();
        let tests = group["tests"].as_array().unwrap();
        assert_eq!(tests.len(), 10);
        for test in tests {
            let ciphertext = hex(&test["c"]).as_slice().try_into().unwrap();
            let expected = hex(&test["k"]);
            let portable = portable::Pair::from_packed(&packed);
            assert_eq!(portable.decapsulate(&ciphertext).as_slice(), expected);
            #[cfg(target_arch = "x86_64")]
            if has_avx2() {
                let pair = avx2::Pair::from_packed(&packed);
                assert_eq!(pair.decapsulate(&ciphertext).as_slice(), expected);
            }
        }
    }
}

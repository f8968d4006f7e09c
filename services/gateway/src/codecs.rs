//! One erasure codec per coding profile in use.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

use domain::Profile;
use erasure::{Codec, CodecError};

/// Codecs by profile, made at first use.
#[derive(Debug, Default)]
pub struct Codecs {
    by_profile: RwLock<HashMap<Profile, Codec>>,
}

impl Codecs {
    /// The codec of `profile`.
    ///
    /// # Errors
    /// Those of [`Codec::new`]; a valid [`Profile`] has none.
    pub fn get(&self, profile: Profile) -> Result<Codec, CodecError> {
        if let Some(codec) = self
            .by_profile
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&profile)
        {
            return Ok(codec.clone());
        }
        let codec = Codec::new(profile.data(), profile.parity())?;
        self.by_profile
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(profile, codec.clone());
        Ok(codec)
    }
}

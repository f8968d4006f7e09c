//! Bearer tokens, for curl and the like: `strongroom_` + base64url(claims) + `.` + base64url(signature).
//!
//! The claims are deterministic dag-cbor; the Ed25519 signature of the principal is over
//! `strongroom/v1/token 00 <deployment id> <claims>`. A token lives at most one hour and allows what its scopes say,
//! never more than its principal may. Entries and bucket records carry signatures of their own, so nobody writes
//! objects with a token alone.

use crypto::{Identity, Label, Signature};
use data_encoding::BASE64URL_NOPAD;
use domain::{BucketName, DeploymentId, Permission, Permissions, Principal, TimestampMs};
use serde::{Deserialize, Serialize};

use crate::problem::Code;
use crate::rest::CLOCK_SKEW_MS_MAX;

/// What every token starts with, so that secret scanners can find one.
pub const PREFIX: &str = "strongroom_";
/// Milliseconds a token may live.
pub const LIFETIME_MS_MAX: u64 = 3_600_000;
/// Bytes of a token that are parsed, at most.
pub const TOKEN_BYTES_MAX: usize = 8_192;
/// Scopes in a token, at most.
pub const SCOPES_MAX: usize = 64;
/// Version of the claims.
const VERSION: u64 = 1;

/// What a token allows in one bucket or in all of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scope {
    /// One bucket; null means all.
    pub bucket: Option<BucketName>,
    /// What is allowed there.
    pub permissions: Permissions,
}

/// What a token says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claims {
    /// Version of this structure: 1.
    pub v: u64,
    /// Who signed it.
    pub principal: Principal,
    /// Where it is valid.
    pub deployment: DeploymentId,
    /// What it allows; the union counts.
    pub scopes: Vec<Scope>,
    /// When it was made.
    pub created: TimestampMs,
    /// When it ends, at most one hour later.
    pub expires: TimestampMs,
    /// Tells two tokens apart.
    #[serde(with = "serde_bytes")]
    pub nonce: Vec<u8>,
}

/// Why a token is not accepted or made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Not a token of ours.
    #[error("malformed bearer token: expected `strongroom_…`, as `strongroom token` prints it")]
    Malformed,
    /// Made for another deployment.
    #[error("the token is for another deployment")]
    OtherDeployment,
    /// It would live longer than one hour.
    #[error("a token lives at most one hour")]
    Lifetime,
    /// Its time has passed, or has not come.
    #[error("the token has expired: make a new one with `strongroom token`")]
    Expired,
    /// Its signature does not hold.
    #[error("the token's signature is not valid")]
    Forged,
}

impl TokenError {
    /// The code that the caller is told.
    #[must_use]
    pub const fn code(self) -> Code {
        match self {
            Self::Expired => Code::SignatureExpired,
            _ => Code::SignatureInvalid,
        }
    }
}

impl Claims {
    /// Claims of version 1.
    #[must_use]
    pub fn new(
        principal: Principal,
        deployment: DeploymentId,
        scopes: Vec<Scope>,
        created: TimestampMs,
        lifetime_ms: u64,
        nonce: [u8; 16],
    ) -> Self {
        Self {
            v: VERSION,
            principal,
            deployment,
            scopes,
            created,
            expires: TimestampMs(created.0.saturating_add(lifetime_ms)),
            nonce: nonce.to_vec(),
        }
    }

    /// Whether a scope allows `permission` in `bucket`.
    #[must_use]
    pub fn allow(&self, bucket: &BucketName, permission: Permission) -> bool {
        self.scopes.iter().any(|scope| {
            scope.bucket.as_ref().is_none_or(|only| only == bucket)
                && scope.permissions.allow(permission)
        })
    }

    /// Whether a scope for all buckets allows `permission` (listing buckets, administration).
    #[must_use]
    pub fn allow_everywhere(&self, permission: Permission) -> bool {
        self.scopes
            .iter()
            .any(|scope| scope.bucket.is_none() && scope.permissions.allow(permission))
    }

    /// Signs and encodes the token as `identity`.
    ///
    /// # Errors
    /// [`TokenError::Lifetime`] over one hour, [`TokenError::Malformed`] with too many scopes, [`TokenError::Forged`]
    /// when the claims name another principal.
    pub fn encode(&self, identity: &Identity) -> Result<String, TokenError> {
        if identity.principal() != self.principal {
            return Err(TokenError::Forged);
        }
        self.check_shape()?;
        let claims = serde_ipld_dagcbor::to_vec(self).map_err(|_| TokenError::Malformed)?;
        let signature = identity.sign(Label::TOKEN, &self.deployment, &claims).0;
        let mut token = PREFIX.to_owned();
        BASE64URL_NOPAD.encode_append(&claims, &mut token);
        token.push('.');
        BASE64URL_NOPAD.encode_append(&signature, &mut token);
        if token.len() > TOKEN_BYTES_MAX {
            return Err(TokenError::Malformed);
        }
        Ok(token)
    }

    fn check_shape(&self) -> Result<(), TokenError> {
        if self.v != VERSION || self.scopes.len() > SCOPES_MAX || self.nonce.len() != 16 {
            return Err(TokenError::Malformed);
        }
        match self.expires.0.checked_sub(self.created.0) {
            Some(lifetime) if lifetime <= LIFETIME_MS_MAX => Ok(()),
            _ => Err(TokenError::Lifetime),
        }
    }
}

/// Checks a token and returns what it says.
///
/// # Errors
/// [`TokenError`].
pub fn verify(
    token: &str,
    deployment: &DeploymentId,
    now: TimestampMs,
) -> Result<Claims, TokenError> {
    if token.len() > TOKEN_BYTES_MAX {
        return Err(TokenError::Malformed);
    }
    let (claims, signature) = token
        .strip_prefix(PREFIX)
        .and_then(|rest| rest.split_once('.'))
        .ok_or(TokenError::Malformed)?;
    let bytes = |text: &str| {
        BASE64URL_NOPAD
            .decode(text.as_bytes())
            .map_err(|_| TokenError::Malformed)
    };
    let encoded = bytes(claims)?;
    let signature = bytes(signature)?;
    let claims: Claims =
        serde_ipld_dagcbor::from_slice(&encoded).map_err(|_| TokenError::Malformed)?;
    claims.check_shape()?;
    if claims.deployment != *deployment {
        return Err(TokenError::OtherDeployment);
    }
    let signature = Signature::try_from(signature.as_slice()).map_err(|_| TokenError::Malformed)?;
    crypto::identity::verify(
        &claims.principal,
        Label::TOKEN,
        deployment,
        &encoded,
        &signature,
    )
    .map_err(|_| TokenError::Forged)?;
    if claims.expires <= now || claims.created.0 > now.0.saturating_add(CLOCK_SKEW_MS_MAX) {
        return Err(TokenError::Expired);
    }
    Ok(claims)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crypto::Secret;
    use proptest::prelude::*;

    const DEPLOYMENT: DeploymentId = DeploymentId([5; 32]);
    const NOW: TimestampMs = TimestampMs(1_800_000_000_000);

    fn identity() -> Identity {
        Identity::from_seed(Secret::take(&mut [9; 32]))
    }

    fn claims() -> Claims {
        let principal = identity().principal();
        let scopes = vec![Scope {
            bucket: Some("photos".parse().unwrap()),
            permissions: Permissions::READ,
        }];
        Claims::new(principal, DEPLOYMENT, scopes, NOW, 60_000, [1; 16])
    }

    #[test]
    fn tokens_round_trip_until_they_expire() {
        let token = claims().encode(&identity()).unwrap();
        assert!(token.starts_with("strongroom_"));
        for (now, expected) in [
            (NOW.0, Ok(claims())),
            (NOW.0 + 59_999, Ok(claims())),
            (NOW.0 + 60_000, Err(TokenError::Expired)),
            (NOW.0 - CLOCK_SKEW_MS_MAX, Ok(claims())),
            (NOW.0 - CLOCK_SKEW_MS_MAX - 1, Err(TokenError::Expired)),
        ] {
            assert_eq!(
                verify(&token, &DEPLOYMENT, TimestampMs(now)),
                expected,
                "{now}"
            );
        }
    }

    #[test]
    fn scopes_bound_what_a_token_allows() {
        let mut claims = claims();
        let (photos, other) = ("photos".parse().unwrap(), "other".parse().unwrap());
        assert!(claims.allow(&photos, Permission::Read));
        assert!(!claims.allow(&photos, Permission::Write));
        assert!(!claims.allow(&other, Permission::Read));
        assert!(!claims.allow_everywhere(Permission::Read));
        claims.scopes.push(Scope {
            bucket: None,
            permissions: Permissions::READ,
        });
        assert!(claims.allow(&other, Permission::Read));
        assert!(claims.allow_everywhere(Permission::Read));
        assert!(!claims.allow_everywhere(Permission::Admin));
    }

    #[test]
    fn long_lived_foreign_and_forged_tokens_are_refused() {
        let mut long = claims();
        long.expires = TimestampMs(NOW.0 + LIFETIME_MS_MAX + 1);
        assert_eq!(long.encode(&identity()), Err(TokenError::Lifetime));
        // The verifier does not trust the maker's own check.
        let body = serde_ipld_dagcbor::to_vec(&long).unwrap();
        let forged = format!(
            "{PREFIX}{}.{}",
            BASE64URL_NOPAD.encode(&body),
            BASE64URL_NOPAD.encode(&identity().sign(Label::TOKEN, &DEPLOYMENT, &body).0)
        );
        assert_eq!(verify(&forged, &DEPLOYMENT, NOW), Err(TokenError::Lifetime));

        let token = claims().encode(&identity()).unwrap();
        let other = DeploymentId([6; 32]);
        assert_eq!(
            verify(&token, &other, NOW),
            Err(TokenError::OtherDeployment)
        );
        let mallory = Identity::from_seed(Secret::take(&mut [8; 32]));
        assert_eq!(claims().encode(&mallory), Err(TokenError::Forged));
        let (said, _) = token.rsplit_once('.').unwrap();
        let body = serde_ipld_dagcbor::to_vec(&claims()).unwrap();
        let other = mallory.sign(Label::TOKEN, &DEPLOYMENT, &body).0;
        let unsigned = format!("{said}.{}", BASE64URL_NOPAD.encode(&other));
        assert_eq!(verify(&unsigned, &DEPLOYMENT, NOW), Err(TokenError::Forged));
    }

    #[test]
    fn every_altered_character_is_refused() {
        let token = claims().encode(&identity()).unwrap();
        for at in 0..token.len() {
            let mut bytes = token.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            let altered = String::from_utf8(bytes).unwrap();
            assert!(verify(&altered, &DEPLOYMENT, NOW).is_err(), "{at}");
            assert!(verify(&token[..at], &DEPLOYMENT, NOW).is_err(), "{at}");
        }
        let long = format!("{token}{}", "A".repeat(TOKEN_BYTES_MAX));
        assert_eq!(verify(&long, &DEPLOYMENT, NOW), Err(TokenError::Malformed));
    }

    proptest! {
        #[test]
        fn verify_never_panics(text in "(strongroom_)?[A-Za-z0-9_.-]{0,200}") {
            prop_assert!(verify(&text, &DEPLOYMENT, NOW).is_err());
        }
    }
}

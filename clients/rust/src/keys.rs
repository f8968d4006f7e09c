//! Named keys from a client: make, show, grant, and open what was encrypted to them.
//!
//! What a key is comes from the ledger by proof ([`crate::ledger`]); its public keys are taken with the signatures of the owner and
//! of at least t custodians ([`::ledger::VerifiedVersion`]). Encapsulating is local and works from a cache for five minutes. Opening
//! asks custodians and a worker through the gateway, checks each signature and proof against the ledger's commitments, and
//! combines here: gateway and worker never hold what opens a ciphertext.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use ::ledger::records::grant::CHAIN_LINKS_MAX;
use ::ledger::records::{
    ContextPolicy, GrantEntry, KeyCreation, KeyGrant, KeyState, KeyStatus, VersionEntry,
};
use ::ledger::verified::{check_creation, decode_entry};
use ::ledger::{ExportedKey, Pin, PublicKey, StateKey, StatePrefix, VerifiedVersion};
use crypto::EncryptionContext;
use crypto::kem::Encapsulator;
use domain::{KeyId, KeyName, KeyVersion, Principal, TimestampMs};
use moka::sync::Cache;
use sealed::signed::Signed;

use crate::client::Client;
use crate::error::{Error, Result};
use crate::ledger::{Ledger, decode};

mod audit;
mod change;
mod make;
mod open;

pub use audit::{AuditPage, AuditQuery};
pub use change::Effective;
pub use make::CreateKey;
pub use open::{Opening, Released, Wrapped};

/// How long public keys are used without asking the ledger again.
pub const PUBLIC_KEY_TTL: Duration = Duration::from_secs(300);
/// Keys in memory.
const CACHED_MAX: u64 = 10_000;
/// Workers in memory.
const WORKERS_CACHED_MAX: u64 = 256;
/// Versions of one key that are shown, at most: the newest ones.
const SHOWN_VERSIONS_MAX: usize = 256;

/// Names a key: by its id, by its owner and name, or by name among one's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyAddress {
    /// `NAME`: one's own.
    Own(KeyName),
    /// `PRINCIPAL/NAME`.
    Of(Principal, KeyName),
    /// 64 hexadecimal digits.
    Id(KeyId),
}

/// Text that names no key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` names no key: {reason}. Write NAME, PRINCIPAL/NAME or a key id of 64 hexadecimal digits"
)]
pub struct KeyAddressError {
    text: String,
    reason: String,
}

impl FromStr for KeyAddress {
    type Err = KeyAddressError;

    fn from_str(text: &str) -> std::result::Result<Self, KeyAddressError> {
        let wrong = |reason: String| KeyAddressError {
            text: text.to_owned(),
            reason,
        };
        if let Some((owner, name)) = text.split_once('/') {
            let owner = owner
                .parse()
                .map_err(|error: domain::IdParseError| wrong(error.to_string()))?;
            let name = name.parse().map_err(|error| wrong(format!("{error}")));
            return Ok(Self::Of(owner, name?));
        }
        if let Ok(id) = text.parse() {
            return Ok(Self::Id(id));
        }
        let name = text
            .parse()
            .map_err(|error: domain::NameError| wrong(error.to_string()))?;
        Ok(Self::Own(name))
    }
}

impl fmt::Display for KeyAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Own(name) => write!(f, "{name}"),
            Self::Of(owner, name) => write!(f, "{owner}/{name}"),
            Self::Id(id) => write!(f, "{id}"),
        }
    }
}

/// What is encrypted to, and what custodians will ask of the context.
#[derive(Clone)]
struct Current {
    encapsulator: Arc<Encapsulator>,
    context: ContextPolicy,
}

/// Public keys and what partials are checked with, by key version.
pub(crate) struct KeyCache {
    /// The version to encrypt under.
    current: Cache<KeyId, Current>,
    /// What is fixed of a version.
    versions: Cache<(KeyId, KeyVersion), Arc<open::Checked>>,
    names: Cache<(Principal, KeyName), KeyId>,
    /// Workers that the ledger enrols.
    workers: Cache<Principal, ()>,
}

impl Default for KeyCache {
    fn default() -> Self {
        Self {
            current: Cache::builder()
                .max_capacity(CACHED_MAX)
                .time_to_live(PUBLIC_KEY_TTL)
                .build(),
            versions: Cache::builder()
                .max_capacity(CACHED_MAX)
                .time_to_live(PUBLIC_KEY_TTL)
                .build(),
            names: Cache::builder()
                .max_capacity(CACHED_MAX)
                .time_to_live(PUBLIC_KEY_TTL)
                .build(),
            workers: Cache::builder()
                .max_capacity(WORKERS_CACHED_MAX)
                .time_to_live(PUBLIC_KEY_TTL)
                .build(),
        }
    }
}

/// Named keys, as one principal. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Keys {
    ledger: Ledger,
}

/// What the ledger says of a key.
#[derive(Clone, Debug)]
pub struct KeyInfo {
    /// The key.
    pub id: KeyId,
    /// What its owner signed.
    pub creation: Signed<KeyCreation>,
    /// Where it stands.
    pub status: KeyStatus,
    /// The ledger's time when it was read.
    pub time: TimestampMs,
}

impl KeyInfo {
    /// The key's state then.
    #[must_use]
    pub fn state(&self) -> KeyState {
        self.status.state(self.time)
    }
}

/// A version of a key.
#[derive(Clone, Debug)]
pub struct VersionInfo {
    /// Which.
    pub version: KeyVersion,
    /// The ledger's entry.
    pub entry: VersionEntry,
    /// Its state, whatever its key's.
    pub state: KeyState,
}

/// A grant of a key.
#[derive(Clone, Debug)]
pub struct GrantInfo {
    /// What the granter signed; the signature was checked.
    pub grant: Signed<KeyGrant>,
    /// The ledger's entry.
    pub entry: GrantEntry,
}

impl Client {
    /// Named keys of the deployment.
    ///
    /// # Errors
    /// When the deployment has no ledger.
    pub async fn keys(&self) -> Result<Keys> {
        Ok(Keys {
            ledger: self.ledger().await?,
        })
    }
}

impl Keys {
    /// The ledger that says what is.
    #[must_use]
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    fn client(&self) -> &Client {
        &self.ledger.client
    }

    fn cache(&self) -> &KeyCache {
        &self.client().inner.key_cache
    }

    fn deployment(&self) -> &domain::DeploymentId {
        self.client().deployment_id()
    }

    /// The id of a key.
    ///
    /// # Errors
    /// [`Error::NoNamedKey`] when the ledger shows that there is none of that name.
    pub async fn resolve(&self, address: &KeyAddress) -> Result<KeyId> {
        let (owner, name) = match address {
            KeyAddress::Id(id) => return Ok(*id),
            KeyAddress::Own(name) => (self.client().principal(), name),
            KeyAddress::Of(owner, name) => (*owner, name),
        };
        let cached = (owner, name.clone());
        if let Some(id) = self.cache().names.get(&cached) {
            return Ok(id);
        }
        let key = StateKey::KeyName(owner, name.clone());
        let value = self.ledger.read(&[key]).await?.into_iter().next().flatten();
        let Some(value) = value else {
            return Err(Error::NoNamedKey(match address {
                KeyAddress::Own(_) => {
                    format!(
                        "you have no key `{name}`: `strongroom key ls` shows yours; another's is PRINCIPAL/{name}"
                    )
                }
                _ => format!("{owner} has no key `{name}`"),
            }));
        };
        let id = <[u8; 32]>::try_from(value.as_ref())
            .map(KeyId)
            .map_err(|_| Error::integrity("a key's name on the ledger", "it names no key"))?;
        self.named(&id, &owner, name).await?;
        self.cache().names.insert(cached, id);
        Ok(id)
    }

    /// The key that the ledger's operator says is of this name: the owner signed both.
    async fn named(&self, id: &KeyId, owner: &Principal, name: &KeyName) -> Result<KeyInfo> {
        let info = self.show(id).await?;
        if (&info.creation.owner, &info.creation.name) != (owner, name) {
            return Err(Error::integrity(
                format!("the key `{name}` of {owner}"),
                "the ledger's state gives another's key for it",
            ));
        }
        Ok(info)
    }

    /// A key, its owner's signature checked.
    ///
    /// # Errors
    /// [`Error::NoNamedKey`].
    pub async fn show(&self, id: &KeyId) -> Result<KeyInfo> {
        let keys = [StateKey::KeyCreation(*id), StateKey::KeyStatus(*id)];
        let answer = self.ledger.answer(&keys).await?;
        let [creation, status] = answer.values.as_slice() else {
            return Err(Error::Internal("two values for two keys".to_owned()));
        };
        let (Some(creation), Some(status)) = (&creation.value, &status.value) else {
            return Err(Error::NoNamedKey(format!("the ledger has no key {id}")));
        };
        let creation = check_creation(self.deployment(), id, creation)
            .map_err(|error| Error::integrity(format!("key {id}"), error))?;
        let status: KeyStatus = decode(status)?;
        if status.owner != creation.owner {
            return Err(Error::integrity(
                format!("key {id}"),
                "the ledger gives it another owner than its creation",
            ));
        }
        Ok(KeyInfo {
            id: *id,
            creation,
            status,
            time: answer.last.header.time,
        })
    }

    /// The keys of an owner, by name. Each is shown by proof; that none is missing is not.
    ///
    /// # Errors
    /// As [`Keys::show`].
    pub async fn list(&self, owner: &Principal) -> Result<Vec<KeyInfo>> {
        let mut keys = Vec::new();
        for (_, value) in self.ledger.list(StatePrefix::KeyNames(*owner)).await? {
            let id = <[u8; 32]>::try_from(value.as_slice()).map(KeyId);
            let id = id.map_err(|_| Error::integrity("a listing of the ledger", "no key's id"))?;
            keys.push(self.show(&id).await?);
        }
        Ok(keys)
    }

    /// A key's versions, newest first, at most 256.
    ///
    /// # Errors
    /// What the ledger says.
    pub async fn versions(&self, info: &KeyInfo) -> Result<Vec<VersionInfo>> {
        let mut out = Vec::new();
        let newest = info.status.current.map_or(0, KeyVersion::get);
        let numbers: Vec<u32> = (1..=newest).rev().take(SHOWN_VERSIONS_MAX).collect();
        for page in numbers.chunks(16) {
            let versions: Vec<KeyVersion> = page
                .iter()
                .filter_map(|n| KeyVersion::new(*n).ok())
                .collect();
            let keys: Vec<StateKey> = versions
                .iter()
                .map(|version| StateKey::KeyVersion(info.id, *version))
                .collect();
            let answer = self.ledger.answer(&keys).await?;
            for (version, value) in versions.into_iter().zip(answer.values) {
                let Some(value) = value.value else { continue };
                let entry: VersionEntry = decode(&value)?;
                out.push(VersionInfo {
                    version,
                    state: entry.state(answer.last.header.time),
                    entry,
                });
            }
        }
        Ok(out)
    }

    /// A key's grants, also revoked and expired ones, by grantee. Each is shown by proof; that none is missing is not.
    ///
    /// # Errors
    /// What the ledger says.
    pub async fn grants(&self, id: &KeyId) -> Result<Vec<GrantInfo>> {
        let mut out = Vec::new();
        let listed = self.ledger.list(StatePrefix::KeyGrants(*id)).await?;
        let grantees: BTreeMap<Principal, ()> = listed
            .iter()
            .filter_map(|(key, _)| key.last_chunk::<32>())
            .map(|bytes| (Principal(*bytes), ()))
            .collect();
        for grantee in grantees.keys() {
            out.extend(self.granted(id, grantee).await?);
        }
        Ok(out)
    }

    /// The newest grant of a key to a principal.
    ///
    /// # Errors
    /// What the ledger says; [`Error::Integrity`] for one that its granter did not sign.
    pub async fn granted(&self, id: &KeyId, grantee: &Principal) -> Result<Option<GrantInfo>> {
        let key = StateKey::KeyGrant(*id, *grantee);
        let Some(entry) = self.ledger.record::<GrantEntry>(&key).await? else {
            return Ok(None);
        };
        let what = || format!("the grant to {grantee}");
        let grant = Signed::<KeyGrant>::decode(&entry.grant)
            .map_err(|error| Error::integrity(what(), error))?;
        grant
            .verify_signature(self.deployment())
            .map_err(|error| Error::integrity(what(), error))?;
        Ok(Some(GrantInfo { grant, entry }))
    }

    /// The chain of grants from `principal` to the owner, as far as it goes.
    async fn chain(&self, info: &KeyInfo, principal: &Principal) -> Result<Vec<GrantInfo>> {
        let (mut out, mut holder) = (Vec::new(), *principal);
        while holder != info.status.owner && out.len() < CHAIN_LINKS_MAX {
            let Some(link) = self.granted(&info.id, &holder).await? else {
                break;
            };
            holder = link.grant.granted_by;
            out.push(link);
        }
        Ok(out)
    }

    /// The public keys of a version (the current one unless said otherwise) with everything that shows them, to be encrypted to
    /// elsewhere and offline.
    ///
    /// # Errors
    /// [`Error::NoNamedKey`]; [`Error::Integrity`] when signatures or proofs do not hold.
    pub async fn export(
        &self,
        id: &KeyId,
        version: Option<KeyVersion>,
    ) -> Result<(ExportedKey, PublicKey)> {
        let version = match version {
            Some(version) => version,
            None => self.current(id).await?,
        };
        let (entry_key, missing) = (StateKey::KeyVersion(*id, version), || {
            Error::NoNamedKey(format!("key {id} has no version {version}"))
        });
        let what = || format!("key {id} version {version}");
        let entry = self.ledger.read(&[entry_key]).await?;
        let entry = entry.into_iter().next().flatten().ok_or_else(missing)?;
        let (_, statement) =
            decode_entry(&entry).map_err(|error| Error::integrity(what(), error))?;
        if (statement.key, statement.version) != (*id, version) {
            return Err(Error::integrity(what(), "the entry is about another one"));
        }
        let answer = self
            .ledger
            .answer(&ExportedKey::state_keys(&statement))
            .await?;
        let exported = ExportedKey::from_answer(self.deployment(), id, &answer)
            .map_err(|error| Error::integrity(what(), error))?;
        let public = exported
            .verify(Pin::Genesis(self.ledger.genesis()))
            .map_err(|error| Error::integrity(what(), error))?;
        Ok((exported, public))
    }

    /// The version to encrypt under now.
    async fn current(&self, id: &KeyId) -> Result<KeyVersion> {
        let info = self.show(id).await?;
        match (info.state(), info.status.current) {
            (KeyState::Active, Some(current)) => Ok(current),
            (KeyState::Pending, _) => Err(Error::Unsupported(format!(
                "key {id} is still being made: `strongroom key create` with its name goes on with it"
            ))),
            (state, _) => Err(Error::Unsupported(format!(
                "nothing is encrypted to key {id}: it is {}",
                state_word(state)
            ))),
        }
    }

    /// What wraps keys to the current version of a named key, for ciphertexts in `context`. From memory for five minutes.
    ///
    /// # Errors
    /// As [`Keys::export`]; [`Error::Unsupported`] when the key asks for more of a context: nobody could ever open it.
    pub async fn encapsulator(
        &self,
        id: &KeyId,
        context: &EncryptionContext,
    ) -> Result<Arc<Encapsulator>> {
        let known = self.cache().current.get(id);
        let current = match known {
            Some(known) => known,
            None => {
                let (_, public) = self.export(id, None).await?;
                let made = Current {
                    context: public.version.creation.context.clone(),
                    encapsulator: Arc::new(Encapsulator::precomputed(public.version.key)),
                };
                self.cache().current.insert(*id, made.clone());
                made
            }
        };
        match current.context.missing(|name| context.get(name).is_some()) {
            None => Ok(current.encapsulator),
            Some(name) => Err(Error::Unsupported(format!(
                "custodians open what is sealed to key {id} only with `{}` in its encryption context",
                name.as_str()
            ))),
        }
    }

    /// Forgets what is remembered of a key's current version: after a rotation that somebody else has told of.
    pub fn forget(&self, id: &KeyId) {
        self.cache().current.invalidate(id);
    }

    /// A version with its owner's and custodians' signatures checked, from the ledger.
    async fn verified(&self, id: &KeyId, version: KeyVersion) -> Result<VerifiedVersion> {
        let what = || format!("key {id} version {version}");
        let first = [
            StateKey::KeyCreation(*id),
            StateKey::KeyVersion(*id, version),
        ];
        let values = self.ledger.read(&first).await?;
        let [Some(creation), Some(entry)] = values.as_slice() else {
            return Err(Error::NoNamedKey(format!("the ledger has no {}", what())));
        };
        let (_, statement) =
            decode_entry(entry).map_err(|error| Error::integrity(what(), error))?;
        let committee = StateKey::Committee(statement.committee);
        let committee = self.ledger.read(&[committee]).await?;
        let committee = committee.into_iter().next().flatten().unwrap_or_default();
        VerifiedVersion::check(self.deployment(), id, version, creation, &committee, entry)
            .map_err(|error| Error::integrity(what(), error))
    }
}

/// A state as a word.
#[must_use]
pub fn state_word(state: KeyState) -> &'static str {
    match state {
        KeyState::Pending => "pending",
        KeyState::Active => "active",
        KeyState::Retiring { .. } => "retiring",
        KeyState::Retired => "retired",
        KeyState::Destroyed => "destroyed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_named_in_three_ways() {
        let id = "ab".repeat(32);
        let named = |text: &str| text.parse::<KeyAddress>();
        assert_eq!(named(&id), Ok(KeyAddress::Id(KeyId([0xab; 32]))));
        let owner = Principal([7; 32]);
        let of = format!("{owner}/payroll");
        assert_eq!(
            named(&of),
            Ok(KeyAddress::Of(owner, "payroll".parse().unwrap()))
        );
        assert_eq!(
            named("payroll"),
            Ok(KeyAddress::Own("payroll".parse().unwrap()))
        );
        for text in [id.as_str(), of.as_str(), "payroll"] {
            assert_eq!(named(text).unwrap().to_string(), text);
        }
        for text in ["", "a/b", "/payroll", "pay roll"] {
            assert!(named(text).is_err(), "{text}");
        }
    }
}

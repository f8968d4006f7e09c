//! The attestation policy, as the ledger proves it.

use std::collections::{BTreeMap, BTreeSet};

use attestation::claims::SecurityVersions;
use attestation::policy::MEASUREMENTS_MAX;
use attestation::{Measurement, Policy, Role, SoftwareVerifier, Verifiers};
use bytes::Bytes;
use domain::{PlatformType, TimestampMs};
use ledger::records::{MeasurementEntry, MinimumEntry};
use ledger::{Genesis, Record as _, StateKey};

/// The platforms that a policy may name.
const PLATFORMS: [PlatformType; 5] = [
    PlatformType::Software,
    PlatformType::Sgx,
    PlatformType::Tdx,
    PlatformType::SevSnp,
    PlatformType::Nitro,
];

/// The verifiers of a deployment: of software evidence, where the genesis says `development` and pins its key.
#[must_use]
pub fn verifiers(genesis: &Genesis) -> Verifiers {
    let software = genesis.software_root.and_then(|root| {
        SoftwareVerifier::danger_new(genesis.deployment, root, genesis.development).ok()
    });
    match software {
        Some(verifier) => Verifiers::new().with(verifier),
        None => Verifiers::new(),
    }
}

/// What is read, with proofs, to know the policy: a key for each platform's minimum, and one for each measurement that any
/// listing has ever named, so that a listing that leaves one out later hides nothing.
#[derive(Debug)]
pub(crate) struct PolicyKeys(BTreeSet<Bytes>);

impl PolicyKeys {
    pub(crate) fn new() -> Self {
        let minimums = PLATFORMS.map(|platform| StateKey::Minimum(platform).encode().into());
        Self(minimums.into_iter().collect())
    }

    /// Takes the keys of measurements among what was listed; false when there are more than a policy may have.
    pub(crate) fn add<'a>(&mut self, listed: impl Iterator<Item = &'a Bytes>) -> bool {
        for key in listed {
            if StateKey::parse_measurement(key).is_none() || self.0.contains(key) {
                continue;
            }
            if self.0.len() >= MEASUREMENTS_MAX + PLATFORMS.len() {
                return false;
            }
            self.0.insert(key.clone());
        }
        true
    }

    /// Drops measurements that the ledger does not have.
    pub(crate) fn forget<'a>(&mut self, absent: impl Iterator<Item = &'a Bytes>) {
        for key in absent {
            if StateKey::parse_measurement(key).is_some() {
                self.0.remove(key);
            }
        }
    }

    pub(crate) fn all(&self) -> Vec<Bytes> {
        self.0.iter().cloned().collect()
    }
}

/// Puts a policy together from proved values, as of `now`. What is not understood is not allowed. The version is 0: the caller
/// counts.
pub(crate) fn assemble<'a>(
    genesis: &Genesis,
    values: impl Iterator<Item = (&'a Bytes, Option<&'a Bytes>)>,
    now: TimestampMs,
) -> Policy {
    let mut allowed: BTreeMap<Role, BTreeSet<Measurement>> = BTreeMap::new();
    let mut denied = BTreeSet::new();
    let mut used = BTreeSet::new();
    let mut minimums = BTreeMap::new();
    for (key, value) in values {
        let Some(value) = value else { continue };
        if let Some((role, platform, measurement)) = StateKey::parse_measurement(key) {
            let counts = platform != PlatformType::Software || genesis.development;
            let role = match role {
                ledger::records::Role::Custodian => Role::Custodian,
                ledger::records::Role::Worker => Role::Worker,
                ledger::records::Role::Gateway => continue,
            };
            let Ok(measurement) = <[u8; 32]>::try_from(measurement.as_bytes()) else {
                continue;
            };
            let measurement = Measurement(measurement);
            match MeasurementEntry::decode(value) {
                Ok(entry) if entry.is_allowed(now) && counts => {
                    allowed.entry(role).or_default().insert(measurement);
                    used.insert(platform);
                }
                Ok(entry) if !entry.denied => {}
                // Denied, or not to be read.
                _ => drop(denied.insert(measurement)),
            }
        } else if let Some(platform) = PLATFORMS
            .into_iter()
            .find(|platform| *key == StateKey::Minimum(*platform).encode())
        {
            // One that cannot be read asks for more than there is.
            let minimum = MinimumEntry::decode(value).map_or(
                SecurityVersions {
                    code: u64::MAX,
                    tcb: u64::MAX,
                    crl: u64::MAX,
                },
                |entry| {
                    let minimum = entry.at(now);
                    SecurityVersions {
                        code: 0,
                        tcb: minimum.tcb,
                        crl: minimum.revocation_list,
                    }
                },
            );
            minimums.insert(platform, minimum);
        }
    }
    // A measurement may be denied as one role and allowed as another; only what nobody may run is named as revoked.
    denied.retain(|measurement| !allowed.values().any(|set| set.contains(measurement)));
    Policy {
        version: 0,
        allowed,
        platforms: used
            .into_iter()
            .map(|platform| {
                let minimum = minimums.get(&platform).copied().unwrap_or_default();
                (platform, minimum)
            })
            .collect(),
        revoked: denied,
    }
}

//! What is good enough: explicit, and from the ledger in the end.

use std::collections::{BTreeMap, BTreeSet};

use domain::PlatformType;

use crate::claims::{Measurement, SecurityVersions};
use crate::role::Role;

/// Measurements in each of a policy's sets, at most.
pub const MEASUREMENTS_MAX: usize = 1_024;

/// An attestation policy. What it does not name is refused; the empty policy refuses everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Grows with every change. Sessions that were appraised under another version are closed.
    pub version: u64,
    /// Which code may act as what.
    pub allowed: BTreeMap<Role, BTreeSet<Measurement>>,
    /// Which platforms count, each with the least security versions. A platform that is not here is refused.
    pub platforms: BTreeMap<PlatformType, SecurityVersions>,
    /// What is refused whatever `allowed` says: denying acts at once.
    pub revoked: BTreeSet<Measurement>,
}

impl Policy {
    /// Whether each set is within its bound.
    #[must_use]
    pub fn is_bounded(&self) -> bool {
        self.revoked.len() <= MEASUREMENTS_MAX
            && self
                .allowed
                .values()
                .all(|measurements| measurements.len() <= MEASUREMENTS_MAX)
    }

    /// Adds a measurement for a role.
    #[must_use]
    pub fn allow(mut self, role: Role, measurement: Measurement) -> Self {
        self.allowed.entry(role).or_default().insert(measurement);
        self
    }

    /// Adds a platform with its least security versions.
    #[must_use]
    pub fn accept(mut self, platform: PlatformType, minimum: SecurityVersions) -> Self {
        self.platforms.insert(platform, minimum);
        self
    }
}

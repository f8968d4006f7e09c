//! Enrolment: which keys act as workers and gateways.

use domain::{Height, PlatformType, Principal, TimestampMs};
use serde::{Deserialize, Serialize};

use crate::record::record;
use crate::records::policy::Measurement;

/// What attested code may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Holds shares.
    Custodian,
    /// Opens keys' post-quantum leg, for one operation.
    Worker,
    /// Serves clients.
    Gateway,
}

impl Role {
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Custodian => 1,
            Self::Worker => 2,
            Self::Gateway => 3,
        }
    }

    pub(crate) fn from_code(code: u8) -> Option<Self> {
        [Self::Custodian, Self::Worker, Self::Gateway]
            .into_iter()
            .find(|role| role.code() == code)
    }
}

/// A key that governance admits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Enrolment {
    /// As what. Custodians are admitted by their committee, not here.
    pub role: Role,
    /// The key that signs for it.
    pub key: Principal,
    /// What it runs on.
    pub platform: PlatformType,
    /// What it runs; empty where the platform measures nothing.
    pub measurement: Measurement,
    /// Until when, exclusive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<TimestampMs>,
}

record! {
    /// An enrolled key.
    EnrolmentEntry = "enrolment", 512;
    /// What governance signed.
    enrolment: Enrolment,
    /// The block.
    height: Height,
    /// Whether it was withdrawn.
    withdrawn: bool,
}

impl EnrolmentEntry {
    /// Whether the key counts at `now`.
    #[must_use]
    pub fn is_active(&self, now: TimestampMs) -> bool {
        !self.withdrawn && self.enrolment.expires.is_none_or(|expires| now < expires)
    }
}

record! {
    /// How many workers are enrolled per platform, so that an activation by another vendor's can be asked for. Counts those that
    /// have expired but were not withdrawn.
    WorkerCount = "worker-count", 512;
    /// Ascending by platform, no zeros.
    platforms: Vec<(PlatformType, u32)>,
}

impl WorkerCount {
    pub(crate) fn change(&mut self, platform: PlatformType, up: bool) {
        match self
            .platforms
            .binary_search_by(|(other, _)| other.cmp(&platform))
        {
            Ok(at) => {
                if let Some((_, count)) = self.platforms.get_mut(at) {
                    *count = if up {
                        count.saturating_add(1)
                    } else {
                        count.saturating_sub(1)
                    };
                }
            }
            Err(at) if up => self.platforms.insert(at, (platform, 1)),
            Err(_) => {}
        }
        self.platforms.retain(|(_, count)| *count > 0);
    }
}

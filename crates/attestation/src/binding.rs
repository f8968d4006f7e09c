//! Report data: what ties evidence to one TLS session, one role and one direction.

use std::fmt;

use crypto::Label;
use domain::DeploymentId;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::role::Role;

/// 32 fresh random bytes that each side draws for one session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nonce(pub [u8; 32]);

/// Who opened the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The side that connected.
    Connecting,
    /// The side that accepted.
    Accepting,
}

impl Side {
    /// The other one.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Connecting => Self::Accepting,
            Self::Accepting => Self::Connecting,
        }
    }

    const fn code(self) -> u8 {
        match self {
            Self::Connecting => 0,
            Self::Accepting => 1,
        }
    }
}

/// The 64 bytes that the platform puts into its evidence unread.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ReportData(pub [u8; 64]);

impl fmt::Debug for ReportData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ReportData({})", data_encoding::HEXLOWER.encode(&self.0))
    }
}

impl Serialize for ReportData {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for ReportData {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = serde_bytes::ByteBuf::deserialize(deserializer)?;
        <[u8; 64]>::try_from(bytes.as_slice())
            .map(Self)
            .map_err(|_| D::Error::invalid_length(bytes.len(), &"64 bytes"))
    }
}

/// Everything that evidence for a session is bound to, seen from the side that proves.
///
/// - The exporter (RFC 9266) differs between any two TLS sessions, so evidence cannot be relayed through a middleman who
///   ends one session and opens another, nor replayed later.
/// - Side, and own before peer key, make the two directions differ: evidence cannot be reflected.
/// - The role cannot be swapped, and the label binds deployment and purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Binding {
    /// What the proving side acts as.
    pub role: Role,
    /// Which side it is.
    pub side: Side,
    /// The connecting side's nonce.
    pub connecting_nonce: Nonce,
    /// The accepting side's nonce.
    pub accepting_nonce: Nonce,
    /// The session's `tls-exporter` channel binding (RFC 9266): 32 bytes.
    pub exporter: [u8; 32],
    /// The proving side's Ed25519 key in TLS.
    pub own_key: [u8; 32],
    /// The other side's.
    pub peer_key: [u8; 32],
}

impl Binding {
    /// The same session as the other side proves it.
    #[must_use]
    pub const fn of_peer(&self, role: Role) -> Self {
        Self {
            role,
            side: self.side.other(),
            own_key: self.peer_key,
            peer_key: self.own_key,
            ..*self
        }
    }

    /// 64 bytes of BLAKE3 over `strongroom/v1/report-data 00 deployment role(1) side(1) connecting nonce(32) accepting
    /// nonce(32) exporter(32) own key(32) peer key(32)`.
    #[must_use]
    pub fn report_data(&self, deployment: &DeploymentId) -> ReportData {
        let body = [
            &[self.role.code(), self.side.code()],
            self.connecting_nonce.0.as_slice(),
            &self.accepting_nonce.0,
            &self.exporter,
            &self.own_key,
            &self.peer_key,
        ]
        .concat();
        let mut out = [0; 64];
        blake3::Hasher::new()
            .update(&Label::REPORT_DATA.message(deployment, &body))
            .finalize_xof()
            .fill(&mut out);
        ReportData(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEPLOYMENT: DeploymentId = DeploymentId([9; 32]);

    fn binding() -> Binding {
        Binding {
            role: Role::Custodian,
            side: Side::Connecting,
            connecting_nonce: Nonce([1; 32]),
            accepting_nonce: Nonce([2; 32]),
            exporter: [3; 32],
            own_key: [4; 32],
            peer_key: [5; 32],
        }
    }

    #[test]
    fn every_part_changes_the_report_data() {
        let base = binding();
        let variants = [
            Binding {
                role: Role::Worker,
                ..base
            },
            Binding {
                side: Side::Accepting,
                ..base
            },
            Binding {
                connecting_nonce: Nonce([2; 32]),
                ..base
            },
            Binding {
                accepting_nonce: Nonce([1; 32]),
                ..base
            },
            Binding {
                connecting_nonce: base.accepting_nonce,
                accepting_nonce: base.connecting_nonce,
                ..base
            },
            Binding {
                exporter: [4; 32],
                ..base
            },
            Binding {
                own_key: [5; 32],
                ..base
            },
            Binding {
                peer_key: [4; 32],
                ..base
            },
            base.of_peer(Role::Custodian),
        ];
        let mut seen = vec![base.report_data(&DEPLOYMENT)];
        seen.push(base.report_data(&DeploymentId([8; 32])));
        for variant in variants {
            seen.push(variant.report_data(&DEPLOYMENT));
        }
        for (i, a) in seen.iter().enumerate() {
            assert!(seen.iter().skip(i + 1).all(|b| a != b), "{i}");
        }
    }

    #[test]
    fn both_sides_compute_the_same() {
        let own = binding();
        assert_eq!(own.of_peer(Role::Worker).of_peer(Role::Custodian), own);
    }

    #[test]
    fn the_layout_is_what_the_document_says() {
        let mut message = b"strongroom/v1/report-data\0".to_vec();
        message.extend([9; 32]);
        message.extend([1, 0]);
        for byte in 1..=5 {
            message.extend([byte; 32]);
        }
        let mut expected = [0; 64];
        blake3::Hasher::new()
            .update(&message)
            .finalize_xof()
            .fill(&mut expected);
        assert_eq!(binding().report_data(&DEPLOYMENT).0, expected);
    }
}

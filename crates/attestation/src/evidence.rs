//! The evidence record: one format for every platform.
//!
//! ```text
//! { "v": 1, "type": "evidence", "platform": u8, "role": u8, "measurement": 32 bytes, "reportData": 64 bytes,
//!   "evidence": what the platform gave, "collateral": certificates, lists and TCB information to check it with }
//! ```
//!
//! Deterministic dag-cbor, so there is one encoding of each record. Role, measurement and report data beside the
//! platform's own bytes are what the sender claims; they are for reading and logging, and a verifier's result must agree
//! with them.

use domain::PlatformType;
use records::codec::{self, RecordError, TypeName, Typed, V1, invalid};
use serde::{Deserialize, Serialize};

use crate::binding::ReportData;
use crate::claims::Measurement;
use crate::role::Role;

/// Bytes of the platform's evidence, at most: a TDX quote has about 5,000.
pub const PLATFORM_EVIDENCE_BYTES_MAX: usize = 32 << 10;
/// Bytes of collateral, at most: Intel's has about 20,000.
pub const COLLATERAL_BYTES_MAX: usize = 96 << 10;
/// Bytes of an encoded record, at most.
pub const EVIDENCE_BYTES_MAX: usize = PLATFORM_EVIDENCE_BYTES_MAX + COLLATERAL_BYTES_MAX + 512;

/// What a process presents about itself. Says nothing until appraised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// What protects the process.
    pub platform: PlatformType,
    /// What it acts as.
    pub role: Role,
    /// Which code it claims to run.
    pub measurement: Measurement,
    /// What it claims to have had put in.
    pub report_data: ReportData,
    /// The platform's own format: a quote, a report, an attestation document, a signed statement.
    pub evidence: Vec<u8>,
    /// The platform's own format; empty where everything is inside.
    pub collateral: Vec<u8>,
}

impl Evidence {
    /// The record's deterministic bytes.
    ///
    /// # Errors
    /// [`RecordError::Invalid`] when a part is over its bound or the role is one that proves nothing.
    pub fn encode(&self) -> Result<Vec<u8>, RecordError> {
        self.check()?;
        Ok(codec::encode(&Wire {
            kind: TypeName::new(),
            v: V1,
            platform: self.platform,
            role: self.role,
            measurement: self.measurement,
            report_data: self.report_data,
            evidence: self.evidence.clone(),
            collateral: self.collateral.clone(),
        }))
    }

    /// Reads a record strictly; verifies nothing.
    ///
    /// # Errors
    /// [`RecordError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let wire: Wire = codec::decode(bytes)?;
        let evidence = Self {
            platform: wire.platform,
            role: wire.role,
            measurement: wire.measurement,
            report_data: wire.report_data,
            evidence: wire.evidence,
            collateral: wire.collateral,
        };
        evidence.check()?;
        Ok(evidence)
    }

    fn check(&self) -> Result<(), RecordError> {
        if self.role == Role::Client {
            return Err(invalid::<Wire>("a client proves nothing"));
        }
        if self.evidence.is_empty() || self.evidence.len() > PLATFORM_EVIDENCE_BYTES_MAX {
            return Err(invalid::<Wire>("platform evidence has 1 to 32,768 bytes"));
        }
        if self.collateral.len() > COLLATERAL_BYTES_MAX {
            return Err(invalid::<Wire>("collateral has at most 98,304 bytes"));
        }
        Ok(())
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Wire {
    #[serde(rename = "type")]
    kind: TypeName<Wire>,
    v: V1,
    platform: PlatformType,
    role: Role,
    measurement: Measurement,
    report_data: ReportData,
    #[serde(with = "serde_bytes")]
    evidence: Vec<u8>,
    #[serde(with = "serde_bytes")]
    collateral: Vec<u8>,
}

impl Typed for Wire {
    const TYPE: &'static str = "evidence";
    const BYTES_MAX: usize = EVIDENCE_BYTES_MAX;
}

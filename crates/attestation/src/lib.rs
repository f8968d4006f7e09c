//! Evidence of what code runs where, and whether that is good enough: the format, the verifiers and the appraisal.
//!
//! What this crate does: it encodes and strictly decodes [`Evidence`], computes the report data that binds evidence to
//! one TLS session ([`Binding`]), turns evidence into [`Claims`] through a [`Verifier`] per platform, and appraises
//! claims against an explicit [`Policy`] ([`appraise`]). The words are those of RFC 9334. A verified signature is not
//! yet an acceptable platform: only an [`Appraisal`] is.
//!
//! What it does not do: read a clock (`now` is an argument of everything that depends on it), fetch collateral, talk to
//! hardware, decide where the policy comes from. The one platform it verifies so far is the software platform, which
//! protects nothing from the owner of the machine and is refused unless the genesis says `development`; evidence of any
//! other platform travels in the same format and is refused by name until its verifier is registered.

#![cfg_attr(not(test), warn(clippy::indexing_slicing))]
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod appraisal;
pub mod binding;
pub mod claims;
pub mod evidence;
pub mod policy;
pub mod ports;
pub mod role;
pub mod software;

pub use appraisal::{Appraisal, AppraisalError, Expected, appraise};
pub use binding::{Binding, Nonce, ReportData, Side};
pub use claims::{Claims, Measurement, SecurityVersions};
pub use evidence::Evidence;
pub use policy::Policy;
pub use ports::{EvidenceSource, SealingKeySource, SourceError, Verifier, Verifiers, VerifyError};
pub use records::RecordError;
pub use role::Role;
pub use software::{SoftwareStatement, SoftwareVerifier};

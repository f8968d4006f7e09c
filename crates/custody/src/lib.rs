//! What custodians are asked and answer, and the rules by which they release.
//!
//! What this crate does: the requests that clients sign ([`request`]), what custodians and workers seal and sign in return
//! ([`answer`]), why anything is refused ([`Reason`]), what is written down of it ([`audit`]); a custodian's judgement of a request
//! ([`Judge`]) from what the asker shows of the ledger ([`proof`]) and each request once ([`replay`]); which shares of new versions are
//! kept and shown ([`version`]).
//!
//! What it does not do: IO of any kind. It reads no clock (time is the ledger's), draws no randomness, keeps no share
//! (`services/custodian` does, sealed), and trusts no worker and no ledger operator beyond what they prove.
//!
//! Formats and rules: `docs/custody.md`.

#![cfg_attr(not(test), warn(clippy::indexing_slicing))]
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod answer;
pub mod audit;
pub mod cache;
pub mod confirm;
pub mod judge;
mod labels;
pub mod log_check;
pub mod proof;
pub mod ration;
pub mod reason;
pub mod replay;
pub mod request;
pub mod version;
pub mod view;

pub use answer::{AnswerError, Recipient, SealedPartials, SealedSecrets};
pub use audit::{AuditEntry, AuditHead, AuditRecord, AuditStart, AuditedOperation, Decision, Page};
pub use cache::Cache;
pub use confirm::{ConfirmQuestion, Confirmation};
pub use judge::{
    Ask, AuditPermit, CiphertextBytes, Facts, Judge, Permit, Release, ShareName, Shares, Verdict,
};
pub use log_check::{LogCheck, LogError, Next, Whole};
pub use proof::{LedgerName, LedgerProof, ProvedValue, Shown, VerifiedCreation, VerifiedVersion};
pub use ration::Rations;
pub use reason::{Denial, Reason};
pub use replay::ReplayWindow;
pub use request::{AuditRequest, DealRequest, DecryptRequest, KemHashes, Operation, RequestHash};
pub use view::LedgerView;

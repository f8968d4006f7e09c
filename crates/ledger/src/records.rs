//! What the ledger holds: records that principals sign, and what the state says of each.

pub mod account;
pub mod anchor;
pub mod bucket;
pub mod committee;
pub mod dataset;
pub mod enrolment;
pub mod grant;
pub mod key;
pub mod policy;

pub use account::Account;
pub use anchor::{AnchorEntry, AnchorHead, AnchorKind};
pub use bucket::{BucketEntry, BucketGrantEntry};
pub use committee::{Committee, CommitteeEntry, Member, ShareRoot, ShareRootEntry};
pub use dataset::DatasetEntry;
pub use enrolment::{Enrolment, EnrolmentEntry, Role, WorkerCount};
pub use grant::{ChainError, GrantEntry, KeyGrant, Operations};
pub use key::{
    Acknowledgement, Activation, ContextName, ContextPolicy, KeyCreation, KeyState, KeyStatus,
    Pending, VersionEntry, VersionStatement,
};
pub use policy::{GovernanceEntry, Measurement, MeasurementEntry, Minimum, MinimumEntry};

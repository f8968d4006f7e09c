//! What the ledger hashes and signs, each under a label of its own.

use crypto::Label;
use domain::DeploymentId;

pub(crate) const GENESIS: Label = Label::new("ledger-genesis");
pub(crate) const TRANSACTION: Label = Label::new("ledger-transaction");
pub(crate) const TRANSACTION_HASH: Label = Label::new("ledger-transaction-hash");
pub(crate) const HEADER: Label = Label::new("ledger-header");
pub(crate) const FINALITY: Label = Label::new("ledger-finality");
pub(crate) const FRESHNESS: Label = Label::new("ledger-freshness");
pub(crate) const VALIDATORS: Label = Label::new("ledger-validators");
pub(crate) const GOVERNANCE: Label = Label::new("ledger-governance");
pub(crate) const COMMITTEE: Label = Label::new("committee");
pub(crate) const KEY_CREATION: Label = Label::new("key-creation");
pub(crate) const KEY_ID: Label = Label::new("key-id");
pub(crate) const KEY_GRANT: Label = Label::new("key-grant");
pub(crate) const SHARE_ACKNOWLEDGEMENT: Label = Label::new("share-acknowledgement");
pub(crate) const KEY_ACTIVATION: Label = Label::new("key-activation");
pub(crate) const SHARE_ROOT: Label = Label::new("share-root");
pub(crate) const DATASET_ID: Label = Label::new("dataset-id");

/// BLAKE3 of label, deployment and body.
pub(crate) fn hash(label: Label, deployment: &DeploymentId, body: &[u8]) -> [u8; 32] {
    *blake3::hash(&label.message(deployment, body)).as_bytes()
}

//! Receipts: what became of a transaction.

use domain::{Height, TransactionHash};
use serde::{Deserialize, Serialize};

use crate::record::record;

record! {
    /// What became of a transaction in a block. Proved against the header's receipts root ([`crate::merkle::list`]).
    Receipt = "receipt", 512;
    /// Which transaction.
    transaction: TransactionHash,
    /// In which block.
    height: Height,
    /// Its place in it.
    index: u32,
    /// What came of it.
    outcome: Outcome,
}

/// What came of a transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It took effect.
    Applied,
    /// It changed nothing, for the reason with this code ([`crate::Rejection::code`]).
    Rejected(String),
}

//! Accounts: what keeps a principal's transactions from being applied twice.

use domain::{Height, TransactionHash};

use crate::record::record;

record! {
    /// What the ledger knows of a principal that has sent a transaction.
    Account = "account", 256;
    /// The nonce that the next transaction must have; also how many were applied.
    nonce: u64,
    /// The last one that was applied.
    last: TransactionHash,
    /// In which block.
    last_height: Height,
    /// At which place in it.
    last_index: u32,
}

//! Ids of the ledger: hashes that name a genesis, a header, a transaction, a root, a dataset.

use std::fmt;
use std::str::FromStr;

use crate::base_ids::{IdParseError, hex_id, id_serde};

hex_id!(
    /// A ledger: the hash of its genesis record. Pinned by clients and enclaves beside the deployment id.
    GenesisHash, 32, "genesis hash", "64 lower-case hexadecimal digits"
);
hex_id!(
    /// A block: the hash of its header.
    HeaderHash, 32, "header hash", "64 lower-case hexadecimal digits"
);
hex_id!(
    /// A transaction: the hash of what its sender signed.
    TransactionHash, 32, "transaction hash", "64 lower-case hexadecimal digits"
);
hex_id!(
    /// A signed record: BLAKE3 of its body.
    RecordHash, 32, "record hash", "64 lower-case hexadecimal digits"
);
hex_id!(
    /// A Merkle root: of the ledger's state, or of a list.
    MerkleRoot, 32, "Merkle root", "64 lower-case hexadecimal digits"
);
hex_id!(
    /// A published dataset: the hash of its owner and a random value.
    DatasetId, 32, "dataset id", "64 lower-case hexadecimal digits"
);

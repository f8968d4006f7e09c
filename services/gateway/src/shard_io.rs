//! Moving the shards of chunks to and from the nodes: the [`write`](mod@write) path to its quorum and the
//! [`read`](mod@read) path around failures.

pub mod read;
pub mod write;

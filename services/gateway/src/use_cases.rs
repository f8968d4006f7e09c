//! What the gateway does for a caller, whatever the protocol: one function for each thing that is asked, shared by REST (`http`)
//! and gRPC (`grpc`). The protocols authenticate, read and write; rules and limits are here.

pub mod keys;
pub mod ledger;

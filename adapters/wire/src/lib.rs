//! What travels: REST types, request signatures, gRPC code, and conversions to domain types.

pub mod grpc;

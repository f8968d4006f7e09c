//! End to end: a whole platform of real processes per test, used through the program as a user would, through the
//! client library where many clients or odd ranges are needed, and byte by byte where hostile ones are. What the program
//! does not set up (more than 14 nodes, a scrub every moment) runs in this process.

#![allow(clippy::unwrap_used)]

mod concurrency;
mod deployments;
mod expiry;
mod gateway_killed;
mod grpc;
mod harness;
mod hostile_requests;
mod identities;
mod idle;
mod key_envelopes;
mod key_faults;
mod keys;
mod ledger;
mod names;
mod node_faults;
mod postgres;
mod round_trip;
mod secrets;
mod sixteen_nodes;
mod sizes;
mod support;

//! Attested TLS: two processes that prove to each other, inside one TLS 1.3 session, which code they run.
//!
//! What this crate does: TLS 1.3 with X25519MLKEM768 and nothing else, raw Ed25519 keys that each process draws for itself
//! (RFC 7250), no resumption and no early data; after the handshake the exchange of [`attestation::Evidence`] bound to
//! the session's exporter (RFC 9266); then messages of a bounded length, each with its length in front, until the session
//! is an hour old, the evidence ends or the attestation policy changes. A port may also admit clients that prove nothing:
//! they are believed only what their requests prove by signature.
//!
//! What it does not do: link an HTTP stack, know what messages mean, decide the policy (it watches one), or read a clock
//! for anything but timeouts: the time that evidence is held against is passed in. The protocol is in
//! `docs/attestation.md`.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod config;
pub mod endpoint;
pub mod error;
mod exchange;
mod frame;
mod guard;
pub mod key;
pub mod limits;
pub mod serve;
pub mod session;

pub use endpoint::{Endpoint, Local, Trust};
pub use error::SessionError;
pub use key::ProcessKey;
pub use limits::Limits;
pub use serve::{Admit, Listen, serve};
pub use session::{Peer, Receiver, Sender, Session};

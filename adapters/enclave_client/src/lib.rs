//! Asking custodians and workers, and serving what they are asked: the messages of `enclave_wire` over sessions of `attested`.
//!
//! What this crate does: a [`Pool`] keeps one attested session to each of its peers open, connects anew when it ends (with
//! pauses that grow up to a bound), sends any number of questions over it at a time up to a bound, and gives each caller its
//! answer, a refusal, or why there is none. [`serve()`] is the other side: it reads questions, runs a bounded number of handlers,
//! and answers in whatever order they finish.
//!
//! What it does not do: choose whom to ask, ask again, or know what the records in the messages mean. It links no HTTP
//! stack: enclaves use it towards each other, and the gateway towards them.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod address;
mod calls;
pub mod code;
mod connection;
mod error;
mod peer;
mod pool;
pub mod serve;

pub use address::{Address, AddressError};
pub use error::{CallError, Refusal};
pub use peer::{Peer, PeerState};
pub use pool::Pool;
pub use serve::{Answering, Asker, ServeBounds, serve};

use std::time::Duration;

use attested::Limits;

/// Bounds of the sessions that carry these messages: [`Limits::default`] with room for the longest message.
#[must_use]
pub fn session_limits() -> Limits {
    Limits {
        message_bytes_max: enclave_wire::MESSAGE_BYTES_MAX,
        ..Limits::default()
    }
}

/// Bounds of one side that asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Questions that wait for their answer on one session; more wait for a place.
    pub in_flight_max: usize,
    /// Between two attempts to connect, at first and at most. Doubles each time, a random half is taken off.
    pub backoff: (Duration, Duration),
    /// A session older than this is replaced, before it ends by itself in the middle of a question.
    pub replace_after: Duration,
    /// After this long without any, a question is asked to see that the peer is there, and to have its description.
    pub ask_after: Duration,
    /// What such a question, and connecting, may take.
    pub patience: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            in_flight_max: 256,
            backoff: (Duration::from_millis(50), Duration::from_secs(1)),
            replace_after: Duration::from_secs(3_300),
            ask_after: Duration::from_secs(30),
            patience: Duration::from_secs(10),
        }
    }
}

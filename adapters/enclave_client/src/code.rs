//! Codes of refusals that are not a custodian's judgement (`custody::Reason` has those): a worker's own, and what went wrong on the
//! way. Stable; `docs/custody.md` lists both kinds, which a test of the worker compares.

/// Too few custodians took part.
pub const CUSTODIANS: &str = "custodians";
/// A custodian, worker or dealer gave something that it should not have: named in the sentence.
pub const CHEATED: &str = "cheated";
/// No other worker has found a dealt version good.
pub const ACTIVATION: &str = "activation";
/// A defect of the program that says so.
pub const INTERNAL: &str = "internal";
/// There is no session with the peer: nothing was sent.
pub const UNREACHABLE: &str = "unreachable";
/// The session ended before the answer.
pub const LOST: &str = "lost";
/// No answer in time.
pub const TIMEOUT: &str = "timeout";
/// The peer answered something else.
pub const PROTOCOL: &str = "protocol";
/// The question is longer than a message may be.
pub const TOO_LONG: &str = "too-long";

/// All of them, in the order of the documentation.
pub const ALL: [&str; 9] = [
    CUSTODIANS,
    CHEATED,
    ACTIVATION,
    INTERNAL,
    UNREACHABLE,
    LOST,
    TIMEOUT,
    PROTOCOL,
    TOO_LONG,
];

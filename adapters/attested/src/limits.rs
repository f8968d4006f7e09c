//! Every bound of a session.

use std::time::Duration;

/// Bounds of one endpoint. The defaults suit a custodian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// For TLS handshake and evidence exchange together.
    pub handshake: Duration,
    /// For one message from its first to its last byte, either way.
    pub message: Duration,
    /// For the first byte of a peer's next message.
    pub idle: Duration,
    /// For a whole session; never more than [`SESSION_MAX`], however large it is set.
    pub session: Duration,
    /// Bytes of one message.
    pub message_bytes_max: usize,
    /// Handshakes at a time on one listener.
    pub handshakes_max: usize,
    /// Sessions at a time with peers that proved something, on one listener.
    pub attested_max: usize,
    /// Sessions at a time with clients, on one listener. Apart, so that clients never keep attested peers out.
    pub clients_max: usize,
}

/// No session lives longer: evidence is appraised at least once an hour.
pub const SESSION_MAX: Duration = Duration::from_secs(3_600);

impl Default for Limits {
    fn default() -> Self {
        Self {
            handshake: Duration::from_secs(10),
            message: Duration::from_secs(10),
            idle: Duration::from_secs(300),
            session: SESSION_MAX,
            message_bytes_max: 1 << 20,
            handshakes_max: 64,
            attested_max: 64,
            clients_max: 256,
        }
    }
}

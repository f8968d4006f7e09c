//! The port to the ledger: what a custodian or worker knows of it, from signed answers to nonces of its own.

use domain::{Height, TimestampMs};
use ledger::{Certificate, Header, HeaderError};

/// What is known of the ledger.
pub trait LedgerView: Send + Sync {
    /// The newest certified header.
    fn newest(&self) -> Option<Header>;

    /// Its time: the only clock that counts. 0 before there is one.
    fn time(&self) -> TimestampMs;

    /// The time of the first header after this process began.
    fn started(&self) -> Option<TimestampMs>;

    /// The height below which no header is admitted.
    fn floor(&self) -> Height;

    /// Whether validators have said recently enough what is final. If not: deny.
    fn is_fresh(&self) -> bool;

    /// Whether proofs against `header` may be judged. Goes forward with a newer one.
    ///
    /// # Errors
    /// [`HeaderError`]; [`HeaderError::Stale`] below the floor.
    fn admit(&self, header: &Header, certificate: &Certificate) -> Result<(), HeaderError>;

    /// Admits a header and nothing below it from then on. Returns the floor.
    ///
    /// # Errors
    /// [`HeaderError`].
    fn confirm(&self, header: &Header, certificate: &Certificate) -> Result<Height, HeaderError>;
}

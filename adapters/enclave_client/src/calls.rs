//! The questions by their types.

use std::time::Duration;

use enclave_wire::v1::{self, answer::Outcome, question::Ask};

use crate::error::CallError;
use crate::peer::Peer;

macro_rules! calls {
    ($( $(#[doc = $doc:literal])* $name:ident: $ask:ident($question:ident) -> $outcome:ident($answer:ident); )*) => {
        impl Peer {$(
            $(#[doc = $doc])*
            ///
            /// # Errors
            /// [`CallError`].
            pub async fn $name(
                &self,
                question: v1::$question,
                within: Duration,
            ) -> Result<v1::$answer, CallError> {
                match self.call(Ask::$ask(question), within).await? {
                    Outcome::$outcome(answer) => Ok(answer),
                    _ => Err(CallError::Protocol("another answer than the question's")),
                }
            }
        )*}
    };
}

calls! {
    /// Asks anyone what it is and how it is doing.
    describe: Describe(Describe) -> Description(Description);
    /// Asks a worker to open ciphertexts.
    decrypt: Decrypt(Decrypt) -> Opened(Opened);
    /// Asks a custodian for its part in opening ciphertexts. The answer holds a secret: `enclave_wire::secrets::take` it.
    release: Decrypt(Decrypt) -> Release(Release);
    /// Asks a worker to make the pending version of a key.
    deal_version: DealVersion(DealVersion) -> DealtVersion(DealtVersion);
    /// Asks a custodian for a step of the key generation.
    ceremony: Ceremony(Ceremony) -> Ceremony(CeremonyStep);
    /// Asks a custodian to keep a share durably. What was sent is wiped once it is encoded.
    hold_share: HoldShare(HoldShare) -> Held(Held);
    /// Asks a custodian for its share of a pending version. The answer holds a secret: `enclave_wire::secrets::take` it.
    show_share: ShowShare(ShowShare) -> Shown(Shown);
    /// Asks another worker to check all shares of a pending version.
    activate: Activate(Activate) -> Activated(Activated);
    /// Tells a custodian of a height below which it releases nothing any more.
    confirm: Confirm(Confirm) -> Confirmed(Confirmed);
    /// Asks a custodian for a page of its audit log.
    audit: Audit(Audit) -> Audit(AuditPage);
}

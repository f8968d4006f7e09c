//! What the custody plane hashes, signs and seals, each under a label of its own.

use crypto::Label;

/// Signs a request to decrypt.
pub(crate) const DECRYPT_REQUEST: Label = Label::new("decrypt-request");
/// Hashes the body of a request: what answers and proofs are bound to.
pub(crate) const REQUEST_HASH: Label = Label::new("request-hash");
/// Signs a request to make a pending version of a key.
pub(crate) const DEAL_REQUEST: Label = Label::new("deal-request");
/// Signs a request for a page of an audit log.
pub(crate) const AUDIT_REQUEST: Label = Label::new("audit-request");
/// Hashes an audit record, and so chains them.
pub(crate) const AUDIT_RECORD: Label = Label::new("audit-record");
/// Signs a page of an audit log with both ends of the log, by its custodian.
pub(crate) const AUDIT_PAGE: Label = Label::new("audit-page");
/// Signs the height below which a custodian releases nothing any more.
pub(crate) const CONFIRMATION: Label = Label::new("confirmation");
/// HPKE `info` of partials sealed to a recipient.
pub(crate) const SEALED_PARTIALS: Label = Label::new("sealed-partials");
/// Signs a release, by its custodian.
pub(crate) const RELEASE: Label = Label::new("release");
/// HPKE `info` of post-quantum secrets sealed to a recipient.
pub(crate) const SEALED_SECRETS: Label = Label::new("sealed-secrets");
/// Signs a worker's answer.
pub(crate) const OPENED: Label = Label::new("opened");

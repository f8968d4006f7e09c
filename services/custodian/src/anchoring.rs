//! What the ledger holds of this custodian's audit log: put there now and then, and compared with the own log before anything is served.
//!
//! Log and shares lie in one sealed store, written in one order. So a log that is behind the ledger's means that the store as a whole was
//! put back to an earlier state, and a log with another entry at that place that it was continued from such a state.

use std::sync::Mutex;
use std::time::Duration;

use custody::{AuditHead, Denial, Reason};
use domain::{Height, MerkleRoot, RecordHash, TimestampMs};
use ledger::records::{Account, AnchorHead, AnchorKind};
use ledger::transaction::Anchor;
use ledger::{Action, Expiry, Outcome, Record as _, SignedTransaction, StateKey, Transaction};
use tokio::time::Instant;

use crate::config::Bounds;
use crate::custodian::{Inner, lock};

/// How often it is looked whether there is something to put on the ledger.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long a transaction may wait to be applied, by the ledger's time.
const LIFETIME_MS: u64 = 60_000;
/// How long a stop waits for the last one.
const STOP_PATIENCE: Duration = Duration::from_secs(3);

/// How the own log stands to the ledger's anchor of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// Not compared yet since the start.
    Unknown,
    /// The ledger's is in the own log. Up to which entry the ledger has it.
    Contains(u64),
    /// The own log lacks it, or has another entry there.
    RolledBack { anchored: u64, own: u64 },
}

/// What is known of the ledger's anchor.
#[derive(Debug)]
pub(crate) struct Anchoring {
    standing: Mutex<Standing>,
}

/// Why the ledger does not have the newest entry.
#[derive(Debug, thiserror::Error)]
enum AnchorError {
    #[error(transparent)]
    View(#[from] relay::ViewError),
    #[error("the ledger's answer is not fresh")]
    NotFresh,
    #[error("the ledger holds a record that is none: {0}")]
    Record(#[from] records::RecordError),
    #[error(transparent)]
    Submit(#[from] ledger::port::SubmitError),
    #[error("the ledger did not apply it: {0}")]
    Rejected(String),
    #[error("the ledger's anchor is not of this log")]
    Elsewhere,
    #[error(transparent)]
    Own(#[from] Denial),
}

/// What the ledger holds: this custodian's next nonce, its next anchor's place, and the entry that the last one names.
struct Known {
    nonce: u64,
    sequence: u64,
    head: AuditHead,
}

impl Anchoring {
    pub(crate) fn new() -> Self {
        Self {
            standing: Mutex::new(Standing::Unknown),
        }
    }

    /// That the own store is not older than what the ledger holds of it.
    pub(crate) fn expect(&self) -> Result<(), Denial> {
        match *lock(&self.standing) {
            Standing::Contains(_) => Ok(()),
            Standing::Unknown => Err(Denial::new(
                Reason::LedgerStale,
                "the own log was not compared with the ledger's anchor yet",
            )),
            Standing::RolledBack { anchored, own } => Err(Denial::new(
                Reason::Rollback,
                format_args!("the own log is at entry {own}, the ledger's anchor at {anchored}"),
            )),
        }
    }

    /// The entry that the ledger has; `None` while that is unknown, or of no use.
    pub(crate) fn anchored(&self) -> Option<u64> {
        match *lock(&self.standing) {
            Standing::Contains(anchored) => Some(anchored),
            Standing::Unknown | Standing::RolledBack { .. } => None,
        }
    }
}

impl Inner {
    /// Compares and anchors for as long as it is polled.
    pub(crate) async fn keep_anchored(self: &std::sync::Arc<Self>, bounds: &Bounds) {
        let (mut last, mut said) = (Instant::now(), false);
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let Some(anchored) = self.anchoring.anchored() else {
                self.compare_with_anchor().await;
                continue;
            };
            let new = self.audit.head().sequence.saturating_sub(anchored);
            let passed = last.elapsed();
            let many = new >= bounds.anchor_records && passed >= bounds.anchor_gap;
            if new == 0 || !(many || passed >= bounds.anchor_within) {
                continue;
            }
            last = Instant::now();
            match self.anchor().await {
                Ok(()) => said = false,
                // Once, not every time.
                Err(error) if !said => {
                    said = true;
                    tracing::warn!(%error, "the audit log's end was not put on the ledger");
                }
                Err(_) => {}
            }
        }
    }

    /// The last anchor before a stop, if the ledger takes it soon.
    pub(crate) async fn anchor_at_stop(self: &std::sync::Arc<Self>) {
        let anchored = self.anchoring.anchored();
        if anchored.is_none_or(|anchored| anchored >= self.audit.head().sequence) {
            return;
        }
        match tokio::time::timeout(STOP_PATIENCE, self.anchor()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::info!(%error, "the audit log's end was not put on the ledger");
            }
            Err(_) => tracing::info!("the ledger did not take the audit log's end in time"),
        }
    }

    /// Learns whether the own log contains what the ledger holds of it. Once that was so it stays so while the store is open.
    pub(crate) async fn compare_with_anchor(self: &std::sync::Arc<Self>) {
        let known = match self.known().await {
            Ok(known) => known,
            Err(error) => {
                tracing::debug!(%error, "the ledger's anchor was not learned");
                return;
            }
        };
        if let Err(denial) = self.compare(known.head).await {
            tracing::warn!(%denial, "the own log was not compared with the ledger's anchor");
        }
    }

    /// Notes whether the own log contains an anchored entry, and tells it.
    async fn compare(self: &std::sync::Arc<Self>, anchored: AuditHead) -> Result<bool, Denial> {
        let inner = self.clone();
        let compare = move || {
            let head = inner.audit.head();
            let has = anchored.sequence <= head.sequence
                && (anchored.sequence == 0
                    || inner
                        .audit
                        .hash_of(anchored.sequence)?
                        // Dropped since: the log is bounded, and is far beyond it.
                        .is_none_or(|hash| hash == anchored.hash));
            Ok::<_, Denial>((has, head.sequence))
        };
        let (has, own) = self.compute(compare).await??;
        let mut standing = lock(&self.anchoring.standing);
        if let Standing::RolledBack { .. } = *standing {
            // Said once, and for good.
            return Ok(false);
        }
        if has {
            *standing = Standing::Contains(anchored.sequence);
        } else {
            tracing::error!(
                own,
                anchored = anchored.sequence,
                "the ledger holds another log of this custodian, or a later one: the sealed store was put back or runs twice, and nothing is served from it"
            );
            *standing = Standing::RolledBack {
                anchored: anchored.sequence,
                own,
            };
        }
        Ok(has)
    }

    /// Puts the newest durable entry on the ledger, when that has an earlier one.
    async fn anchor(self: &std::sync::Arc<Self>) -> Result<(), AnchorError> {
        let head = self.audit.head();
        let known = self.known().await?;
        // Nobody else signs anchors with this key: one that the own log lacks is another copy's.
        if !self.compare(known.head).await? {
            return Err(AnchorError::Elsewhere);
        }
        let count = head.sequence.saturating_sub(known.head.sequence);
        if count > 0 {
            let expires = TimestampMs(self.view.time().0.saturating_add(LIFETIME_MS));
            let transaction = Transaction {
                chain: self.name.genesis,
                sender: self.principal,
                nonce: known.nonce,
                expires: Expiry::Time(expires),
                action: Action::Anchor(Anchor {
                    kind: AnchorKind::Audit,
                    sequence: known.sequence,
                    root: MerkleRoot(head.hash.0),
                    count,
                }),
            };
            let signed = SignedTransaction::sign(&self.me, &self.name.deployment, transaction);
            let receipt = self.view.client().submit(signed.encode().into()).await?;
            if let Outcome::Rejected(code) = receipt.outcome {
                return Err(AnchorError::Rejected(code.to_string()));
            }
            self.counters.add("anchors", 1);
        }
        *lock(&self.anchoring.standing) =
            Standing::Contains(head.sequence.max(known.head.sequence));
        Ok(())
    }

    /// What a fresh header proves of this custodian.
    async fn known(&self) -> Result<Known, AnchorError> {
        if !self.view.is_fresh() {
            return Err(AnchorError::NotFresh);
        }
        let keys = [
            StateKey::Account(self.principal),
            StateKey::AnchorHead(self.principal, AnchorKind::Audit),
        ];
        let proved = self.view.read(&keys, Height(0)).await?;
        let value = |at: usize| proved.values.get(at).and_then(Option::as_deref);
        let account = value(0).map(Account::decode).transpose()?;
        let head = value(1).map(AnchorHead::decode).transpose()?;
        Ok(Known {
            nonce: account.map_or(0, |account| account.nonce),
            sequence: head
                .as_ref()
                .map_or(0, |head| head.sequence)
                .saturating_add(1),
            head: head.map_or(AuditHead::EMPTY, |head| AuditHead {
                sequence: head.total,
                hash: RecordHash(head.root.0),
            }),
        })
    }
}

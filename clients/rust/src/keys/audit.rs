//! A custodian's audit log: signed pages whose hash chain is checked.

use std::collections::BTreeMap;

use ::ledger::StateKey;
use ::ledger::records::{AnchorEntry, AnchorHead, AnchorKind};
use crypto::identity::Signature;
use custody::audit::verify_page;
use custody::{AuditEntry, AuditHead, AuditRecord, AuditRequest, AuditStart, Page};
use domain::{KeyId, Principal, RecordHash, ShareIndex, Slot, TimestampMs};
use sealed::signed::Signed;
use wire::rest::Base64Url;
use wire::rest::custody::{AuditAnswer, AuditBody};

use super::Keys;
use crate::error::{Error, Result};
use crate::random;

/// How long a request is good for, by the ledger's time.
const LIFETIME_MS: u64 = 45_000;

/// Which page of whose log.
#[derive(Clone, Copy, Debug)]
pub struct AuditQuery {
    /// The custodian's place.
    pub slot: Slot,
    /// The key that signs for it, from the ledger's committee.
    pub custodian: Principal,
    /// Entries about this key are shown; `None`: about every key of the asker's.
    pub key: Option<KeyId>,
    /// Entries after this number.
    pub after: u64,
    /// The entry with that number, from an earlier page: this page must continue it.
    pub before: Option<AuditHead>,
    /// Entries, at most 256.
    pub limit: u32,
}

/// A checked page.
#[derive(Clone, Debug)]
pub struct AuditPage {
    /// What the custodian signed in answer to this very request.
    pub page: Page,
    /// The records of its entries, in order, where the asker may read them.
    pub records: Vec<Option<AuditRecord>>,
}

impl AuditPage {
    /// The last entry of the page, for the next one to continue.
    #[must_use]
    pub fn last(&self) -> Option<AuditHead> {
        self.page.entries.last().map(|entry| AuditHead {
            sequence: entry.sequence,
            hash: entry.hash,
        })
    }
}

impl Keys {
    /// Custodians of every key of this principal's and of `key`: place and signing key, each once.
    ///
    /// # Errors
    /// What the ledger says.
    pub async fn custodians(&self, key: &KeyId) -> Result<BTreeMap<(ShareIndex, bool), Principal>> {
        let committee = self.committee_of(key).await?;
        let members = committee.members.iter();
        let places = members.map(|member| ((member.slot.index, member.slot.standby), member.key));
        Ok(places.collect())
    }

    /// A page of a custodian's log, its chain checked and that the custodian signed it as it came: ends, entries, and which are shown.
    ///
    /// # Errors
    /// [`Error::Custodians`] when the log does not hold together; what the custodian says when it refuses.
    pub async fn audit(&self, query: &AuditQuery) -> Result<AuditPage> {
        let deployment = *self.deployment();
        let issued = self.ledger.time().await?;
        let mut nonce = [0; 16];
        random::fill(&mut nonce)?;
        let request = AuditRequest {
            chain: self.ledger.chain(),
            principal: self.client().principal(),
            key: query.key,
            after: query.after,
            limit: query.limit,
            issued,
            expires: TimestampMs(issued.0.saturating_add(LIFETIME_MS)),
            nonce,
        };
        let hash = request.hash(&deployment);
        let identity = &self.client().inner.config.identity;
        let body = AuditBody {
            index: query.slot.index.get(),
            standby: query.slot.standby,
            request: Base64Url(Signed::sign(identity, &deployment, request).encode()),
        };
        let what = "reading an audit log";
        let answer: AuditAnswer = self.ledger.post(what, "/v1/custody/audit", &body).await?;
        let failed = |finding: String| Error::Custodians {
            what: format!("the audit log of custodian {}", query.slot.index),
            findings: vec![finding],
        };
        let record_hash = |bytes: &[u8]| {
            <[u8; 32]>::try_from(bytes)
                .map(RecordHash)
                .map_err(|_| failed("a hash that is none".to_owned()))
        };
        let mut entries = Vec::with_capacity(answer.entries.len().min(256));
        for entry in answer.entries {
            entries.push(AuditEntry {
                sequence: entry.sequence,
                hash: record_hash(&entry.hash.0)?,
                record: entry.record.map(|record| record.0),
            });
        }
        let page = Page {
            start: AuditStart {
                before: AuditHead {
                    sequence: answer.start,
                    hash: record_hash(&answer.start_hash.0)?,
                },
                time: TimestampMs(answer.start_time_ms),
            },
            head: AuditHead {
                sequence: answer.head,
                hash: record_hash(&answer.head_hash.0)?,
            },
            entries,
        };
        let signature = <[u8; 64]>::try_from(answer.signature.0.as_slice());
        let signature = Signature(signature.unwrap_or([0; 64]));
        page.verify(
            &query.custodian,
            &deployment,
            &self.ledger.chain(),
            &hash,
            &signature,
        )
        .map_err(|_| {
            failed(format!(
                "{} did not sign this page as it was passed on",
                query.custodian
            ))
        })?;
        // From the first entry that is kept the chain begins with what the custodian signed to be before it.
        let kept = page.start.before;
        let before = match query.before {
            Some(before) if before.sequence >= kept.sequence => Some(before),
            _ if query.after <= kept.sequence => Some(kept),
            _ => None,
        };
        let records = verify_page(&deployment, before, &page.entries, &page.head)
            .map_err(|error| failed(error.to_string()))?;
        Ok(AuditPage { page, records })
    }

    /// The newest entry of a custodian's log that the ledger holds, and since when; `None` when it holds none.
    ///
    /// # Errors
    /// What the ledger says.
    pub async fn anchored(
        &self,
        custodian: &Principal,
    ) -> Result<Option<(AuditHead, TimestampMs)>> {
        let key = StateKey::AnchorHead(*custodian, AnchorKind::Audit);
        let Some(head) = self.ledger.record::<AnchorHead>(&key).await? else {
            return Ok(None);
        };
        let key = StateKey::Anchor(*custodian, AnchorKind::Audit, head.sequence);
        let entry = self.ledger.record::<AnchorEntry>(&key).await?;
        let head = AuditHead {
            sequence: head.total,
            hash: RecordHash(head.root.0),
        };
        Ok(Some((
            head,
            entry.map_or(TimestampMs(0), |entry| entry.time),
        )))
    }
}

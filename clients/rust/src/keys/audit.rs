//! A custodian's audit log: pages whose hash chain and signed head are checked.

use std::collections::BTreeMap;

use crypto::identity::Signature;
use custody::audit::verify_page;
use custody::{AuditEntry, AuditHead, AuditRecord, AuditRequest};
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
    /// The entries with their records where the asker may read them.
    pub entries: Vec<(AuditEntry, Option<AuditRecord>)>,
    /// The end of the log, signed by the custodian in answer to this very request.
    pub head: AuditHead,
}

impl AuditPage {
    /// The last entry of the page, for the next one to continue.
    #[must_use]
    pub fn last(&self) -> Option<AuditHead> {
        self.entries.last().map(|(entry, _)| AuditHead {
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

    /// A page of a custodian's log, its chain and its head checked.
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
        let head = AuditHead {
            sequence: answer.head,
            hash: record_hash(&answer.head_hash.0)?,
        };
        let signature = <[u8; 64]>::try_from(answer.signature.0.as_slice());
        let signature = Signature(signature.unwrap_or([0; 64]));
        head.verify(
            &query.custodian,
            &deployment,
            &self.ledger.chain(),
            &hash,
            &signature,
        )
        .map_err(|_| failed(format!("its head is not signed by {}", query.custodian)))?;
        let mut entries = Vec::with_capacity(answer.entries.len().min(256));
        for entry in answer.entries {
            entries.push(AuditEntry {
                sequence: entry.sequence,
                hash: record_hash(&entry.hash.0)?,
                record: entry.record.map(|record| record.0),
            });
        }
        let records = verify_page(&deployment, query.before, &entries, &head)
            .map_err(|error| failed(error.to_string()))?;
        Ok(AuditPage {
            entries: entries.into_iter().zip(records).collect(),
            head,
        })
    }
}

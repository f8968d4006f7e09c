//! Buckets: which record of a bucket counts, and what other principals may do in it.

use domain::{BucketId, Height, Permissions, Principal, RecordHash, TimestampMs};

use crate::record::record;

record! {
    /// A registered bucket.
    BucketEntry = "bucket-entry", 512;
    /// Who signed its record.
    owner: Principal,
    /// Hash of the newest registered record: older ones no longer count.
    record: RecordHash,
    /// Its writer-set version.
    writer_set: u64,
    /// The block that registered it.
    height: Height,
}

record! {
    /// What a principal may do in a bucket, by its owner's word. Gateways check it; the cryptographic grain is the
    /// bucket key.
    BucketGrantEntry = "bucket-grant", 512;
    /// The bucket.
    bucket: BucketId,
    /// Who.
    grantee: Principal,
    /// What; nothing once revoked.
    permissions: Permissions,
    /// Until when, exclusive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expires: Option<TimestampMs>,
    /// The block of the last change.
    height: Height,
}

impl BucketGrantEntry {
    /// What is allowed at `now`.
    #[must_use]
    pub fn permissions_at(&self, now: TimestampMs) -> Permissions {
        if self.expires.is_some_and(|expires| now >= expires) {
            Permissions::NONE
        } else {
            self.permissions
        }
    }
}

//! Buckets: their records and who may use them.

use domain::{Permissions, Principal, RecordHash};

use super::Executor;
use crate::check::Brought;
use crate::records::{BucketEntry, BucketGrantEntry};
use crate::rejection::Rejection;
use crate::state::StateKey;
use crate::transaction::GrantBucket;

impl Executor<'_> {
    pub(super) fn register_bucket(&mut self, brought: &Brought) -> Result<(), Rejection> {
        let Brought::Bucket(bucket) = brought else {
            return Err(Rejection::Malformed("no bucket record".to_owned()));
        };
        let at = StateKey::Bucket(bucket.id);
        let got = bucket.writers.version();
        if let Some(known) = self.read::<BucketEntry>(&at)?
            && got <= known.writer_set
        {
            return Err(Rejection::OutOfSequence {
                expected: known.writer_set.checked_add(1).ok_or(Rejection::Overflow)?,
                got,
            });
        }
        let entry = BucketEntry {
            owner: bucket.owner,
            record: RecordHash(bucket.record().hash()),
            writer_set: got,
            height: self.height(),
        };
        self.write(&at, &entry);
        Ok(())
    }

    pub(super) fn grant_bucket(
        &mut self,
        sender: Principal,
        grant: &GrantBucket,
    ) -> Result<(), Rejection> {
        let bucket: BucketEntry = self.require(&StateKey::Bucket(grant.bucket), "bucket")?;
        if bucket.owner != sender {
            return Err(Rejection::NotAllowed("only the bucket's owner may"));
        }
        let at = StateKey::BucketGrant(grant.bucket, grant.grantee);
        if grant.permissions == Permissions::NONE && self.bytes(&at).is_none() {
            return Err(Rejection::NotFound("grant"));
        }
        let entry = BucketGrantEntry {
            bucket: grant.bucket,
            grantee: grant.grantee,
            permissions: grant.permissions,
            expires: grant.expires,
            height: self.height(),
        };
        self.write(&at, &entry);
        Ok(())
    }
}

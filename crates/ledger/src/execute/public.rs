//! What is published: datasets and anchored roots.

use domain::Principal;

use super::Executor;
use crate::records::dataset::dataset_id;
use crate::records::{AnchorEntry, AnchorHead, DatasetEntry};
use crate::rejection::Rejection;
use crate::state::StateKey;
use crate::transaction::{Anchor, RegisterDataset};

impl Executor<'_> {
    pub(super) fn register_dataset(
        &mut self,
        sender: Principal,
        dataset: &RegisterDataset,
    ) -> Result<(), Rejection> {
        if dataset_id(&self.chain.deployment, &sender, &dataset.random) != dataset.dataset {
            return Err(Rejection::NotAllowed(
                "the dataset's id is not the sender's",
            ));
        }
        let at = StateKey::Dataset(dataset.dataset);
        let known = self
            .read::<DatasetEntry>(&at)?
            .map_or(0, |known| known.version);
        let expected = known.checked_add(1).ok_or(Rejection::Overflow)?;
        if dataset.version != expected {
            return Err(Rejection::OutOfSequence {
                expected,
                got: dataset.version,
            });
        }
        let entry = DatasetEntry {
            owner: sender,
            version: dataset.version,
            root: dataset.root,
            merkle: dataset.merkle,
            size_bytes: dataset.size_bytes,
            height: self.height(),
            time: self.now(),
        };
        self.write(&at, &entry);
        Ok(())
    }

    pub(super) fn anchor(&mut self, sender: Principal, anchor: &Anchor) -> Result<(), Rejection> {
        let head_at = StateKey::AnchorHead(sender, anchor.kind);
        let (last, total) = self
            .read::<AnchorHead>(&head_at)?
            .map_or((0, 0), |head| (head.sequence, head.total));
        let expected = last.checked_add(1).ok_or(Rejection::Overflow)?;
        if anchor.sequence != expected {
            return Err(Rejection::OutOfSequence {
                expected,
                got: anchor.sequence,
            });
        }
        let head = AnchorHead {
            sequence: anchor.sequence,
            root: anchor.root,
            total: total.checked_add(anchor.count).ok_or(Rejection::Overflow)?,
        };
        let entry = AnchorEntry {
            sequence: anchor.sequence,
            root: anchor.root,
            count: anchor.count,
            height: self.height(),
            time: self.now(),
        };
        self.write(&head_at, &head);
        self.write(
            &StateKey::Anchor(sender, anchor.kind, anchor.sequence),
            &entry,
        );
        Ok(())
    }
}

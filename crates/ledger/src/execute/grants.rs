//! Grants of keys and their revocation.

use domain::{KeyId, Principal, RecordHash};
use sealed::signed::Signed;

use super::Executor;
use crate::check::Brought;
use crate::records::grant::{CHAIN_LINKS_MAX, verify_chain};
use crate::records::{GrantEntry, KeyGrant, Operations};
use crate::rejection::Rejection;
use crate::state::StateKey;
use crate::transaction::{RevokeKey, SignedRecord};

impl Executor<'_> {
    pub(super) fn grant_key(
        &mut self,
        brought: &Brought,
        record: &SignedRecord,
    ) -> Result<(), Rejection> {
        let Brought::Grant(grant) = brought else {
            return Err(Rejection::Malformed("no grant".to_owned()));
        };
        let status = self.status(&grant.key)?;
        if grant.grantee == status.owner {
            return Err(Rejection::Malformed("the owner needs no grant".to_owned()));
        }
        if grant.expires.is_some_and(|expires| self.now() >= expires) {
            return Err(Rejection::Expired);
        }
        let at = StateKey::KeyGrant(grant.key, grant.grantee);
        let last = match self.read::<GrantEntry>(&at)? {
            None => 0,
            Some(entry) => self.stored_grant(&entry)?.serial,
        };
        if grant.serial <= last {
            return Err(Rejection::OutOfSequence {
                expected: last.checked_add(1).ok_or(Rejection::Overflow)?,
                got: grant.serial,
            });
        }
        if grant.granted_by == status.owner {
            if grant.parent.is_some() {
                return Err(Rejection::Malformed(
                    "a grant of the owner has no parent".to_owned(),
                ));
            }
        } else {
            let wanted = grant.operations.and(Operations::GRANT);
            let chain = self.chain_of(&status.owner, &grant.key, grant.granted_by)?;
            self.verify_chain(&status.owner, &grant.key, grant.granted_by, wanted, &chain)?;
            let parent = match chain.first() {
                Some(entry) => RecordHash(self.stored_grant(entry)?.hash()),
                None => return Err(Rejection::NotAllowed("the granter holds no grant")),
            };
            if grant.parent != Some(parent) || chain.len() >= CHAIN_LINKS_MAX {
                return Err(Rejection::NotAllowed(
                    "the grant does not name the one that its granter holds, or the chain is too long",
                ));
            }
        }
        let entry = GrantEntry {
            grant: record.record.clone(),
            height: self.height(),
            revoked: None,
        };
        self.write(&at, &entry);
        Ok(())
    }

    pub(super) fn revoke_key(
        &mut self,
        sender: Principal,
        revoke: &RevokeKey,
    ) -> Result<(), Rejection> {
        let status = self.status(&revoke.key)?;
        let at = StateKey::KeyGrant(revoke.key, revoke.grantee);
        let mut entry: GrantEntry = self.require(&at, "grant")?;
        let grant = self.stored_grant(&entry)?;
        if ![status.owner, grant.granted_by, grant.grantee].contains(&sender) {
            return Err(Rejection::NotAllowed(
                "only the owner, the granter and the grantee may revoke",
            ));
        }
        if grant.serial != revoke.serial {
            return Err(Rejection::OutOfSequence {
                expected: grant.serial,
                got: revoke.serial,
            });
        }
        if entry.revoked.is_some() {
            return Err(Rejection::WrongState("the grant is revoked"));
        }
        entry.revoked = Some(self.height());
        self.write(&at, &entry);
        Ok(())
    }

    /// Whether `principal` is the owner or may do `wanted` by its grants.
    pub(super) fn holds(
        &self,
        owner: &Principal,
        key: &KeyId,
        principal: Principal,
        wanted: Operations,
    ) -> Result<(), Rejection> {
        let chain = self.chain_of(owner, key, principal)?;
        self.verify_chain(owner, key, principal, wanted, &chain)
    }

    fn verify_chain(
        &self,
        owner: &Principal,
        key: &KeyId,
        principal: Principal,
        wanted: Operations,
        chain: &[GrantEntry],
    ) -> Result<(), Rejection> {
        verify_chain(
            &self.chain.deployment,
            owner,
            key,
            &principal,
            wanted,
            self.now(),
            chain,
        )
        .map_err(|_| Rejection::NotAllowed("no chain of grants from the owner allows this"))
    }

    /// The entries from a principal up to the owner, at most [`CHAIN_LINKS_MAX`].
    fn chain_of(
        &self,
        owner: &Principal,
        key: &KeyId,
        principal: Principal,
    ) -> Result<Vec<GrantEntry>, Rejection> {
        let mut chain = Vec::with_capacity(CHAIN_LINKS_MAX);
        let mut holder = principal;
        while holder != *owner && chain.len() < CHAIN_LINKS_MAX {
            let Some(entry) = self.read::<GrantEntry>(&StateKey::KeyGrant(*key, holder))? else {
                break;
            };
            holder = self.stored_grant(&entry)?.granted_by;
            chain.push(entry);
        }
        Ok(chain)
    }

    fn stored_grant(&self, entry: &GrantEntry) -> Result<Signed<KeyGrant>, Rejection> {
        Signed::decode(&entry.grant).map_err(|error| Rejection::StateDamaged(error.to_string()))
    }
}

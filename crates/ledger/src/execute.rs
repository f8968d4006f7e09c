//! The state transition: transactions in, writes and receipts out.

mod buckets;
mod governance;
mod grants;
mod keys;
mod public;
mod versions;

use std::collections::BTreeMap;
use std::sync::Arc;

use domain::{HeaderHash, Height, MerkleRoot, Principal, TimestampMs, TransactionHash};

use crate::check::{Chain, Checked, check};
use crate::header::{Header, ValidatorSet};
use crate::merkle::{Tree, list};
use crate::receipt::{Outcome, Receipt};
use crate::record::Record;
use crate::records::Account;
use crate::rejection::Rejection;
use crate::state::{State, StateKey, ValidatorsEntry, Writes};
use crate::transaction::{Action, Expiry};

/// A block's place and time, as its header will say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockContext {
    /// One above the state's.
    pub height: Height,
    /// Not before the previous header's.
    pub time: TimestampMs,
}

/// What a block does to the state.
#[derive(Clone, Debug)]
pub struct Executed {
    /// The block's height.
    pub height: Height,
    /// Its time.
    pub time: TimestampMs,
    /// New values.
    pub writes: Writes,
    /// One for each transaction, in order.
    pub receipts: Vec<Receipt>,
    /// The state's tree afterwards.
    pub tree: Tree,
    /// Who signs the next header.
    pub next_validators: ValidatorSet,
}

impl Executed {
    /// The state's root afterwards.
    #[must_use]
    pub fn root(&self) -> MerkleRoot {
        MerkleRoot(self.tree.root())
    }

    /// The block's header.
    #[must_use]
    pub fn header<T: AsRef<[u8]>>(
        &self,
        chain: &Chain,
        previous: HeaderHash,
        transactions: &[T],
    ) -> Header {
        let receipts: Vec<Vec<u8>> = self.receipts.iter().map(Record::encode).collect();
        Header {
            genesis: chain.genesis,
            height: self.height,
            time: self.time,
            previous,
            state_root: self.root(),
            transactions_root: list::root(transactions),
            receipts_root: list::root(&receipts),
            next_validators: self.next_validators.hash(&chain.deployment),
        }
    }
}

/// Executes a whole block: every transaction gets a receipt, and one that is rejected changes nothing, not even its sender's nonce.
///
/// # Errors
/// [`Rejection::StateDamaged`] when the state itself does not parse.
pub fn execute<T: AsRef<[u8]>>(
    state: &State,
    chain: &Chain,
    context: BlockContext,
    transactions: &[T],
) -> Result<Executed, Rejection> {
    let mut executor = Executor::new(state, *chain, context);
    for bytes in transactions {
        let checked = match check(chain, bytes.as_ref()) {
            Ok(checked) => checked,
            Err(rejection) => {
                executor.refuse(unreadable_hash(bytes.as_ref()), &rejection);
                continue;
            }
        };
        match executor.apply(&checked) {
            Ok(()) => {}
            Err(damaged @ Rejection::StateDamaged(_)) => return Err(damaged),
            Err(rejection) => executor.refuse(checked.hash(), &rejection),
        }
    }
    executor.finish()
}

/// Names bytes that are no transaction, for their receipt.
fn unreadable_hash(bytes: &[u8]) -> TransactionHash {
    TransactionHash(*blake3::hash(bytes).as_bytes())
}

/// Executes one transaction after the other, so that whoever makes a block can leave out what is rejected.
#[derive(Debug)]
pub struct Executor<'a> {
    state: &'a State,
    chain: Chain,
    context: BlockContext,
    /// Writes of the transactions before.
    block: Writes,
    /// Writes of the one that is running.
    current: Writes,
    receipts: Vec<Receipt>,
}

impl<'a> Executor<'a> {
    /// Nothing executed yet.
    #[must_use]
    pub fn new(state: &'a State, chain: Chain, context: BlockContext) -> Self {
        Self {
            state,
            chain,
            context,
            block: BTreeMap::new(),
            current: BTreeMap::new(),
            receipts: Vec::new(),
        }
    }

    /// Applies a transaction. It gets a receipt; when it is rejected nothing has changed and it has none (see
    /// [`Executor::refuse`]).
    ///
    /// # Errors
    /// [`Rejection`].
    pub fn apply(&mut self, checked: &Checked) -> Result<(), Rejection> {
        self.current.clear();
        let transaction = checked.transaction();
        match transaction.expires {
            Expiry::Height(height) if self.context.height > height => {
                return Err(Rejection::Expired);
            }
            Expiry::Time(time) if self.context.time > time => return Err(Rejection::Expired),
            _ => {}
        }
        let sender = transaction.sender;
        let account_key = StateKey::Account(sender);
        let account: Option<Account> = self.read(&account_key)?;
        let next = account.map_or(0, |account| account.nonce);
        let got = transaction.nonce;
        if got < next {
            return Err(Rejection::NonceUsed { got, next });
        }
        if got > next {
            return Err(Rejection::NonceTooHigh { got, next });
        }
        self.act(sender, checked)?;
        let account = Account {
            nonce: next.checked_add(1).ok_or(Rejection::Overflow)?,
            last: checked.hash(),
            last_height: self.context.height,
            last_index: u32::try_from(self.receipts.len()).map_err(|_| Rejection::Overflow)?,
        };
        self.write(&account_key, &account);
        self.block.append(&mut self.current);
        self.push_receipt(checked.hash(), Outcome::Applied);
        Ok(())
    }

    /// Gives a rejected transaction its receipt.
    pub fn refuse(&mut self, transaction: TransactionHash, rejection: &Rejection) {
        self.push_receipt(transaction, Outcome::Rejected(rejection.code().to_owned()));
    }

    /// The receipt of a transaction that is its sender's last applied one, so that sending it again finds it.
    #[must_use]
    pub fn known(&self, checked: &Checked) -> Option<Receipt> {
        let key = StateKey::Account(checked.transaction().sender).encode();
        let bytes = match self.block.get(key.as_slice()) {
            Some(written) => written.as_ref(),
            None => self.state.get(&key),
        };
        let account = Account::decode(bytes?).ok()?;
        (account.last == checked.hash()).then_some(Receipt {
            transaction: account.last,
            height: account.last_height,
            index: account.last_index,
            outcome: Outcome::Applied,
        })
    }

    /// Transactions with a receipt so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.receipts.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.receipts.is_empty()
    }

    /// What the block does.
    ///
    /// # Errors
    /// [`Rejection::StateDamaged`] when the state has no validators.
    pub fn finish(self) -> Result<Executed, Rejection> {
        let validators: ValidatorsEntry = self.require(&StateKey::Validators, "validators")?;
        let tree = self
            .state
            .tree()
            .updated(self.block.iter().map(|(key, value)| (key, value.as_ref())));
        Ok(Executed {
            height: self.context.height,
            time: self.context.time,
            writes: self.block,
            receipts: self.receipts,
            tree,
            next_validators: validators.validators,
        })
    }

    fn push_receipt(&mut self, transaction: TransactionHash, outcome: Outcome) {
        self.receipts.push(Receipt {
            transaction,
            height: self.context.height,
            index: u32::try_from(self.receipts.len()).unwrap_or(u32::MAX),
            outcome,
        });
    }

    fn act(&mut self, sender: Principal, checked: &Checked) -> Result<(), Rejection> {
        match &checked.transaction().action {
            Action::CreateKey(create) => self.create_key(&checked.brought, create),
            Action::BeginVersion(begin) => self.begin_version(sender, begin),
            Action::AbandonVersion(abandon) => self.abandon_version(sender, abandon),
            Action::ActivateVersion(activate) => self.activate_version(activate),
            Action::Retire(retire) => self.retire(sender, retire),
            Action::DestroyVersion(version) => self.destroy_version(sender, version),
            Action::SetMinDecrypt(version) => self.set_min_decrypt(sender, version),
            Action::SetDeleteProtection(set) => self.set_delete_protection(sender, set),
            Action::GrantKey(grant) => self.grant_key(&checked.brought, grant),
            Action::RevokeKey(revoke) => self.revoke_key(sender, revoke),
            Action::RecordShareRoot(record) => self.record_share_root(record),
            Action::Govern(govern) => self.govern(govern),
            Action::RegisterBucket(_) => self.register_bucket(&checked.brought),
            Action::GrantBucket(grant) => self.grant_bucket(sender, grant),
            Action::RegisterDataset(dataset) => self.register_dataset(sender, dataset),
            Action::Anchor(anchor) => self.anchor(sender, anchor),
        }
    }

    fn now(&self) -> TimestampMs {
        self.context.time
    }

    /// When what allows more takes effect.
    fn after_time_lock(&self) -> Result<TimestampMs, Rejection> {
        self.now()
            .0
            .checked_add(self.state.genesis_record().time_lock_ms())
            .map(TimestampMs)
            .ok_or(Rejection::Overflow)
    }

    fn bytes(&self, key: &StateKey) -> Option<&Arc<[u8]>> {
        let key = key.encode();
        match self
            .current
            .get(key.as_slice())
            .or_else(|| self.block.get(key.as_slice()))
        {
            Some(written) => written.as_ref(),
            None => self.state.get(&key),
        }
    }

    fn read<T: Record>(&self, key: &StateKey) -> Result<Option<T>, Rejection> {
        self.bytes(key)
            .map(|bytes| T::decode(bytes))
            .transpose()
            .map_err(|error| Rejection::StateDamaged(error.to_string()))
    }

    fn require<T: Record>(&self, key: &StateKey, what: &'static str) -> Result<T, Rejection> {
        self.read(key)?.ok_or(Rejection::NotFound(what))
    }

    fn write<T: Record>(&mut self, key: &StateKey, value: &T) {
        self.write_bytes(key, value.encode());
    }

    fn write_bytes(&mut self, key: &StateKey, value: Vec<u8>) {
        self.current.insert(key.encode().into(), Some(value.into()));
    }
}

//! Versions that are being made: who takes part in making a key, which shares are kept, and when one is shown for the check
//! before a version becomes active.

use domain::{DeploymentId, Epoch, PlatformType, Principal, ShareIndex, TimestampMs};
use ledger::Record as _;
use ledger::records::{Committee, KeyStatus, Operations, Pending, VersionEntry, VersionStatement};
use sealed::signed::Signed;
use threshold::{CustodianRecord, DhPublic, DhShare, PqShare, Sharing};

use crate::judge::{ShareName, check_window};
use crate::proof::{LedgerName, Shown, VerifiedCreation};
use crate::reason::{Denial, Reason};
use crate::request::DealRequest;

/// A custodian's part in making a key version, as the ledger shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// The sharing that is to be made.
    pub sharing: Sharing,
    /// The signing key of every index, from 1.
    pub roster: Vec<Principal>,
    /// The own index.
    pub index: ShareIndex,
    /// What the ledger says is pending.
    pub pending: Pending,
}

impl Part {
    /// Checks that the version is pending with that fencing number, and finds the custodian `me` in its committee.
    ///
    /// # Errors
    /// [`Reason::KeyState`] when it is not pending so, [`Reason::NotAMember`], [`Reason::Suspended`], [`Reason::Proof`].
    pub fn find(
        deployment: &DeploymentId,
        me: &Principal,
        shown: &Shown<'_>,
        creation: &VerifiedCreation,
        name: &ShareName,
    ) -> Result<Self, Denial> {
        let status = shown.status(&name.key)?;
        let pending = expect_pending(&status, name)?;
        let committee = shown.committee(&pending.committee)?;
        if committee.threshold != creation.creation.threshold {
            return Err(Denial::new(
                Reason::Proof,
                "the committee has another threshold",
            ));
        }
        let index = place(&committee, me)?;
        Ok(Self {
            sharing: Sharing {
                deployment: *deployment,
                key: name.key,
                version: name.version,
                epoch: Epoch::FIRST,
                committee: pending.committee,
                threshold: committee.threshold,
            },
            roster: committee.primaries().map(|member| member.key).collect(),
            index,
            pending,
        })
    }
}

/// Checks that somebody who may rotate the key has asked for this very attempt: its owner, or the holder of a chain of grants that allows it.
/// Asking twice makes no other key, so requests are not remembered.
///
/// # Errors
/// [`Reason::Malformed`], [`Reason::Signature`], [`Reason::OtherLedger`], [`Reason::Expired`], [`Reason::TooEarly`],
/// [`Reason::NotGranted`], [`Reason::Proof`].
pub fn check_deal(
    ledger: &LedgerName,
    shown: &Shown<'_>,
    creation: &VerifiedCreation,
    name: &ShareName,
    request: &[u8],
    now: TimestampMs,
) -> Result<(), Denial> {
    let request = Signed::<DealRequest>::decode(request)
        .map_err(|error| Denial::new(Reason::Malformed, error))?;
    request
        .verify_signature(&ledger.deployment)
        .map_err(|_| Reason::Signature)?;
    if request.chain != ledger.genesis {
        return Err(Reason::OtherLedger.into());
    }
    if (request.key, request.version, request.fencing) != (name.key, name.version, name.fencing) {
        return Err(Denial::new(
            Reason::Malformed,
            "the request is for another attempt",
        ));
    }
    check_window(request.issued, request.expires, now, Some(TimestampMs(0)))?;
    shown.check_chain(creation, &request.principal, Operations::ROTATE, now)?;
    Ok(())
}

/// The index that `me` serves.
fn place(committee: &Committee, me: &Principal) -> Result<ShareIndex, Denial> {
    let member = committee
        .members
        .iter()
        .find(|member| member.key == *me)
        .ok_or(Reason::NotAMember)?;
    if member.slot.standby {
        return Err(Denial::new(
            Reason::NotAMember,
            "a standby takes no part in making a key",
        ));
    }
    Ok(member.slot.index)
}

/// That this very attempt is pending.
fn expect_pending(status: &KeyStatus, name: &ShareName) -> Result<Pending, Denial> {
    if status.suspended {
        return Err(Reason::Suspended.into());
    }
    status
        .pending
        .filter(|pending| (pending.version, pending.fencing) == (name.version, name.fencing))
        .ok_or_else(|| Denial::new(Reason::KeyState, "another attempt is pending, or none"))
}

/// Checks that a share may be shown to a worker that checks the version: it is still pending, with that fencing number, and
/// was never activated.
///
/// # Errors
/// [`Reason::KeyState`], [`Reason::Proof`].
pub fn check_show(shown: &Shown<'_>, name: &ShareName) -> Result<(), Denial> {
    let status = shown.status(&name.key)?;
    expect_pending(&status, name)?;
    match shown.version_bytes(&name.key, name.version)? {
        None => Ok(()),
        Some(_) => Err(Denial::new(
            Reason::KeyState,
            "the version is active already",
        )),
    }
}

/// What a proof says of an attempt at a version, to whoever keeps shares of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It may still become active.
    Open,
    /// It is the one that became active.
    Active,
    /// It never will: another attempt took its place or it was given up. Its shares are of no use.
    Lost,
}

/// Reads the fate of an attempt from status and version entry, both proved at one height whose header has the time `now`. Absent things and things that do not parse
/// leave it open: erasing is for what is certain.
#[must_use]
pub fn fate(
    status: &KeyStatus,
    entry: Option<&VersionEntry>,
    name: &ShareName,
    now: TimestampMs,
) -> Fate {
    let activated = entry
        .and_then(|entry| VersionStatement::decode(&entry.statement).ok())
        .filter(|statement| (statement.key, statement.version) == (name.key, name.version));
    if let Some(statement) = activated {
        return if statement.fencing == name.fencing {
            Fate::Active
        } else {
            Fate::Lost
        };
    }
    // The ledger activates nothing from the deadline on, and `now` is the time of the very header that shows all this.
    let pending = status.pending.is_some_and(|pending| {
        (pending.version, pending.fencing) == (name.version, name.fencing) && now < pending.deadline
    });
    // Numbers only grow, so one that was not given out yet is not lost.
    if entry.is_none() && !pending && status.fencing >= name.fencing {
        Fate::Lost
    } else {
        Fate::Open
    }
}

/// What a custodian keeps of a key generation: its share of the threshold leg, and everybody's public keys.
#[derive(Debug)]
pub struct DhOutcome {
    /// The attempt of the ceremony that made it.
    pub attempt: u8,
    /// The own share.
    pub share: DhShare,
    /// The public keys.
    pub public: DhPublic,
}

/// Checks a dealt share against the statement and the own outcome of the key generation, and puts the record together that is to be
/// made durable before the statement is signed.
///
/// # Errors
/// [`Reason::Statement`].
pub fn hold(
    deployment: &DeploymentId,
    name: &ShareName,
    outcome: DhOutcome,
    platform: PlatformType,
    statement: &VersionStatement,
    commitments: &[u8],
    pq_share: PqShare,
) -> Result<CustodianRecord, Denial> {
    let unfit = |what: &str| Denial::new(Reason::Statement, what);
    let sharing = *outcome.share.sharing();
    if (statement.key, statement.version, statement.fencing)
        != (name.key, name.version, name.fencing)
    {
        return Err(unfit("another attempt or version"));
    }
    if statement.sharing(deployment, sharing.threshold) != sharing {
        return Err(unfit("another committee or epoch"));
    }
    if statement.dh != *outcome.public.group().as_bytes() {
        return Err(unfit("another public key of the threshold leg"));
    }
    crypto::kem::PublicKeys::from_bytes(&statement.pq, &statement.dh)
        .map_err(|error| Denial::new(Reason::Statement, error))?;
    let list = statement
        .commitment_list(deployment, sharing.threshold, commitments)
        .map_err(|error| Denial::new(Reason::Statement, error))?;
    let shares = list.entries().iter().map(|entry| entry.dh);
    if !shares.eq(outcome.public.shares().iter().copied()) {
        return Err(unfit("other public keys of shares"));
    }
    CustodianRecord::new(&list, false, platform, pq_share, outcome.share)
        .map_err(|error| Denial::new(Reason::Statement, error))
}

//! Who is to blame, from evidence alone: a function of an abort message, so that everyone who sees it agrees.

use domain::ShareIndex;

use super::message::{Kind, Setting, Signed};
use super::payload::{BadShare, Body, DealBody, Gap, Reason};
use super::round::{CommitBody, Pad};
use super::{Fault, Verdict};

/// What an abort message of `accuser` comes to.
pub(super) enum Judgement {
    /// Evidence, or an accusation that has none: everyone agrees.
    Proven(Verdict),
    /// A claim that nobody can check: each party compares it with what it saw itself.
    Claimed(Gap),
}

/// Judges an abort's payload.
pub(super) fn judge(setting: &Setting, accuser: ShareIndex, payload: &[u8]) -> Judgement {
    let proven = match Reason::read(setting, payload) {
        None => None,
        Some(Reason::Silent(gap)) => return Judgement::Claimed(gap),
        Some(Reason::Invalid(message)) => invalid(setting, &message),
        Some(Reason::Equivocated {
            kind,
            sender,
            heads,
        }) => {
            let [first, second] = *heads;
            let both = [first, second]
                .iter()
                .all(|head| setting.has_signed(kind, sender, head));
            (both && first.hash != second.hash).then(|| Verdict {
                culprits: vec![sender],
                fault: Fault::Equivocated(kind),
            })
        }
        Some(Reason::BadShare(evidence)) => bad_share(setting, accuser, &evidence),
    };
    Judgement::Proven(proven.unwrap_or(Verdict {
        culprits: vec![accuser],
        fault: Fault::FalseAccusation,
    }))
}

fn invalid(setting: &Setting, message: &[u8]) -> Option<Verdict> {
    let signed = Signed::decode(setting, message)?;
    let knows_nothing = |_: Kind, _: ShareIndex, _: &_| false;
    let body = Body::read(
        setting,
        signed.kind,
        signed.sender,
        &signed.payload,
        knows_nothing,
    );
    (signed.kind.is_round() && body.is_none()).then_some(Verdict {
        culprits: vec![signed.sender],
        fault: Fault::Invalid(signed.kind),
    })
}

/// A share does not fit. The accused's deal must be about the accuser's very commit: else an accuser that made two commits
/// could show a pad that the accused never used.
fn bad_share(setting: &Setting, accuser: ShareIndex, evidence: &BadShare) -> Option<Verdict> {
    let knows_nothing = |_: Kind, _: ShareIndex, _: &_| false;
    let read = |message: &[u8], kind: Kind| -> Option<(Signed, Body)> {
        let signed = Signed::decode(setting, message).filter(|signed| signed.kind == kind)?;
        let body = Body::read(setting, kind, signed.sender, &signed.payload, knows_nothing)?;
        Some((signed, body))
    };
    let (commit, Body::Commit(their_commit)) = read(&evidence.accused_commit, Kind::Commit)? else {
        return None;
    };
    let (deal, Body::Deal(deal_body)) = read(&evidence.accused_deal, Kind::Deal)? else {
        return None;
    };
    let (own, Body::Commit(own_commit)) = read(&evidence.own_commit, Kind::Commit)? else {
        return None;
    };
    let accused = deal.sender;
    if commit.sender != accused || own.sender != accuser || accused == accuser {
        return None;
    }
    if deal_body.echo.head(accuser)?.hash != own.head.hash {
        return None;
    }
    if deal_body.echo.head(accused)?.hash != commit.head.hash {
        // Signed one commit and echoed another as its own.
        return Some(Verdict {
            culprits: vec![accused],
            fault: Fault::Equivocated(Kind::Commit),
        });
    }
    is_bad(
        setting,
        (accused, accuser),
        (&their_commit, &own_commit),
        &deal_body,
        evidence,
    )
    .then_some(Verdict {
        culprits: vec![accused],
        fault: Fault::BadShare,
    })
}

fn is_bad(
    setting: &Setting,
    (accused, accuser): (ShareIndex, ShareIndex),
    (their_commit, own_commit): (&CommitBody, &CommitBody),
    deal: &DealBody,
    evidence: &BadShare,
) -> bool {
    let pad = Pad {
        from: accused,
        to: accuser,
        from_ephemeral: &their_commit.ephemeral,
        to_ephemeral: &own_commit.ephemeral,
    };
    let Some(hidden) = deal.hidden(accused, accuser) else {
        return false;
    };
    pad.is_shown(setting, &evidence.shared, &evidence.proof)
        && !their_commit.fits(accuser, &pad.open(setting, &evidence.shared, hidden))
}

//! Confirmations as a gateway would like them to be counted.

use ::ledger::records::Member;
use crypto::{Identity, Secret};
use domain::{GenesisHash, PlatformType, Slot, Threshold};
use wire::rest::custody::ConfirmedInfo;

use super::*;

const DEPLOYMENT: DeploymentId = DeploymentId([0xd0; 32]);
const WANTED: Height = Height(40);

fn person(number: u8) -> Identity {
    Identity::from_seed(Secret::take(&mut [number; 32]))
}

/// Three of five, held by persons from `first` on; the last of them has a standby.
fn committee(first: u8) -> Committee {
    let member = |index: u8, standby, who| Member {
        slot: Slot {
            index: ShareIndex::new(index).unwrap(),
            standby,
        },
        key: person(who).principal(),
        platform: PlatformType::Software,
    };
    let mut members: Vec<Member> = (1..=5)
        .map(|index| member(index, false, first + index - 1))
        .collect();
    members.push(member(5, true, first + 100));
    Committee {
        threshold: Threshold::new(3, 5).unwrap(),
        members,
        random: [1; 16],
    }
}

fn question() -> ConfirmQuestion {
    ConfirmQuestion {
        chain: GenesisHash([3; 32]),
        key: KeyId([4; 32]),
        nonce: [5; 32],
    }
}

/// What the person's custodian says to `question`, as a gateway passes it on.
fn said(question: &ConfirmQuestion, who: u8, height: u64) -> ConfirmedInfo {
    let signed = question.sign(&person(who), &DEPLOYMENT, Height(height));
    ConfirmedInfo {
        index: who,
        height,
        custodian: signed.custodian,
        signature: Base64Url(signed.signature.0.to_vec()),
    }
}

fn counted(committees: &[Committee], confirmed: Vec<ConfirmedInfo>) -> Counted {
    let answer = ConfirmAnswer {
        confirmed,
        refused: Vec::new(),
    };
    count(&question(), &DEPLOYMENT, committees, WANTED, answer)
}

/// Two good confirmations and a third that shall not count.
fn check(third: ConfirmedInfo) -> Counted {
    let asked = question();
    let counted = counted(
        &[committee(1)],
        vec![said(&asked, 1, 40), said(&asked, 2, 41), third],
    );
    assert!(!counted.enough, "{counted:?}");
    assert_eq!(
        (counted.needed, counted.confirmed.as_slice()),
        (3, &[1, 2][..])
    );
    counted
}

#[test]
fn three_of_five_members_are_enough() {
    let asked = question();
    let answers = (1..=3).map(|who| said(&asked, who, 40)).collect();
    let counted = counted(&[committee(1)], answers);
    assert!(counted.enough && counted.refused.is_empty());
    assert_eq!(counted.confirmed, [1, 2, 3]);
}

#[test]
fn what_was_not_signed_for_this_question_does_not_count() {
    let asked = question();
    let mut replayed = asked;
    replayed.nonce[0] ^= 1;
    let mut other_key = asked;
    other_key.key.0[0] ^= 1;
    let mut other_ledger = asked;
    other_ledger.chain.0[0] ^= 1;
    for question in [replayed, other_key, other_ledger] {
        let counted = check(said(&question, 3, 40));
        assert_eq!(counted.refused[0].code, Reason::Signature.code());
    }
    // A height that it has not said, a custodian that has said nothing, a signature that is none.
    let mut higher = said(&asked, 3, 39);
    higher.height = 40;
    let mut forged = said(&asked, 9, 40);
    forged.custodian = person(3).principal();
    let mut none = said(&asked, 3, 40);
    none.signature = Base64Url(vec![0; 10]);
    for answer in [higher, forged, none] {
        assert_eq!(check(answer).refused.len(), 1);
    }
    let other = DeploymentId([0xd1; 32]);
    let mut elsewhere = said(&asked, 3, 40);
    let signed = asked.sign(&person(3), &other, WANTED);
    elsewhere.signature = Base64Url(signed.signature.0.to_vec());
    assert_eq!(check(elsewhere).refused.len(), 1);
}

#[test]
fn who_holds_no_share_lags_behind_or_speaks_twice_does_not_count() {
    let asked = question();
    // Nobody's custodian, a standby, one that has not come so far, and one that was counted.
    for answer in [
        said(&asked, 77, 40),
        said(&asked, 101, 40),
        said(&asked, 3, 39),
        said(&asked, 2, 50),
    ] {
        check(answer);
    }
}

#[test]
fn every_committee_that_holds_a_version_must_confirm() {
    let asked = question();
    let two = [committee(1), committee(11)];
    let mut answers: Vec<_> = (1..=5).map(|who| said(&asked, who, 40)).collect();
    answers.extend([11, 12].map(|who| said(&asked, who, 40)));
    let lacking = counted(&two, answers.clone());
    assert!(!lacking.enough);
    assert_eq!(lacking.confirmed, [1, 2], "of the second one");
    answers.push(said(&asked, 15, 40));
    assert!(counted(&two, answers).enough);
    assert!(
        counted(&[], Vec::new()).enough,
        "no version, nothing to open"
    );
}

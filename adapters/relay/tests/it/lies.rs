//! A relay that lies: the view goes stale, or knows less; never more.

use std::time::Duration;

use attestation::Role;
use domain::PlatformType;
use ledger::HeaderError;
use ledger::transaction::{Change, MeasurementOf};
use tokio::io::AsyncWriteExt as _;
use tokio::net::UnixListener;

use crate::support::{Lie, Rig, eventually};
use crate::world::measurement;

/// Whatever the lie, a fresh view goes stale within its time and nothing of the new state becomes known.
#[tokio::test(flavor = "multi_thread")]
async fn every_lie_about_headers_and_values_ends_in_staleness() {
    for lie in [
        Lie::OldHeaders,
        Lie::ForgedFreshness,
        Lie::ReplayedNonces,
        Lie::ForgedCertificates,
        Lie::ChangedValues,
        Lie::Silence,
        Lie::NoReads,
    ] {
        let rig = Rig::new();
        let view = rig.view().await;
        view.until_fresh().await;
        let (floor, policy) = (view.floor(), view.policy().borrow().clone());
        rig.ledger.lie(lie);
        rig.ledger.block();
        rig.ledger.block();
        eventually(&format!("stale under {lie:?}"), || !view.is_fresh()).await;
        // A question that was answered before the lie may have moved the floor once; none of the new blocks has.
        assert!(view.floor() <= floor, "{lie:?}");
        assert_eq!(*view.policy().borrow(), policy, "{lie:?}");
        // The truth again.
        rig.ledger.lie(Lie::None);
        eventually(&format!("fresh after {lie:?}"), || view.is_fresh()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lies_from_the_beginning_never_make_a_view_fresh() {
    for lie in [
        Lie::ForgedFreshness,
        Lie::ForgedCertificates,
        Lie::ChangedValues,
        Lie::Silence,
    ] {
        let rig = Rig::new();
        // Changed values can only be told from good ones where there are some: the measurement is one.
        rig.ledger.lie(lie);
        let view = rig.view().await;
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert!(!view.is_fresh(), "{lie:?}");
        assert!(view.started().is_none(), "{lie:?}");
        assert!(view.policy().borrow().allowed.is_empty(), "{lie:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_header_that_no_quorum_signed_is_not_admitted() {
    let rig = Rig::new();
    let view = rig.view().await;
    view.until_fresh().await;
    let mut forged = rig.ledger.block();
    forged.header.time.0 += 1_000_000;
    assert!(matches!(
        view.admit(&forged.header, &forged.certificate),
        Err(HeaderError::Signature(_))
    ));
}

/// An omitted measurement only denies; one that this process has seen cannot be hidden when it is denied.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_listing_omits_denies_and_hides_no_denial() {
    let rig = Rig::new();
    rig.ledger.lie(Lie::OmittedMeasurements);
    let view = rig.view().await;
    view.until_fresh().await;
    let policy = view.policy();
    assert!(policy.borrow().allowed.is_empty());
    rig.ledger.lie(Lie::None);
    eventually("listed", || {
        policy.borrow().allowed.contains_key(&Role::Worker)
    })
    .await;
    // Omitted again: it is known by now, and stays allowed as long as the ledger proves it.
    rig.ledger.lie(Lie::OmittedMeasurements);
    view.next_tick().await;
    view.next_tick().await;
    assert!(policy.borrow().allowed.contains_key(&Role::Worker));
    rig.ledger.with_world(|world| {
        let worker = MeasurementOf {
            role: ledger::records::Role::Worker,
            platform: PlatformType::Software,
            measurement: measurement(),
        };
        world.govern(Change::DenyMeasurement(worker)).unwrap();
    });
    eventually("denied although omitted", || {
        policy.borrow().allowed.is_empty()
    })
    .await;
}

/// Made-up measurements are shown to be absent, and take the place of none for long.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_listing_makes_up_is_not_allowed() {
    let rig = Rig::new();
    rig.ledger.lie(Lie::MadeUpMeasurements);
    let view = rig.view().await;
    view.until_fresh().await;
    let policy = view.policy();
    assert!(policy.borrow().allowed.is_empty() && policy.borrow().revoked.is_empty());
    rig.ledger.lie(Lie::None);
    eventually("the real one", || {
        policy.borrow().allowed.contains_key(&Role::Worker)
    })
    .await;
}

/// A socket that somebody else answers on, with garbage.
#[tokio::test(flavor = "multi_thread")]
async fn garbage_frames_give_errors() {
    for garbage in [
        &[0xff_u8, 0xff, 0xff, 0xff, 0][..],
        &[0, 0, 0, 3, 0xff, 0xff, 0xff],
        &[0, 0, 0, 0],
        // A reply to a question that nobody asked.
        &[0, 0, 0, 3, 8, 99, 0x12],
    ] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("relay.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let task = tokio::spawn(async move {
            let mut kept = Vec::new();
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let _ = stream.write_all(garbage).await;
                kept.push(stream);
            }
        });
        let client = relay::RelayClient::new(&path);
        let asked = tokio::time::timeout(Duration::from_secs(20), client.finality(None)).await;
        assert!(asked.unwrap().is_err(), "{garbage:?}");
        task.abort();
    }
}

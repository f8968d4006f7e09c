//! The view over a relay that tells the truth: floor, time, confirmation, policy.

use std::time::Duration;

use attestation::Role;
use domain::{Height, PlatformType, TimestampMs};
use ledger::records::{Measurement, Minimum};
use ledger::transaction::{Change, MeasurementOf, SetMinimum};
use ledger::{HeaderError, StateKey};

use crate::support::{Rig, eventually};
use crate::world::{World, measurement};

fn of(byte: u8) -> attestation::Measurement {
    attestation::Measurement([byte; 32])
}

#[tokio::test(flavor = "multi_thread")]
async fn the_floor_is_the_tick_before_the_last_and_a_confirmed_height_at_once() {
    let rig = Rig::new();
    let early = rig.ledger.block();
    let at_start = rig.ledger.block();
    let view = rig.view().await;
    view.until_fresh().await;
    assert!(view.is_fresh());
    assert_eq!(view.started(), Some(at_start.header.time));
    assert_eq!(view.floor(), at_start.header.height);
    assert!(matches!(
        view.admit(&early.header, &early.certificate),
        Err(HeaderError::Stale { .. })
    ));
    // Proofs fetched a moment ago still count, until the tick after the next.
    let next = rig.ledger.block();
    view.admit(&at_start.header, &at_start.certificate).unwrap();
    view.admit(&next.header, &next.certificate).unwrap();
    assert_eq!(view.newest(), Some(next.header.clone()));
    assert_eq!(view.time(), next.header.time);
    eventually("the floor follows", || view.floor() == next.header.height).await;
    assert!(matches!(
        view.admit(&at_start.header, &at_start.certificate),
        Err(HeaderError::Stale { .. })
    ));
    // A confirmation does not wait; one of an old height changes nothing; a forged one is refused.
    let revoked = rig.ledger.block();
    assert_eq!(
        view.confirm(&revoked.header, &revoked.certificate),
        Ok(revoked.header.height)
    );
    assert!(view.admit(&next.header, &next.certificate).is_err());
    assert_eq!(
        view.confirm(&early.header, &early.certificate),
        Ok(revoked.header.height)
    );
    let mut forged = rig.ledger.block();
    forged.header.state_root.0[0] ^= 1;
    assert!(matches!(
        view.confirm(&forged.header, &forged.certificate),
        Err(HeaderError::Signature(_))
    ));
    assert_eq!(view.floor(), revoked.header.height);
}

#[tokio::test(flavor = "multi_thread")]
async fn values_are_read_with_proofs() {
    let rig = Rig::new();
    let view = rig.view().await;
    let keys = [StateKey::Genesis, StateKey::Minimum(PlatformType::Sgx)];
    let proved = view.read(&keys, Height(0)).await.unwrap();
    assert!(proved.values[0].is_some() && proved.values[1].is_none());
    assert!(view.read(&keys, Height(1_000)).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_policy_follows_the_ledger() {
    let rig = Rig::new();
    let view = rig.view().await;
    let policy = view.policy();
    let first = policy.borrow().clone();
    assert!(first.allowed[&Role::Worker].contains(&of(0xaa)));
    assert!(!first.allowed.contains_key(&Role::Custodian));
    assert_eq!(first.platforms.len(), 1);

    let change = |byte: u8| MeasurementOf {
        role: ledger::records::Role::Custodian,
        platform: PlatformType::Software,
        measurement: Measurement::new(vec![byte; 32]).unwrap(),
    };
    rig.ledger.with_world(|world| {
        world.govern(Change::AllowMeasurement(change(1))).unwrap();
        let minimum = Minimum {
            tcb: 7,
            revocation_list: 9,
        };
        let platform = PlatformType::Software;
        let minimum = SetMinimum { platform, minimum };
        world.govern(Change::SetMinimum(minimum)).unwrap();
    });
    eventually("the new measurement", || {
        policy.borrow().allowed.contains_key(&Role::Custodian)
    })
    .await;
    let second = policy.borrow().clone();
    assert!(second.version > first.version);
    let minimum = second.platforms[&PlatformType::Software];
    assert_eq!((minimum.tcb, minimum.crl), (7, 9));

    rig.ledger.with_world(|world| {
        world.govern(Change::DenyMeasurement(change(1))).unwrap();
        let worker = MeasurementOf {
            role: ledger::records::Role::Worker,
            platform: PlatformType::Software,
            measurement: measurement(),
        };
        world.govern(Change::DenyMeasurement(worker)).unwrap();
    });
    eventually("nothing is allowed", || policy.borrow().allowed.is_empty()).await;
    let third = policy.borrow().clone();
    assert!(third.version > second.version);
    assert!(third.revoked.contains(&of(1)) && third.revoked.contains(&of(0xaa)));
    assert!(third.platforms.is_empty());

    // Nothing changes: the version stands.
    rig.ledger.block();
    view.next_tick().await;
    view.next_tick().await;
    assert_eq!(policy.borrow().version, third.version);
}

#[tokio::test(flavor = "multi_thread")]
async fn software_counts_in_development_only() {
    let mut world = World::empty(false);
    for (platform, byte) in [(PlatformType::Software, 1), (PlatformType::Tdx, 2)] {
        world
            .govern(Change::AllowMeasurement(MeasurementOf {
                role: ledger::records::Role::Custodian,
                platform,
                measurement: Measurement::new(vec![byte; 32]).unwrap(),
            }))
            .unwrap();
    }
    // Past the time lock.
    world.time = TimestampMs(world.time.0 + 48 * 3_600_000);
    world.block(&[]);
    let rig = Rig::with(world, false, relay::Limits::default());
    let view = rig.view().await;
    view.until_fresh().await;
    let policy = view.policy().borrow().clone();
    assert_eq!(policy.allowed[&Role::Custodian], [of(2)].into());
    assert!(!policy.platforms.contains_key(&PlatformType::Software));
    let mut genesis = crate::world::genesis(false);
    genesis.software_root = Some(genesis.validators.keys()[0]);
    assert!(
        relay::verifiers(&genesis)
            .get(PlatformType::Software)
            .is_none()
    );
    genesis.development = true;
    assert!(
        relay::verifiers(&genesis)
            .get(PlatformType::Software)
            .is_some()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_measurement_that_waits_for_its_time_is_not_allowed_yet() {
    let mut world = World::empty(false);
    world
        .govern(Change::AllowMeasurement(MeasurementOf {
            role: ledger::records::Role::Worker,
            platform: PlatformType::Tdx,
            measurement: Measurement::new(vec![2; 32]).unwrap(),
        }))
        .unwrap();
    let rig = Rig::with(world, false, relay::Limits::default());
    let view = rig.view().await;
    view.until_fresh().await;
    assert!(view.policy().borrow().allowed.is_empty());
    rig.ledger.with_world(|world| {
        world.time = TimestampMs(world.time.0 + 48 * 3_600_000);
        world.block(&[]);
    });
    let policy = view.policy();
    eventually("its time has come", || !policy.borrow().allowed.is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_view_starts_before_its_relay_and_survives_its_restart() {
    let mut rig = Rig::new();
    rig.kill().await;
    let view = rig.view().await;
    assert!(!view.is_fresh());
    assert_eq!(view.floor(), Height(u64::MAX));
    let last = rig.ledger.block();
    assert!(matches!(
        view.admit(&last.header, &last.certificate),
        Err(HeaderError::Stale { .. })
    ));
    rig.listen(relay::Limits::default());
    tokio::time::timeout(Duration::from_secs(5), view.until_fresh())
        .await
        .unwrap();
    rig.kill().await;
    eventually("it goes stale", || !view.is_fresh()).await;
    rig.listen(relay::Limits::default());
    eventually("it is fresh again", || view.is_fresh()).await;
}

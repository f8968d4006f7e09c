//! The record: one encoding, every bound, every bit counts.

use attestation::evidence::{
    COLLATERAL_BYTES_MAX, EVIDENCE_BYTES_MAX, PLATFORM_EVIDENCE_BYTES_MAX,
};
use attestation::{Evidence, RecordError, Role, appraise};
use domain::PlatformType;
use ipld_core::ipld::Ipld;
use proptest::prelude::*;

use crate::support::{NOW, evidence, expected, policy, verifiers};

#[test]
fn a_record_comes_back_as_it_was() {
    let evidence = evidence();
    assert_eq!(
        Evidence::decode(&evidence.encode().unwrap()).unwrap(),
        evidence
    );
}

/// Version 1's bytes, for ever: a reader in another language has these to hold on to.
#[test]
fn the_encoding_is_the_published_one() {
    let bytes = Evidence {
        platform: PlatformType::Tdx,
        role: Role::Worker,
        evidence: b"quote".to_vec(),
        collateral: b"chain".to_vec(),
        ..evidence()
    }
    .encode()
    .unwrap();
    let expected = [
        "a8",
        "617601",
        "64726f6c6502",
        "647479706568",
        "65766964656e6365",
        "6865766964656e63654571756f7465",
        "68706c6174666f726d02",
        "6a636f6c6c61746572616c45636861696e",
        "6a7265706f7274446174615840",
        &"03".repeat(64),
        "6b6d6561737572656d656e745820",
        &"02".repeat(32),
    ]
    .concat();
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, expected);
}

/// Every single flipped bit of a record is refused: by the decoder, by the verifier or by the appraisal.
#[test]
fn every_flipped_bit_is_refused() {
    let bytes = evidence().encode().unwrap();
    let judge = |bytes: &[u8]| {
        Evidence::decode(bytes).is_ok_and(|evidence| {
            appraise(&evidence, &expected(), &verifiers(), &policy(), NOW).is_ok()
        })
    };
    assert!(judge(&bytes));
    for bit in 0..bytes.len() * 8 {
        let mut altered = bytes.clone();
        altered[bit / 8] ^= 1 << (bit % 8);
        assert!(!judge(&altered), "bit {bit}");
    }
    for len in 0..bytes.len() {
        assert!(Evidence::decode(&bytes[..len]).is_err(), "{len} bytes");
    }
}

fn fields(bytes: &[u8]) -> std::collections::BTreeMap<String, Ipld> {
    match serde_ipld_dagcbor::from_slice(bytes).unwrap() {
        Ipld::Map(map) => map,
        other => panic!("{other:?}"),
    }
}

#[test]
fn each_field_is_needed_typed_and_the_only_one() {
    let map = fields(&evidence().encode().unwrap());
    let decode = |map| Evidence::decode(&serde_ipld_dagcbor::to_vec(&Ipld::Map(map)).unwrap());
    assert!(decode(map.clone()).is_ok());
    for name in map.keys() {
        let mut without = map.clone();
        without.remove(name);
        assert!(decode(without).is_err(), "without {name}");
        for wrong in [
            Ipld::Null,
            Ipld::Integer(9),
            Ipld::Bytes(vec![1; 31]),
            Ipld::Bytes(vec![1; 65]),
        ] {
            // Any bytes will do where the platform decides what they mean.
            if matches!(wrong, Ipld::Bytes(_)) && (name == "evidence" || name == "collateral") {
                continue;
            }
            let mut altered = map.clone();
            altered.insert(name.clone(), wrong.clone());
            assert!(decode(altered).is_err(), "{name} = {wrong:?}");
        }
    }
    let mut more = map.clone();
    more.insert("more".to_owned(), Ipld::Bool(true));
    assert!(decode(more).is_err());
    let mut later = map;
    later.insert("v".to_owned(), Ipld::Integer(2));
    let refused = decode(later).unwrap_err();
    assert!(
        matches!(refused, RecordError::UnsupportedVersion { version: 2, .. }),
        "{refused}"
    );
}

#[test]
fn every_bound_holds_at_the_bound() {
    let with = |evidence_len, collateral_len, role| Evidence {
        role,
        evidence: vec![0; evidence_len],
        collateral: vec![0; collateral_len],
        ..evidence()
    };
    let (e, c) = (PLATFORM_EVIDENCE_BYTES_MAX, COLLATERAL_BYTES_MAX);
    let largest = with(e, c, Role::Worker).encode().unwrap();
    assert!(largest.len() <= EVIDENCE_BYTES_MAX);
    assert!(Evidence::decode(&largest).is_ok());
    for refused in [
        with(e + 1, 0, Role::Worker),
        with(0, 0, Role::Worker),
        with(1, c + 1, Role::Worker),
        with(1, 0, Role::Client),
    ] {
        assert!(matches!(refused.encode(), Err(RecordError::Invalid { .. })));
    }
    let too_long = vec![0; EVIDENCE_BYTES_MAX + 1];
    assert!(matches!(
        Evidence::decode(&too_long),
        Err(RecordError::TooLong { .. })
    ));
}

proptest! {
    #[test]
    fn what_decodes_encodes_to_the_same_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        if let Ok(evidence) = Evidence::decode(&bytes) {
            prop_assert_eq!(evidence.encode().unwrap(), bytes);
        }
    }
}

//! A custodian's stored record, and the list of commitments that pins it.

use domain::{PlatformType, ShareIndex};
use threshold::commitments::CommitmentListError;
use threshold::record::{RECORD_BYTES, RecordError};
use threshold::{CommitmentList, CustodianRecord, DhShare, PqShare};

use crate::support::{Key, index};

fn shares(key: &Key, number: u8) -> (PqShare, DhShare) {
    let at = usize::from(number) - 1;
    let pq = &key.deal.shares[at];
    let dh = &key.shares[at];
    let secret = crypto::ristretto::SecretScalar::from_secret(&dh.danger_secret().to_secret());
    (
        PqShare::from_secret(pq.index(), &pq.to_secret()).unwrap(),
        DhShare::new(*dh.sharing(), dh.index(), secret.unwrap()).unwrap(),
    )
}

fn record(key: &Key, number: u8, standby: bool) -> CustodianRecord {
    let (pq, dh) = shares(key, number);
    CustodianRecord::new(&key.list, standby, PlatformType::SevSnp, pq, dh).unwrap()
}

#[test]
fn a_record_has_at_most_400_bytes_and_round_trips() {
    let key = Key::new(1, 3, 5);
    for (number, standby) in [(1, false), (5, true)] {
        let record = record(&key, number, standby);
        let bytes = record.encode();
        assert_eq!(bytes.len(), RECORD_BYTES);
        assert!(bytes.len() <= 400, "the figure that the platform promises");
        let read = CustodianRecord::decode(key.sharing.deployment, &bytes).unwrap();
        assert_eq!(read.sharing(), &key.sharing);
        assert_eq!(
            (read.slot().index, read.slot().standby),
            (index(number), standby)
        );
        assert_eq!(read.platform(), PlatformType::SevSnp);
        assert!(read.pq().opens(&key.list));
        assert_eq!(read.dh().public(), key.public.share(index(number)).unwrap());
        let entry = key.list.entry(index(number)).unwrap();
        assert_eq!(read.share_hash(), &entry.hash(&key.sharing, index(number)));
        assert_eq!(read.encode(), bytes);
    }
}

/// A store that returns anything else than it was given is found out, whichever byte it is.
#[test]
fn every_altered_byte_is_noticed() {
    let key = Key::new(2, 2, 3);
    let bytes = record(&key, 2, false).encode();
    for at in 0..bytes.len() {
        let mut bad = bytes.to_vec();
        bad[at] ^= 0x01;
        // Slot and platform say where the copy lies, not what it is.
        let is_place = at == 80 || at == 81;
        let read = CustodianRecord::decode(key.sharing.deployment, &bad);
        assert_eq!(read.is_ok(), is_place, "byte {at}");
    }
    for len in 0..bytes.len() {
        let read = CustodianRecord::decode(key.sharing.deployment, &bytes[..len]);
        assert_eq!(read.unwrap_err(), RecordError::Malformed);
    }
    let mut longer = bytes.to_vec();
    longer.push(0);
    let read = CustodianRecord::decode(key.sharing.deployment, &longer);
    assert_eq!(read.unwrap_err(), RecordError::Malformed);
    let mut later = bytes.to_vec();
    later[0] = 2;
    let read = CustodianRecord::decode(key.sharing.deployment, &later);
    assert_eq!(read.unwrap_err(), RecordError::UnsupportedVersion(2));
}

#[test]
fn a_record_of_another_deployment_is_refused() {
    let key = Key::new(3, 2, 3);
    let bytes = record(&key, 1, false).encode();
    let mut other = key.sharing.deployment;
    other.0[5] ^= 1;
    let read = CustodianRecord::decode(other, &bytes);
    assert_eq!(read.unwrap_err(), RecordError::Inconsistent);
}

#[test]
fn shares_that_the_list_does_not_commit_to_make_no_record() {
    let key = Key::new(4, 2, 3);
    let stranger = Key::new(5, 2, 3);
    let ((pq, dh), (other_pq, other_dh)) = (shares(&key, 1), shares(&stranger, 1));
    let platform = PlatformType::Software;
    for (pq, dh) in [
        (pq, other_dh),
        (other_pq, dh),
        (shares(&key, 2).0, shares(&key, 1).1),
    ] {
        let refused = CustodianRecord::new(&key.list, false, platform, pq, dh);
        assert_eq!(refused.unwrap_err(), RecordError::Inconsistent);
    }
}

#[test]
fn debug_shows_no_share() {
    let key = Key::new(6, 2, 3);
    let record = record(&key, 1, false);
    let shown = format!("{record:?}");
    let scalar = record.dh().danger_secret().to_secret();
    for secret in [&record.pq().value().expose()[..], &scalar.expose()[..]] {
        assert!(!shown.contains(&format!("{secret:?}")));
        assert!(!shown.contains(&data_encoding::HEXLOWER.encode(secret)));
    }
}

#[test]
fn a_list_is_read_only_under_its_root() {
    let key = Key::new(7, 3, 5);
    let (root, bytes) = (key.list.root(), key.list.encode());
    assert_eq!(bytes.len(), 5 * 64);
    let read = CommitmentList::decode(key.sharing, &root, &bytes).unwrap();
    assert_eq!(read, key.list);
    assert_eq!(read.dh_public(*key.public.group()).unwrap(), key.public);
    for at in 0..bytes.len() {
        let mut bad = bytes.clone();
        bad[at] ^= 0x80;
        let refused = CommitmentList::decode(key.sharing, &root, &bad);
        assert_eq!(refused.unwrap_err(), CommitmentListError::Root, "byte {at}");
    }
    let mut other = key.sharing;
    other.epoch = other.epoch.next().unwrap();
    let refused = CommitmentList::decode(other, &root, &bytes);
    assert_eq!(refused.unwrap_err(), CommitmentListError::Root);
    for len in [0, 64, 319, 321, 384] {
        let bytes = vec![0; len];
        let refused = CommitmentList::decode(key.sharing, &root, &bytes);
        assert!(
            matches!(refused, Err(CommitmentListError::Length { .. })),
            "{len}"
        );
    }
    assert!(key.list.entry(ShareIndex::FIRST).is_some() && key.list.entry(index(6)).is_none());
}

//! Requests: one encoding, signed, bounded.

use crypto::kem::KemHash;
use crypto::{Identity, Secret};
use custody::request::{CIPHERTEXTS_MAX, CountError, request_hash};
use custody::{AuditRequest, DecryptRequest, KemHashes, Operation};
use domain::{
    DeploymentId, GenesisHash, Height, KeyId, KeyVersion, Principal, RecordHash, TimestampMs,
};
use ledger::Record as _;
use sealed::signed::Signed;

pub const DEPLOYMENT: DeploymentId = DeploymentId([0xdd; 32]);

pub fn person(byte: u8) -> Identity {
    Identity::from_seed(Secret::take(&mut [byte; 32]))
}

pub fn request(principal: Principal, count: usize) -> DecryptRequest {
    DecryptRequest {
        chain: GenesisHash([1; 32]),
        principal,
        operation: Operation::Decrypt,
        key: KeyId([2; 32]),
        version: KeyVersion::FIRST,
        kem_hashes: KemHashes::new(vec![KemHash([3; 32]); count]).unwrap(),
        recipient_dh: [4; 32],
        recipient_pq: [5; 1_216],
        min_height: Height(6),
        issued: TimestampMs(1_000),
        expires: TimestampMs(2_000),
        nonce: [7; 16],
        job: None,
    }
}

#[test]
fn requests_read_back_and_fit_their_bound() {
    let who = person(1);
    for count in [1, CIPHERTEXTS_MAX] {
        for job in [None, Some(RecordHash([8; 32]))] {
            let mut content = request(who.principal(), count);
            content.job = job;
            let signed = Signed::sign(&who, &DEPLOYMENT, content.clone());
            let read = Signed::<DecryptRequest>::decode(&signed.encode()).unwrap();
            assert_eq!(*read, content);
            assert_eq!(read.verify_signature(&DEPLOYMENT), Ok(()));
            assert_eq!(request_hash(&DEPLOYMENT, &read), content.hash(&DEPLOYMENT));
        }
    }
    let ask = AuditRequest {
        chain: GenesisHash([1; 32]),
        principal: who.principal(),
        key: Some(KeyId([2; 32])),
        after: 3,
        limit: 4,
        issued: TimestampMs(5),
        expires: TimestampMs(6),
        nonce: [7; 16],
    };
    assert_eq!(AuditRequest::decode(&ask.encode()), Ok(ask));
}

#[test]
fn one_to_sixty_four_ciphertexts() {
    for count in [0, CIPHERTEXTS_MAX + 1] {
        let hashes = vec![KemHash([3; 32]); count];
        assert_eq!(KemHashes::new(hashes), Err(CountError(count)));
    }
    // What no constructor makes is not read either: the last hash taken out of an encoded list of one.
    let bytes = request(person(1).principal(), 1).encode();
    let at = bytes.windows(9).position(|window| window == b"kemHashes");
    assert_eq!(at, None, "fields are named as in the program");
    let at = bytes
        .windows(10)
        .position(|window| window == b"kem_hashes")
        .unwrap()
        + 10;
    assert_eq!(
        bytes[at..at + 3],
        [0x81, 0x58, 0x20],
        "a list of one, 32 bytes"
    );
    let mut none = bytes.clone();
    none[at] = 0x80;
    none.drain(at + 1..at + 35);
    assert!(DecryptRequest::decode(&none).is_err());
}

#[test]
fn every_byte_of_a_request_is_signed() {
    let who = person(1);
    let good = Signed::sign(&who, &DEPLOYMENT, request(who.principal(), 2)).encode();
    let elsewhere = Signed::<DecryptRequest>::decode(&good).unwrap();
    assert!(elsewhere.verify_signature(&DeploymentId([0; 32])).is_err());
    for at in 0..good.len() {
        let mut altered = good.clone();
        altered[at] ^= 1;
        let accepted = Signed::<DecryptRequest>::decode(&altered)
            .is_ok_and(|read| read.verify_signature(&DEPLOYMENT).is_ok());
        assert!(!accepted, "byte {at}");
    }
}

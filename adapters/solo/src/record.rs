//! Blocks as they lie in the log.
//!
//! A log file is a sequence of records: `SRLB` || u32 length of the payload || 16 bytes of sum || payload; then zeros, where space was
//! reserved. The sum is keyed BLAKE3 (key: the ledger's genesis hash) of u64 offset of the record in its file || u64 first height of the
//! file || payload, so that nothing from elsewhere passes for a record here. Integers are big-endian.

use bytes::Bytes;
use domain::{GenesisHash, Height};
use ledger::header::{Certificate, Header};
use ledger::port::{Block, FinalHeader};
use ledger::{Receipt, Record as _};
use records::RecordError;
use records::codec::{self, TypeName, Typed, V1};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

pub(crate) const MAGIC: [u8; 4] = *b"SRLB";
pub(crate) const HEAD_BYTES: usize = 24;
/// Bytes of a payload, at most: more than any genesis allows for a block.
pub(crate) const PAYLOAD_BYTES_MAX: usize = 96 << 20;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    #[serde(rename = "type")]
    kind: TypeName<Wire>,
    v: V1,
    #[serde(with = "serde_bytes")]
    header: Vec<u8>,
    #[serde(with = "serde_bytes")]
    certificate: Vec<u8>,
    transactions: Vec<ByteBuf>,
    receipts: Vec<ByteBuf>,
}

impl Typed for Wire {
    const TYPE: &'static str = "solo-block";
    const BYTES_MAX: usize = PAYLOAD_BYTES_MAX;
}

pub(crate) fn encode_block(block: &Block) -> Vec<u8> {
    let bytes = |bytes: Vec<u8>| ByteBuf::from(bytes);
    codec::encode(&Wire {
        kind: TypeName::new(),
        v: V1,
        header: block.last.header.encode(),
        certificate: block.last.certificate.encode(),
        transactions: block
            .transactions
            .iter()
            .map(|transaction| bytes(transaction.to_vec()))
            .collect(),
        receipts: block
            .receipts
            .iter()
            .map(|receipt| bytes(receipt.encode()))
            .collect(),
    })
}

pub(crate) fn decode_block(payload: &[u8]) -> Result<Block, RecordError> {
    let wire: Wire = codec::decode(payload)?;
    Ok(Block {
        last: FinalHeader {
            header: Header::decode(&wire.header)?,
            certificate: Certificate::decode(&wire.certificate)?,
        },
        transactions: wire
            .transactions
            .into_iter()
            .map(|bytes| Bytes::from(bytes.into_vec()))
            .collect(),
        receipts: wire
            .receipts
            .iter()
            .map(|bytes| Receipt::decode(bytes))
            .collect::<Result<_, _>>()?,
    })
}

/// Where a record stands: part of its sum.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    pub(crate) genesis: GenesisHash,
    pub(crate) first: Height,
    pub(crate) offset: u64,
}

fn sum(place: Place, payload: &[u8]) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new_keyed(place.genesis.as_bytes());
    hasher.update(&place.offset.to_be_bytes());
    hasher.update(&place.first.0.to_be_bytes());
    hasher.update(payload);
    let mut out = [0; 16];
    hasher.finalize_xof().fill(&mut out);
    out
}

/// A record's bytes.
pub(crate) fn frame(place: Place, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEAD_BYTES + payload.len());
    out.extend(MAGIC);
    out.extend(
        u32::try_from(payload.len())
            .unwrap_or(u32::MAX)
            .to_be_bytes(),
    );
    out.extend(sum(place, payload));
    out.extend(payload);
    out
}

/// The payload of the record at the start of `bytes`, if a whole and unaltered one is there.
pub(crate) fn unframe(place: Place, bytes: &[u8]) -> Option<&[u8]> {
    let (head, rest) = bytes.split_at_checked(HEAD_BYTES)?;
    let (magic, head) = head.split_first_chunk::<4>()?;
    let (len, wanted) = head.split_first_chunk::<4>()?;
    let len = usize::try_from(u32::from_be_bytes(*len)).ok()?;
    if *magic != MAGIC || len > PAYLOAD_BYTES_MAX {
        return None;
    }
    let payload = rest.get(..len)?;
    (sum(place, payload) == wanted).then_some(payload)
}

/// Every decoder of what is on disk, without the sums, for fuzzing; whether it is a block.
#[doc(hidden)]
#[must_use]
pub fn decode_anything(bytes: &[u8]) -> bool {
    let block = decode_block(bytes);
    if let Ok(block) = &block {
        assert_eq!(encode_block(block), bytes, "one encoding only");
    }
    let place = Place {
        genesis: GenesisHash([0; 32]),
        first: Height(1),
        offset: 0,
    };
    let _ = unframe(place, bytes);
    crate::snapshot::decode_anything(bytes);
    block.is_ok()
}

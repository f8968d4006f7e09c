//! Wraps inside records: a list of `{"kind": <number>, "data": <bytes>}`.

use crypto::wrap::Wrap;
use domain::limits::WRAPS_MAX;
use serde::{Deserialize, Serialize};

use crate::codec::{RecordError, Typed, invalid};

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WireWrap {
    kind: u64,
    #[serde(with = "serde_bytes")]
    data: Vec<u8>,
}

pub(crate) fn to_wire(wraps: &[Wrap]) -> Vec<WireWrap> {
    wraps
        .iter()
        .map(|wrap| {
            let (kind, data) = wrap.to_parts();
            WireWrap { kind, data }
        })
        .collect()
}

pub(crate) fn from_wire<T: Typed>(wraps: &[WireWrap]) -> Result<Vec<Wrap>, RecordError> {
    if wraps.len() > WRAPS_MAX {
        return Err(invalid::<T>("at most 64 wraps"));
    }
    wraps
        .iter()
        .map(|wrap| {
            Wrap::from_parts(wrap.kind, &wrap.data)
                .map_err(|_| invalid::<T>("a wrap whose data is not of its kind's form"))
        })
        .collect()
}

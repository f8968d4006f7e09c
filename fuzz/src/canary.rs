//! A target with a defect on purpose: `fuzz/smoke.sh` fails unless the fuzzer finds it.
//!
//! Five bytes have to be right one after the other; blind guessing needs 2^40 tries, coverage guidance a few thousand.
//! So a build without working instrumentation, or a runner that ignores crashes, does not pass as "no crash found".

use crate::Target;

pub const CANARY: Target = Target {
    name: "canary",
    run,
    seeds: || vec![b"pfqmy".to_vec()],
};

/// Only with this variable is the defect there, so that replaying seeds in tests meets none.
const ARMED: &str = "STRONGROOM_FUZZ_CANARY";

fn run(input: &[u8]) -> bool {
    let [a, b, c, d, e, ..] = *input else {
        return false;
    };
    // black_box keeps the optimizer from making one comparison of five: each has to be an edge that coverage sees.
    let is = |byte: u8, wanted: u8| std::hint::black_box(byte) == wanted;
    if is(a, b'v') && is(b, b'a') && is(c, b'u') && is(d, b'l') && is(e, b't') {
        assert!(std::env::var_os(ARMED).is_none(), "the canary was found");
    }
    true
}

//! libFuzzer program of the target `share_commitments`; the target itself is in the library.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz::run("share_commitments", input));

//! libFuzzer program of the target `exported_key`; the target itself is in the library.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz::run("exported_key", input));

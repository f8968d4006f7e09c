//! libFuzzer program of the target `sealed_store`; the target itself is in the library.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz::run("sealed_store", input));

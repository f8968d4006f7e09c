//! libFuzzer program of the target `receiver_key`; the target itself is in the library.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz::run("receiver_key", input));

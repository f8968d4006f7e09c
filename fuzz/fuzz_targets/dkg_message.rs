//! libFuzzer program of the target `dkg_message`; the target itself is in the library.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz::run("dkg_message", input));

//! libFuzzer program of the target `relay_message`; the target itself is in the library.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz::run("relay_message", input));

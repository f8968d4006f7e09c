//! libFuzzer program of the target `http_signature`; the target itself is in the library.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz::run("http_signature", input));

//! libFuzzer program of the target `envelope_stream`; the target itself is in the library.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz::run("envelope_stream", input));

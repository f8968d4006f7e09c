//! libFuzzer program of the target `chunk_proof`; the target itself is in the library.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz::run("chunk_proof", input));

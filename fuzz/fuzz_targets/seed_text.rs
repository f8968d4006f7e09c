//! libFuzzer program of the target `seed_text`; the target itself is in the library.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz::run("seed_text", input));

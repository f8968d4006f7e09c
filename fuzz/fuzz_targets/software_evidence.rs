//! libFuzzer program of the target `software_evidence`; the target itself is in the library.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz::run("software_evidence", input));

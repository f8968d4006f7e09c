//! libFuzzer program of the target `custody_record`; the target itself is in the library.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz::run("custody_record", input));

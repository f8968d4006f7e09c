//! libFuzzer program of the target `audit_page`; the target itself is in the library.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz::run("audit_page", input));

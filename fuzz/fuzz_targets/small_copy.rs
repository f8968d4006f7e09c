//! libFuzzer program of the target `small_copy`; the target itself is in the library.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz::run("small_copy", input));

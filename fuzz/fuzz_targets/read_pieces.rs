//! libFuzzer program of the target `read_pieces`; the target itself is in the library.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz::run("read_pieces", input));

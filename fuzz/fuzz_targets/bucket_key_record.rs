//! libFuzzer program of the target `bucket_key_record`; the target itself is in the library.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz::run("bucket_key_record", input));

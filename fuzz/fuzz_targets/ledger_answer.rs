//! libFuzzer program of the target `ledger_answer`; the target itself is in the library.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz::run("ledger_answer", input));

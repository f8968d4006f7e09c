//! Fuzz targets for every decoder of bytes that a user, a peer or a disk may have made up.
//!
//! A target is a function of bytes that must neither panic nor grow without bound, and that says whether the bytes were
//! accepted. What it accepts it also checks (encoding again gives the same bytes, ranges lie inside, and so on). Each has
//! seeds made by the encoder, so that the fuzzer starts behind the first checks. The programs under `fuzz_targets/` hand
//! these functions to libFuzzer; `fuzz/smoke.sh` builds and runs them; the tests here replay seeds and earlier finds.
//!
//! This crate holds no decoder of its own.

mod attestation;
mod canary;
mod chain;
mod chunks;
mod custody;
mod envelopes;
mod fixed;
mod ids;
mod keys;
mod layout;
mod records;
mod relaying;
mod requests;
mod segments;
mod sharings;

/// A decoder under test.
#[derive(Clone, Copy)]
pub struct Target {
    /// Name of the program, of its corpus and of its folder under `regressions/`.
    pub name: &'static str,
    /// Feeds bytes to the decoder; true when it accepted them.
    pub run: fn(&[u8]) -> bool,
    /// Inputs that the decoder accepts.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// Every target, the canary included.
pub const TARGETS: &[Target] = &[
    canary::CANARY,
    ids::CID,
    ids::NAMES,
    keys::IDENTITY_FILE,
    keys::SEED_TEXT,
    keys::RECEIVER_KEY,
    keys::WRAP,
    keys::RECOVERY_RECORD,
    chunks::CHUNK_PROOF,
    chunks::CHUNK_OPEN,
    records::MANIFEST,
    records::MANIFEST_PAGE,
    records::BUCKET_RECORD,
    records::BUCKET_KEY_RECORD,
    records::ENTRY,
    records::VERSION_RECORD,
    records::SMALL_RECORD,
    envelopes::KEM_CIPHERTEXT,
    envelopes::ENVELOPE,
    envelopes::ENVELOPE_STREAM,
    envelopes::ARMOR,
    chain::EXPORTED_KEY,
    requests::HTTP_SIGNATURE,
    requests::TOKEN,
    requests::REST_BODY,
    segments::SHARD_SEGMENT,
    sharings::PARTIAL,
    sharings::CUSTODIAN_RECORD,
    sharings::SHARE_COMMITMENTS,
    sharings::DKG_MESSAGE,
    attestation::EVIDENCE,
    attestation::SOFTWARE_EVIDENCE,
    attestation::SEALED_STORE,
    layout::LAYOUT_RECORD,
    layout::SMALL_COPY,
    layout::READ_PIECES,
    layout::ERASURE,
    chain::LEDGER_TRANSACTION,
    chain::LEDGER_RECORD,
    chain::STATE_PROOF,
    chain::SOLO_BLOCK,
    custody::CUSTODY_RECORD,
    custody::CUSTODY_QUESTION,
    custody::CUSTODY_ANSWER,
    custody::AUDIT_PAGE,
    relaying::RELAY_MESSAGE,
    relaying::RELAY_FRAMES,
    relaying::LEDGER_ANSWER,
];

/// Runs the target called `name`; what its program calls for each input.
///
/// # Panics
/// When there is no such target, or when the decoder breaks a promise: that is what the fuzzer looks for.
pub fn run(name: &str, input: &[u8]) {
    let target = TARGETS.iter().find(|target| target.name == name);
    let target = target.unwrap_or_else(|| panic!("no fuzz target is called {name}"));
    (target.run)(input);
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn every_seed_is_accepted() {
        for target in TARGETS {
            let seeds = (target.seeds)();
            assert!(!seeds.is_empty(), "{}", target.name);
            for (number, seed) in seeds.iter().enumerate() {
                assert!((target.run)(seed), "{} refuses seed {number}", target.name);
            }
        }
    }

    #[test]
    fn truncated_and_altered_seeds_do_not_panic() {
        for target in TARGETS {
            for seed in (target.seeds)() {
                let step = (seed.len() / 200).max(1);
                for at in (0..seed.len()).step_by(step) {
                    (target.run)(&seed[..at]);
                    let mut altered = seed.clone();
                    altered[at] ^= 0x81;
                    (target.run)(&altered);
                }
            }
        }
    }

    #[test]
    fn each_target_has_its_program_and_each_program_its_target() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz_targets");
        let mut programs: Vec<String> = std::fs::read_dir(folder)
            .expect("fuzz_targets/")
            .map(|entry| entry.expect("entry").path())
            .filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned()))
            .collect();
        programs.sort();
        let mut names: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
        names.sort_unstable();
        assert_eq!(programs, names);
    }

    /// Inputs that once broke a decoder lie in `regressions/<target>/` for ever.
    #[test]
    fn earlier_finds_stay_fixed() {
        for target in TARGETS {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("regressions")
                .join(target.name);
            let Ok(entries) = std::fs::read_dir(folder) else {
                continue;
            };
            for entry in entries {
                let path = entry.expect("entry").path();
                println!("{}", path.display());
                (target.run)(&std::fs::read(&path).expect("a readable file"));
            }
        }
    }
}

//! What was counted since the start. Totals only; nothing of any user.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// Codes that are counted apart, at most; they come from peers.
const CODES_MAX: usize = 64;

macro_rules! counters {
    ($($(#[doc = $doc:literal])* $name:ident,)*) => {
        /// Totals.
        #[derive(Debug, Default)]
        pub(crate) struct Counters {
            $($(#[doc = $doc])* pub(crate) $name: AtomicU64,)*
            refused: Mutex<BTreeMap<String, u64>>,
        }

        impl Counters {
            /// Every counter by its name; refusals as `refused-CODE`.
            pub(crate) fn all(&self) -> HashMap<String, u64> {
                let mut out = HashMap::new();
                $(out.insert(stringify!($name).replace('_', "-"), self.$name.load(Ordering::Relaxed));)*
                for (code, count) in self.codes().iter() {
                    out.insert(format!("refused-{code}"), *count);
                }
                out
            }
        }
    };
}

counters! {
    /// Requests to decrypt that were answered.
    decrypted,
    /// Ciphertexts in them.
    ciphertexts,
    /// Custodians that were asked once more than needed because one was slow.
    hedged,
    /// Custodians' answers that were none, refusals or wrong.
    custodian_failures,
    /// Key versions dealt.
    dealt,
    /// Key versions of other dealers checked and signed.
    activated,
}

impl Counters {
    pub(crate) fn add(counter: &AtomicU64, count: usize) {
        counter.fetch_add(u64::try_from(count).unwrap_or(0), Ordering::Relaxed);
    }

    /// Counts a refusal by its code.
    pub(crate) fn refused(&self, code: &str) {
        let mut codes = self.codes();
        if codes.len() >= CODES_MAX && !codes.contains_key(code) {
            *codes.entry("other".to_owned()).or_default() += 1;
            return;
        }
        *codes.entry(code.to_owned()).or_default() += 1;
    }

    fn codes(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, u64>> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_from_peers_are_bounded() {
        let counters = Counters::default();
        Counters::add(&counters.ciphertexts, 3);
        for number in 0..1_000 {
            counters.refused(&format!("code-{number}"));
        }
        let all = counters.all();
        assert_eq!(all["ciphertexts"], 3);
        assert_eq!(all["custodian-failures"], 0);
        assert_eq!(all["refused-code-1"], 1);
        assert_eq!(
            all["refused-other"],
            1_000 - u64::try_from(CODES_MAX).unwrap()
        );
    }
}

//! What a worker says when it does nothing.

use custody::{Denial, Reason};
use enclave_client::Refusal;
pub(crate) use enclave_client::code::{self, CHEATED, CUSTODIANS};

/// A denial with what exactly.
pub(crate) fn deny(reason: Reason, detail: impl std::fmt::Display) -> Refusal {
    Denial::new(reason, detail).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows of the tables of codes: code, meaning, retry.
    fn rows() -> Vec<[String; 3]> {
        let text = include_str!("../../../docs/custody.md");
        let section = text
            .split("\n## ")
            .find(|one| one.starts_with("Refusals\n"));
        let rows = section
            .unwrap()
            .lines()
            .filter(|line| line.starts_with("| `"));
        rows.map(|row| {
            let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
            let [code, meaning, retry] = cells.try_into().unwrap();
            [code.trim_matches('`'), meaning, retry].map(str::to_owned)
        })
        .collect()
    }

    #[test]
    fn the_documentation_lists_every_code_that_a_user_can_see() {
        let rows = rows();
        let (reasons, own) = rows.split_at(Reason::ALL.len());
        for (reason, [code, meaning, retry]) in Reason::ALL.into_iter().zip(reasons) {
            let expected = if reason.retry() { "yes" } else { "no" };
            assert_eq!(
                [code.as_str(), meaning, retry],
                [reason.code(), reason.sentence(), expected]
            );
        }
        let codes: Vec<&str> = own.iter().map(|[code, ..]| code.as_str()).collect();
        assert_eq!(codes, enclave_client::code::ALL);
    }

    #[test]
    fn a_code_means_one_thing() {
        for code in enclave_client::code::ALL {
            assert!(code.parse::<Reason>().is_err(), "{code}");
        }
    }
}

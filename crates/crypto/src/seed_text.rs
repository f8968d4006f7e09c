//! A 32-byte seed as text that a person can write down: a recovery kit, a deployment's recovery secret.
//!
//! Text: RFC 4648 base32 of `seed (32) || check (3)`, 56 digits in 14 groups of 4. check = the first three bytes of
//! BLAKE3(`strongroom/v1/seed-text` || 00 || kind || seed). Reading forgives case, spaces, hyphens and the digits that
//! look like letters of the alphabet: 0 for O, 1 for I, 8 for B. One wrong digit is found always, anything else but once
//! in 16 million.

use zeroize::Zeroizing;

use crate::secret::Secret;

/// What a seed is for; part of the check, so that one cannot be typed in for the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SeedKind {
    /// An identity ([`crate::Identity::from_seed`]).
    Identity,
    /// A deployment's recovery secret ([`crate::recovery::RecoverySecret::from_seed`]).
    Recovery,
}

impl SeedKind {
    const fn code(self) -> u8 {
        match self {
            Self::Identity => 1,
            Self::Recovery => 2,
        }
    }

    const fn title(self) -> &'static str {
        match self {
            Self::Identity => "Strongroom identity recovery kit, version 1",
            Self::Recovery => "Strongroom deployment recovery secret, version 1",
        }
    }

    const fn warning(self) -> &'static str {
        match self {
            Self::Identity => {
                "WHOEVER READS THE SEED BELOW IS YOU: no passphrase protects it.\n\
                 Keep it offline, in a place you would trust with the data itself.\n\
                 `strongroom identity import` takes this text and asks for a new passphrase."
            }
            Self::Recovery => {
                "WHOEVER READS THE SEED BELOW CAN READ THE NAMES AND WRAPS OF ALL OBJECTS.\n\
                 Keep it offline. It is needed only to rebuild the index from the storage nodes."
            }
        }
    }
}

/// Why a text is not a seed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SeedTextError {
    /// No line with 56 base32 digits.
    #[error("no seed found: expected a line `seed:` with 14 groups of 4 letters and digits")]
    Malformed,
    /// The check does not match: a typing error, or a seed of another kind.
    #[error("the seed has a typing error, or is of another kind")]
    Check,
}

/// The whole kit: title, warning, `name: value` lines such as the principal, and the seed.
#[must_use]
pub fn kit(kind: SeedKind, seed: &Secret<32>, lines: &[(&str, &str)]) -> Zeroizing<String> {
    let mut out = Zeroizing::new(String::with_capacity(1_024));
    for part in [kind.title(), "\n\n", kind.warning(), "\n\n"] {
        out.push_str(part);
    }
    for (name, value) in lines {
        for part in [*name, ": ", *value, "\n"] {
            out.push_str(part);
        }
    }
    out.push_str("seed: ");
    out.push_str(&digits(kind, seed));
    out.push('\n');
    out
}

/// The 14 groups alone.
#[must_use]
pub fn digits(kind: SeedKind, seed: &Secret<32>) -> Zeroizing<String> {
    let mut bytes = Zeroizing::new([0_u8; 35]);
    let check = check(kind, seed.expose());
    for (slot, byte) in bytes.iter_mut().zip(seed.expose().iter().chain(&check)) {
        *slot = *byte;
    }
    let plain = Zeroizing::new(data_encoding::BASE32.encode(bytes.as_slice()));
    let mut out = Zeroizing::new(String::with_capacity(70));
    for (i, digit) in plain.chars().enumerate() {
        if i > 0 && i % 4 == 0 {
            out.push(' ');
        }
        out.push(digit);
    }
    out
}

/// Reads a kit, or the digits alone.
///
/// # Errors
/// [`SeedTextError`].
pub fn parse(kind: SeedKind, text: &str) -> Result<Secret<32>, SeedTextError> {
    let line = text
        .lines()
        .find_map(|line| line.trim_start().strip_prefix("seed:"))
        .unwrap_or(text);
    let mut plain = Zeroizing::new(String::with_capacity(56));
    for digit in line.chars().filter(|c| !c.is_whitespace() && *c != '-') {
        if plain.len() == 56 {
            return Err(SeedTextError::Malformed);
        }
        plain.push(match digit.to_ascii_uppercase() {
            '0' => 'O',
            '1' => 'I',
            '8' => 'B',
            other if other.is_ascii() => other,
            _ => return Err(SeedTextError::Malformed),
        });
    }
    let bytes = data_encoding::BASE32
        .decode(plain.as_bytes())
        .map(Zeroizing::new)
        .map_err(|_| SeedTextError::Malformed)?;
    let (seed, given) = bytes
        .split_first_chunk::<32>()
        .ok_or(SeedTextError::Malformed)?;
    if given.len() != 3 {
        return Err(SeedTextError::Malformed);
    }
    if check(kind, seed) != given {
        return Err(SeedTextError::Check);
    }
    Secret::from_slice(seed).ok_or(SeedTextError::Malformed)
}

fn check(kind: SeedKind, seed: &[u8; 32]) -> [u8; 3] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"strongroom/v1/seed-text\0");
    hasher.update(&[kind.code()]);
    hasher.update(seed);
    let [a, b, c, ..] = *hasher.finalize().as_bytes();
    [a, b, c]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kits_round_trip_and_forgive_handwriting() {
        let seed = Secret::take(&mut [0x5a; 32]);
        let text = kit(SeedKind::Identity, &seed, &[("principal", "abc")]);
        assert!(text.contains("WHOEVER READS THE SEED BELOW IS YOU"));
        assert!(parse(SeedKind::Identity, &text).unwrap().ct_eq(&seed));
        let sloppy = digits(SeedKind::Identity, &seed)
            .to_lowercase()
            .replace('o', "0")
            .replace('i', "1")
            .replace('b', "8")
            .replace(' ', "-");
        assert!(parse(SeedKind::Identity, &sloppy).unwrap().ct_eq(&seed));
    }

    #[test]
    fn typing_errors_and_other_kinds_are_found() {
        let seed = Secret::take(&mut [0x5a; 32]);
        let text = digits(SeedKind::Identity, &seed);
        assert_eq!(
            parse(SeedKind::Recovery, &text).unwrap_err(),
            SeedTextError::Check
        );
        for (i, c) in text.char_indices().filter(|(_, c)| *c != ' ') {
            let other = if c == 'A' { "C" } else { "A" };
            let mut wrong = text.to_string();
            wrong.replace_range(i..=i, other);
            assert_eq!(
                parse(SeedKind::Identity, &wrong).unwrap_err(),
                SeedTextError::Check,
                "{i}"
            );
        }
        for bad in [
            "",
            "seed:",
            &text[..60],
            &format!("{}A", text.as_str()),
            "seed: é",
            &"A".repeat(9_999),
        ] {
            assert_eq!(
                parse(SeedKind::Identity, bad).unwrap_err(),
                SeedTextError::Malformed,
                "{bad}"
            );
        }
    }
}

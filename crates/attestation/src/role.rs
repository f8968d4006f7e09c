//! What a process is in a session.

use std::fmt;
use std::str::FromStr;

use domain::IdParseError;

/// What a process acts as. Evidence and report data bind it: what a custodian proves is of no use to a worker.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(try_from = "u8", into = "u8")]
pub enum Role {
    /// Nobody in particular: proves nothing, and is believed only what each of its requests proves by signature.
    Client,
    /// Holds key shares.
    Custodian,
    /// Rebuilds, deals, and runs jobs.
    Worker,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 3] = [Self::Client, Self::Custodian, Self::Worker];

    /// The stored form.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Client => 0,
            Self::Custodian => 1,
            Self::Worker => 2,
        }
    }

    /// The name that users read and write.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Custodian => "custodian",
            Self::Worker => "worker",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl From<Role> for u8 {
    fn from(role: Role) -> Self {
        role.code()
    }
}

impl TryFrom<u8> for Role {
    type Error = IdParseError;

    fn try_from(code: u8) -> Result<Self, IdParseError> {
        Self::ALL
            .into_iter()
            .find(|role| role.code() == code)
            .ok_or(ERROR)
    }
}

impl FromStr for Role {
    type Err = IdParseError;

    fn from_str(text: &str) -> Result<Self, IdParseError> {
        Self::ALL
            .into_iter()
            .find(|role| role.name() == text)
            .ok_or(ERROR)
    }
}

const ERROR: IdParseError = IdParseError {
    kind: "role",
    expected: "client (0), custodian (1) or worker (2)",
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_names_are_stable() {
        let table = [(0, "client"), (1, "custodian"), (2, "worker")];
        for (role, (code, name)) in Role::ALL.into_iter().zip(table) {
            assert_eq!((role.code(), role.name()), (code, name));
            assert_eq!(Role::try_from(code), Ok(role));
            assert_eq!(name.parse(), Ok(role));
        }
        assert!((3..=255).all(|code| Role::try_from(code).is_err()));
        assert!("Worker".parse::<Role>().is_err());
    }
}

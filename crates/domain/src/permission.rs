//! What a principal may do in a bucket.

/// One right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Permission {
    /// Read objects and listings.
    Read = 1,
    /// Write new versions.
    Write = 2,
    /// Delete objects.
    Delete = 4,
    /// Administer the bucket; includes the others.
    Admin = 8,
}

/// A set of rights; [`Permission::Admin`] holds all of them.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(try_from = "u8", into = "u8")]
pub struct Permissions(u8);

impl Permissions {
    /// No rights.
    pub const NONE: Self = Self(0);
    /// Read alone.
    pub const READ: Self = Self(1);
    /// Read and write.
    pub const WRITER: Self = Self(3);
    /// Everything.
    pub const ADMIN: Self = Self(15);

    /// Whether `permission` is among them.
    #[must_use]
    pub const fn allow(self, permission: Permission) -> bool {
        self.0 & permission as u8 != 0 || self.0 & Permission::Admin as u8 != 0
    }
}

impl From<Permissions> for u8 {
    fn from(set: Permissions) -> Self {
        set.0
    }
}

impl TryFrom<u8> for Permissions {
    type Error = &'static str;

    fn try_from(bits: u8) -> Result<Self, Self::Error> {
        if bits > 15 {
            return Err("permissions are READ 1, WRITE 2, DELETE 4, ADMIN 8");
        }
        Ok(Self(bits))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn read_write_delete_is_not_admin_but_admin_is_all() {
        let seven = Permissions::try_from(7).unwrap();
        assert!(!seven.allow(Permission::Admin));
        let admin = Permissions::try_from(8).unwrap();
        for p in [
            Permission::Read,
            Permission::Write,
            Permission::Delete,
            Permission::Admin,
        ] {
            assert!(admin.allow(p));
        }
        assert!(Permissions::try_from(16).is_err());
    }
}

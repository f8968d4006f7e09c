//! Secrets in memory that is never swapped, never part of a core dump, and empty in a forked child.
//!
//! A pool is one mapping of a fixed number of equal slots, locked as a whole when it is made: whether the system's limit
//! allows it shows at start, not at the thousandth secret.

use std::fmt;
use std::io;
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::mm::{Advice, MapFlags, ProtFlags};
use zeroize::Zeroize as _;

/// Bytes of one pool, at most: 1 GiB.
pub const POOL_BYTES_MAX: usize = 1 << 30;

/// Why there is no locked memory.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// No slots, empty slots, or more than 1 GiB of them: the caller's fault.
    #[error("a pool has 1 byte to 1 GiB")]
    Size,
    /// The system's limit is too low.
    #[error(
        "cannot lock {bytes} bytes of memory: the limit (RLIMIT_MEMLOCK) is {limit_bytes}; raise it with \
         `LimitMEMLOCK=` in the service's unit or `ulimit -l`"
    )]
    Limit {
        /// Bytes that were to be locked.
        bytes: usize,
        /// Bytes that may be.
        limit_bytes: u64,
    },
    /// The system refused for another reason.
    #[error("cannot {action}: {source}")]
    System {
        /// What was tried, as a verb.
        action: &'static str,
        /// The system's answer.
        source: io::Error,
    },
    /// Every slot is taken.
    #[error("all {slots} slots of locked memory are taken")]
    Exhausted {
        /// How many there are.
        slots: usize,
    },
    /// A secret longer than a slot.
    #[error("a secret of {bytes} bytes does not fit a slot of {slot_bytes}")]
    TooLong {
        /// The secret's length.
        bytes: usize,
        /// A slot's.
        slot_bytes: usize,
    },
}

/// Locked memory, in slots. Cloning gives another handle of the same pool.
#[derive(Clone)]
pub struct LockedPool(Arc<Region>);

struct Region {
    memory: NonNull<u8>,
    bytes: usize,
    slot_bytes: usize,
    slots: usize,
    free: Mutex<Vec<usize>>,
}

// SAFETY: the mapping belongs to this value alone until it is dropped. Each slot is reached through the one
// `LockedSecret` that holds its number, and numbers are handed out under the lock.
unsafe impl Send for Region {}
// SAFETY: as above; shared access hands out slots through the lock and touches no memory itself.
unsafe impl Sync for Region {}

impl LockedPool {
    /// Maps and locks `slots` slots of `slot_bytes` each.
    ///
    /// # Errors
    /// [`LockError::Limit`] when `RLIMIT_MEMLOCK` is too low, [`LockError`] otherwise.
    pub fn new(slots: usize, slot_bytes: usize) -> Result<Self, LockError> {
        let bytes = slots
            .checked_mul(slot_bytes)
            .filter(|bytes| (1..=POOL_BYTES_MAX).contains(bytes))
            .ok_or(LockError::Size)?;
        // SAFETY: a fresh private mapping at an address of the system's choice; nothing else refers to it.
        let memory = unsafe {
            rustix::mm::mmap_anonymous(
                std::ptr::null_mut(),
                bytes,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE,
            )
        };
        let memory = memory.map_err(system("map memory"))?;
        let Some(memory) = NonNull::new(memory.cast::<u8>()) else {
            return Err(LockError::Size);
        };
        // From here on dropping the region unmaps it.
        let region = Region {
            memory,
            bytes,
            slot_bytes,
            slots,
            free: Mutex::new((0..slots).rev().collect()),
        };
        region.lock()?;
        Ok(Self(Arc::new(region)))
    }

    /// Copies `secret` into a slot and wipes the original.
    ///
    /// # Errors
    /// [`LockError::Exhausted`], [`LockError::TooLong`]; `secret` is wiped in any case.
    pub fn take(&self, secret: &mut [u8]) -> Result<LockedSecret, LockError> {
        let slot = self.slot(secret.len());
        if let Ok(slot) = &slot {
            slot.with_mut(|bytes| bytes.copy_from_slice(secret));
        }
        secret.zeroize();
        slot
    }

    /// A slot of `bytes` zero bytes that `fill` fills in place.
    ///
    /// # Errors
    /// [`LockError::Exhausted`], [`LockError::TooLong`].
    pub fn fill(
        &self,
        bytes: usize,
        fill: impl FnOnce(&mut [u8]),
    ) -> Result<LockedSecret, LockError> {
        let slot = self.slot(bytes)?;
        slot.with_mut(fill);
        Ok(slot)
    }

    /// Slots that are not taken.
    #[must_use]
    pub fn free(&self) -> usize {
        self.0.free_slots().len()
    }

    /// Bytes that are locked.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.0.bytes
    }

    fn slot(&self, bytes: usize) -> Result<LockedSecret, LockError> {
        let slot_bytes = self.0.slot_bytes;
        if bytes > slot_bytes {
            return Err(LockError::TooLong { bytes, slot_bytes });
        }
        let slot = self.0.free_slots().pop().ok_or(LockError::Exhausted {
            slots: self.0.slots,
        })?;
        Ok(LockedSecret {
            region: self.0.clone(),
            slot,
            bytes,
        })
    }
}

impl fmt::Debug for LockedPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LockedPool({} slots)", self.0.slots)
    }
}

impl Region {
    fn lock(&self) -> Result<(), LockError> {
        let memory = self.memory.as_ptr().cast();
        // SAFETY: exactly the mapping of this region; none of these changes what it holds.
        unsafe {
            rustix::mm::madvise(memory, self.bytes, Advice::LinuxDontDump)
                .map_err(system("keep memory out of core dumps"))?;
            rustix::mm::madvise(memory, self.bytes, Advice::LinuxWipeOnFork)
                .map_err(system("keep memory from forked processes"))?;
        }
        // SAFETY: as above.
        match unsafe { rustix::mm::mlock(memory, self.bytes) } {
            Ok(()) => Ok(()),
            Err(rustix::io::Errno::NOMEM | rustix::io::Errno::PERM | rustix::io::Errno::AGAIN) => {
                let limit = rustix::process::getrlimit(rustix::process::Resource::Memlock);
                Err(LockError::Limit {
                    bytes: self.bytes,
                    limit_bytes: limit.current.unwrap_or(u64::MAX),
                })
            }
            Err(errno) => Err(system("lock memory")(errno)),
        }
    }

    fn free_slots(&self) -> std::sync::MutexGuard<'_, Vec<usize>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn at(&self, slot: usize) -> NonNull<u8> {
        assert!(slot < self.slots, "a slot of this pool");
        // SAFETY: the slot lies within the mapping, which is `slots * slot_bytes` long.
        unsafe { self.memory.add(slot * self.slot_bytes) }
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // Every slot was wiped when its secret was dropped. Unmapping unlocks.
        // SAFETY: exactly the mapping made in `new`; no slot refers to it any more, as each holds the region.
        let unmapped = unsafe { rustix::mm::munmap(self.memory.as_ptr().cast(), self.bytes) };
        debug_assert!(unmapped.is_ok(), "the mapping is ours");
    }
}

/// A secret in locked memory: wiped when dropped, never printed, neither `Clone` nor `Copy`.
pub struct LockedSecret {
    region: Arc<Region>,
    slot: usize,
    bytes: usize,
}

impl LockedSecret {
    /// The bytes. Named so that every use can be found; a copy of them is not locked.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        let memory = self.region.at(self.slot);
        // SAFETY: this value alone holds the slot, whose first `bytes` bytes are initialised (zero at first), and it is
        // borrowed for as long as the slice lives; writing needs `with_mut`, which is called before the value is
        // handed out.
        unsafe { std::slice::from_raw_parts(memory.as_ptr(), self.bytes) }
    }

    /// Bytes of the secret.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes
    }

    /// Whether it has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Only before the secret is handed out, and while it is dropped: nobody else holds a slice of it then.
    fn with_mut(&self, change: impl FnOnce(&mut [u8])) {
        let memory = self.region.at(self.slot);
        // SAFETY: as in `expose`, and no slice from there exists, as the callers are `LockedPool::take`, `fill` and
        // `drop`.
        change(unsafe { std::slice::from_raw_parts_mut(memory.as_ptr(), self.bytes) });
    }
}

impl Drop for LockedSecret {
    fn drop(&mut self) {
        self.with_mut(|bytes| bytes.zeroize());
        self.region.free_slots().push(self.slot);
    }
}

impl fmt::Debug for LockedSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LockedSecret({} bytes, redacted)", self.bytes)
    }
}

fn system(action: &'static str) -> impl Fn(rustix::io::Errno) -> LockError {
    move |errno| LockError::System {
        action,
        source: errno.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_apart_wiped_and_given_again() {
        let pool = LockedPool::new(3, 64).unwrap();
        let secrets: Vec<LockedSecret> = (1..=3_u8)
            .map(|byte| {
                let mut original = [byte; 64];
                let secret = pool.take(&mut original).unwrap();
                assert_eq!(original, [0; 64]);
                secret
            })
            .collect();
        for (secret, byte) in secrets.iter().zip(1_u8..) {
            assert_eq!(secret.expose(), [byte; 64]);
        }
        let mut late = [9; 64];
        assert!(matches!(
            pool.take(&mut late),
            Err(LockError::Exhausted { slots: 3 })
        ));
        assert_eq!(late, [0; 64], "wiped all the same");
        assert_eq!(pool.free(), 0);
        drop(secrets);
        assert_eq!(pool.free(), 3);
        let again = pool.fill(64, |bytes| {
            assert_eq!(bytes, [0; 64], "wiped when it was dropped")
        });
        assert_eq!(again.unwrap().len(), 64);
    }

    #[test]
    fn bounds_are_checked() {
        assert!(matches!(LockedPool::new(0, 64), Err(LockError::Size)));
        assert!(matches!(LockedPool::new(1, 0), Err(LockError::Size)));
        assert!(matches!(
            LockedPool::new(usize::MAX, 2),
            Err(LockError::Size)
        ));
        assert!(matches!(LockedPool::new(3, 1 << 29), Err(LockError::Size)));
        let pool = LockedPool::new(1, 32).unwrap();
        let refused = pool.take(&mut [1; 33]);
        assert!(matches!(
            refused,
            Err(LockError::TooLong {
                bytes: 33,
                slot_bytes: 32
            })
        ));
        assert_eq!(pool.free(), 1);
        assert!(pool.take(&mut []).unwrap().is_empty());
    }

    #[test]
    fn secrets_outlive_the_handle_and_cross_threads() {
        let pool = LockedPool::new(8, 32).unwrap();
        let secret = pool.take(&mut [5; 32]).unwrap();
        drop(pool);
        let secret = std::thread::spawn(move || {
            assert_eq!(secret.expose(), [5; 32]);
            secret
        });
        assert_eq!(secret.join().unwrap().expose(), [5; 32]);
    }

    #[test]
    fn the_debug_form_shows_no_byte() {
        let pool = LockedPool::new(1, 32).unwrap();
        let secret = pool.take(&mut [0xab; 32]).unwrap();
        assert_eq!(format!("{secret:?}"), "LockedSecret(32 bytes, redacted)");
    }
}

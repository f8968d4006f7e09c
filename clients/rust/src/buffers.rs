//! Chunk buffers that are used again: a fresh 4 MiB allocation costs a thousand page faults.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use domain::limits::CHUNK_BYTES_MAX;

/// Free buffers, at most a fixed number.
#[derive(Clone, Debug)]
pub(crate) struct Buffers {
    free: Arc<Mutex<Vec<Vec<u8>>>>,
    kept_max: usize,
}

/// A buffer that goes back when dropped.
#[derive(Debug)]
pub(crate) struct Buffer {
    bytes: Vec<u8>,
    home: Buffers,
}

impl Buffers {
    pub(crate) fn new(kept_max: usize) -> Self {
        Self {
            free: Arc::default(),
            kept_max,
        }
    }

    /// A buffer with whatever was in it; its user sets its length.
    pub(crate) fn take(&self) -> Buffer {
        let used = self.lock().pop();
        Buffer {
            bytes: used.unwrap_or_else(|| Vec::with_capacity(CHUNK_BYTES_MAX)),
            home: self.clone(),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Vec<u8>>> {
        // A list of buffers is whole after any panic.
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Buffer {
    /// Hands it to the connection without a copy; it comes home when that has sent it.
    pub(crate) fn into_bytes(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl std::ops::Deref for Buffer {
    type Target = Vec<u8>;

    fn deref(&self) -> &Vec<u8> {
        &self.bytes
    }
}

impl std::ops::DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        if bytes.capacity() < CHUNK_BYTES_MAX {
            return;
        }
        let mut free = self.home.lock();
        if free.len() < self.home.kept_max {
            free.push(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_come_home_and_their_number_is_bounded() {
        let buffers = Buffers::new(1);
        let mut first = buffers.take();
        first.resize(10, 7);
        let address = first.as_ptr();
        let second = buffers.take();
        drop(first.into_bytes());
        drop(second);
        assert_eq!(buffers.lock().len(), 1);
        assert_eq!(buffers.take().as_ptr(), address);
    }
}

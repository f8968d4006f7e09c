//! What a node holds of a small object: the chunk's ciphertext and a sealed recovery record behind it, in one.
//!
//! Stored form, version 1: `01 chunk-length(u32 BE) chunk recovery`. The node learns the ciphertext's length and
//! nothing else; metadata holds entry, manifest and wraps for ordinary reads.

/// Why stored bytes are no small copy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("malformed small copy")]
pub struct SmallCopyError;

const VERSION: u8 = 1;
const HEADER_BYTES: usize = 5;

/// Joins chunk and recovery record.
///
/// # Errors
/// [`SmallCopyError`] when the chunk is longer than 4 GiB.
pub fn encode(chunk: &[u8], recovery: &[u8]) -> Result<Vec<u8>, SmallCopyError> {
    let length = u32::try_from(chunk.len()).map_err(|_| SmallCopyError)?;
    let mut out = Vec::with_capacity(HEADER_BYTES + chunk.len() + recovery.len());
    out.push(VERSION);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(chunk);
    out.extend_from_slice(recovery);
    Ok(out)
}

/// Where the chunk lies within the stored bytes; the rest is the recovery record.
///
/// # Errors
/// [`SmallCopyError`] for another version or a length beyond the end.
pub fn chunk_range(stored: &[u8]) -> Result<std::ops::Range<usize>, SmallCopyError> {
    let (&[version, length @ ..], rest) = stored
        .split_first_chunk::<HEADER_BYTES>()
        .ok_or(SmallCopyError)?;
    let length = usize::try_from(u32::from_be_bytes(length)).map_err(|_| SmallCopyError)?;
    if version != VERSION || length > rest.len() {
        return Err(SmallCopyError);
    }
    Ok(HEADER_BYTES..HEADER_BYTES + length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunk_and_recovery_come_apart_again() {
        let stored = encode(b"chunk", b"recovery").unwrap();
        let range = chunk_range(&stored).unwrap();
        assert_eq!(&stored[range.clone()], b"chunk");
        assert_eq!(&stored[range.end..], b"recovery");
    }

    #[test]
    fn truncated_and_foreign_bytes_are_refused() {
        let stored = encode(b"chunk", b"").unwrap();
        for cut in 0..stored.len() {
            assert!(chunk_range(&stored[..cut]).is_err(), "{cut}");
        }
        let mut other = stored;
        other[0] = 9;
        assert!(chunk_range(&other).is_err());
    }
}

//! An envelope as a file: `SREN 01`, the record's length as u32, the record, and, for a stream, its frames.

use domain::limits::RECORD_BYTES_MAX;

use crate::envelope::{Body, Envelope, EnvelopeError};

/// Bytes before the record.
pub const PREFIX_BYTES: usize = 9;
const MAGIC: [u8; 4] = *b"SREN";
const FILE_VERSION: u8 = 1;

impl Envelope {
    /// The file of an envelope with an inline payload, or the beginning of one whose frames follow.
    #[must_use]
    pub fn to_file(&self) -> Vec<u8> {
        let record = self.encode();
        let len = u32::try_from(record.len()).expect("a record has at most 1 MiB");
        [
            &MAGIC,
            [FILE_VERSION].as_slice(),
            &len.to_be_bytes(),
            &record,
        ]
        .concat()
    }

    /// Reads the file of an envelope with an inline payload, whole.
    ///
    /// # Errors
    /// [`EnvelopeError`].
    pub fn from_file(bytes: &[u8]) -> Result<Self, EnvelopeError> {
        let mut reader = HeadReader::new();
        let (taken, envelope) = reader.push(bytes)?;
        let envelope = envelope.ok_or(EnvelopeError::Length("cut off"))?;
        if matches!(envelope.body(), Body::Stream { .. }) {
            return Err(EnvelopeError::Body("a stream, which is opened in pieces"));
        }
        if taken != bytes.len() {
            return Err(EnvelopeError::Length("longer than its record"));
        }
        Ok(envelope)
    }
}

/// Reads the beginning of an envelope's file from pieces of any length; keeps at most one record.
#[derive(Debug, Default)]
pub struct HeadReader {
    buffer: Vec<u8>,
}

impl HeadReader {
    /// At the file's beginning.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes bytes up to the record's end: says how many, and gives the envelope once it is complete. What follows in
    /// `input` is the stream's.
    ///
    /// # Errors
    /// [`EnvelopeError`], at the first byte that is wrong.
    pub fn push(&mut self, input: &[u8]) -> Result<(usize, Option<Envelope>), EnvelopeError> {
        let mut taken = self.fill(input, PREFIX_BYTES);
        let Some(len) = self.record_len()? else {
            return Ok((taken, None));
        };
        let rest = input.get(taken..).unwrap_or_default();
        taken += self.fill(rest, PREFIX_BYTES + len);
        if self.buffer.len() < PREFIX_BYTES + len {
            return Ok((taken, None));
        }
        let record = self.buffer.get(PREFIX_BYTES..).unwrap_or_default();
        Ok((taken, Some(Envelope::decode(record)?)))
    }

    /// Takes bytes until the buffer has `len`.
    fn fill(&mut self, input: &[u8], len: usize) -> usize {
        let missing = len.saturating_sub(self.buffer.len());
        let part = input.get(..missing).unwrap_or(input);
        self.buffer.extend_from_slice(part);
        part.len()
    }

    fn record_len(&self) -> Result<Option<usize>, EnvelopeError> {
        if !self
            .buffer
            .iter()
            .zip(MAGIC)
            .all(|(got, want)| *got == want)
        {
            return Err(EnvelopeError::NotAnEnvelope);
        }
        if let Some(version) = self.buffer.get(MAGIC.len())
            && *version != FILE_VERSION
        {
            return Err(EnvelopeError::UnsupportedVersion(*version));
        }
        let Some((_, len)) = self
            .buffer
            .get(..PREFIX_BYTES)
            .and_then(<[u8]>::split_last_chunk::<4>)
        else {
            return Ok(None);
        };
        let len = usize::try_from(u32::from_be_bytes(*len)).unwrap_or(usize::MAX);
        if len > RECORD_BYTES_MAX {
            return Err(EnvelopeError::Length(
                "longer than an envelope's record may be",
            ));
        }
        Ok(Some(len))
    }
}

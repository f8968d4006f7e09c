//! Armor: bytes as text that survives mail and terminals. Encoded and decoded in pieces of any length.
//!
//! `-----BEGIN STRONGROOM ENVELOPE-----`, lines of 64 base64 digits (RFC 4648 with padding; the last line may be shorter),
//! `-----END STRONGROOM ENVELOPE-----`, each line ended by LF. A reader also takes CR LF and a missing LF at the very end,
//! and nothing else: one content has one text. Armor protects nothing; what is inside does.

use data_encoding::BASE64;

/// Digits in a full line.
const LINE_DIGITS: usize = 64;
/// Bytes in a full line.
const LINE_BYTES: usize = 48;
/// Bytes of the longest line that a reader looks at.
const LINE_MAX: usize = 80;

/// What is inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArmorKind {
    /// The file of an [`crate::Envelope`].
    Envelope,
    /// A named key's public keys (`ledger::ExportedKey`).
    PublicKey,
    /// A principal's [`crypto::identity::ReceiverKey`].
    ReceiverKey,
}

impl ArmorKind {
    fn name(self) -> &'static str {
        match self {
            Self::Envelope => "ENVELOPE",
            Self::PublicKey => "PUBLIC KEY",
            Self::ReceiverKey => "RECEIVER KEY",
        }
    }

    /// The first line, by which a reader tells armored from binary.
    #[must_use]
    pub fn begin(self) -> String {
        format!("-----BEGIN STRONGROOM {}-----", self.name())
    }

    fn end(self) -> String {
        format!("-----END STRONGROOM {}-----", self.name())
    }
}

/// Why text is not armor of the wanted kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ArmorError {
    /// The first line is another.
    #[error("the text does not begin with the line of a strongroom armor of this kind")]
    Begin,
    /// A line that armor does not have.
    #[error("line {line} is not a line of armor: 64 base64 digits, the last one fewer")]
    Line {
        /// Counted from 1.
        line: u64,
    },
    /// No last line.
    #[error("the armor is cut off: its last line is missing")]
    Truncated,
    /// Text after the last line.
    #[error("there is text after the armor")]
    Trailing,
}

/// Writes armor in pieces.
#[derive(Debug)]
pub struct ArmorEncoder {
    kind: ArmorKind,
    begun: bool,
    pending: Vec<u8>,
}

impl ArmorEncoder {
    /// At the beginning.
    #[must_use]
    pub fn new(kind: ArmorKind) -> Self {
        Self {
            kind,
            begun: false,
            pending: Vec::with_capacity(LINE_BYTES),
        }
    }

    /// Appends the text of `input` to `out`, but for an incomplete line.
    pub fn push(&mut self, input: &[u8], out: &mut Vec<u8>) {
        self.begin(out);
        let missing = LINE_BYTES - self.pending.len();
        let (head, rest) = input.split_at_checked(missing).unwrap_or((input, &[]));
        self.pending.extend_from_slice(head);
        if self.pending.len() == LINE_BYTES {
            line(&self.pending, out);
            self.pending.clear();
        }
        let lines = rest.chunks_exact(LINE_BYTES);
        self.pending.extend_from_slice(lines.remainder());
        for bytes in lines {
            line(bytes, out);
        }
    }

    /// Appends the last two lines.
    pub fn finish(mut self, out: &mut Vec<u8>) {
        self.begin(out);
        if !self.pending.is_empty() {
            line(&self.pending, out);
        }
        out.extend_from_slice(self.kind.end().as_bytes());
        out.push(b'\n');
    }

    fn begin(&mut self, out: &mut Vec<u8>) {
        if !std::mem::replace(&mut self.begun, true) {
            out.extend_from_slice(self.kind.begin().as_bytes());
            out.push(b'\n');
        }
    }
}

fn line(bytes: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(BASE64.encode(bytes).as_bytes());
    out.push(b'\n');
}

/// Reads armor in pieces.
#[derive(Debug)]
pub struct ArmorDecoder {
    kind: ArmorKind,
    line: Vec<u8>,
    lines: u64,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Begin,
    /// Only full lines so far.
    Full,
    /// A shorter line came: the end must follow.
    Short,
    End,
}

impl ArmorDecoder {
    /// At the beginning.
    #[must_use]
    pub fn new(kind: ArmorKind) -> Self {
        Self {
            kind,
            line: Vec::with_capacity(LINE_MAX),
            lines: 0,
            state: State::Begin,
        }
    }

    /// Appends the bytes of `input`'s complete lines to `out`.
    ///
    /// # Errors
    /// [`ArmorError`].
    pub fn push(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<(), ArmorError> {
        for byte in input {
            if *byte == b'\n' {
                self.line_done(out)?;
            } else if self.state == State::End {
                return Err(ArmorError::Trailing);
            } else if self.line.len() == LINE_MAX {
                return Err(self.refused());
            } else {
                self.line.push(*byte);
            }
        }
        Ok(())
    }

    /// After the last byte of input.
    ///
    /// # Errors
    /// [`ArmorError`].
    pub fn finish(self) -> Result<(), ArmorError> {
        let line = self.line.strip_suffix(b"\r").unwrap_or(&self.line);
        match self.state {
            State::End => Ok(()),
            State::Begin => Err(ArmorError::Begin),
            State::Full | State::Short if line == self.kind.end().as_bytes() => Ok(()),
            State::Full | State::Short => Err(ArmorError::Truncated),
        }
    }

    fn line_done(&mut self, out: &mut Vec<u8>) -> Result<(), ArmorError> {
        let refused = self.refused();
        let mut line = std::mem::take(&mut self.line);
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        self.lines += 1;
        self.state = match self.state {
            State::Begin if line == self.kind.begin().as_bytes() => State::Full,
            State::Begin => return Err(ArmorError::Begin),
            State::End => return Err(ArmorError::Trailing),
            State::Full | State::Short if line == self.kind.end().as_bytes() => State::End,
            State::Short => return Err(refused),
            State::Full => {
                if line.is_empty() || line.len() > LINE_DIGITS {
                    return Err(refused);
                }
                let bytes = BASE64.decode(&line).map_err(|_| refused)?;
                // The decoder takes padding in the middle of a line.
                if BASE64.encode(&bytes).as_bytes() != line {
                    return Err(refused);
                }
                out.extend_from_slice(&bytes);
                if bytes.len() == LINE_BYTES {
                    State::Full
                } else {
                    State::Short
                }
            }
        };
        line.clear();
        self.line = line;
        Ok(())
    }

    fn refused(&self) -> ArmorError {
        match self.state {
            State::Begin => ArmorError::Begin,
            State::End => ArmorError::Trailing,
            State::Full | State::Short => ArmorError::Line {
                line: self.lines + 1,
            },
        }
    }
}

/// The armor of `bytes`.
#[must_use]
pub fn encode(kind: ArmorKind, bytes: &[u8]) -> String {
    let mut out = Vec::new();
    let mut encoder = ArmorEncoder::new(kind);
    encoder.push(bytes, &mut out);
    encoder.finish(&mut out);
    String::from_utf8(out).expect("armor is ASCII")
}

/// The bytes in an armor.
///
/// # Errors
/// [`ArmorError`].
pub fn decode(kind: ArmorKind, text: &[u8]) -> Result<Vec<u8>, ArmorError> {
    let mut out = Vec::new();
    let mut decoder = ArmorDecoder::new(kind);
    decoder.push(text, &mut out)?;
    decoder.finish()?;
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KIND: ArmorKind = ArmorKind::Envelope;

    fn bytes(len: usize) -> Vec<u8> {
        (0..len).map(|i| (i * 7 % 251).to_le_bytes()[0]).collect()
    }

    #[test]
    fn lines_are_64_digits_and_the_text_is_fixed() {
        let expected = "-----BEGIN STRONGROOM ENVELOPE-----\n\
            AAcOFRwjKjE4P0ZNVFtiaXB3foWMk5qhqK+2vcTL0tng5+71AQgPFh0kKzI5QEdO\nVVw=\n\
            -----END STRONGROOM ENVELOPE-----\n";
        assert_eq!(encode(KIND, &bytes(50)), expected);
        assert_eq!(decode(KIND, expected.as_bytes()), Ok(bytes(50)));
        assert_eq!(
            decode(KIND, expected.replace('\n', "\r\n").as_bytes()),
            Ok(bytes(50))
        );
        assert_eq!(decode(KIND, expected.trim_end().as_bytes()), Ok(bytes(50)));
        assert_eq!(
            decode(ArmorKind::PublicKey, expected.as_bytes()),
            Err(ArmorError::Begin)
        );
    }

    #[test]
    fn other_texts_of_the_same_bytes_are_refused() {
        let good = encode(KIND, &bytes(100));
        let line = ArmorError::Line { line: 2 };
        for (text, error) in [
            (String::new(), ArmorError::Begin),
            (format!("\n{good}"), ArmorError::Begin),
            (format!(" {good}"), ArmorError::Begin),
            (format!("{good}\n"), ArmorError::Trailing),
            (format!("{good}x"), ArmorError::Trailing),
            (good.replacen("-----\n", "-----\n\n", 1), line),
            (good.replacen("-----\n", "-----\n ", 1), line),
            (good.replacen("-----\nAA", "-----\nAA\n", 1), line),
            (
                good.replace("-----END", "----END"),
                ArmorError::Line { line: 5 },
            ),
            (good.replacen("\n", "\n=", 2), line),
            (good[..good.len() - 40].to_owned(), ArmorError::Truncated),
            ("x".repeat(100), ArmorError::Begin),
        ] {
            assert_eq!(decode(KIND, text.as_bytes()), Err(error), "{text}");
        }
        // Padding in the middle; padding bits that are not zero.
        let one = encode(KIND, &[0]);
        assert!(decode(KIND, one.replace("AA==", "AA==AA==").as_bytes()).is_err());
        assert!(
            one.contains("AA==") && decode(KIND, one.replace("AA==", "AB==").as_bytes()).is_err()
        );
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(len in 0_usize..300, piece in 1_usize..100) {
            let whole = encode(KIND, &bytes(len));
            let mut text = Vec::new();
            let mut encoder = ArmorEncoder::new(KIND);
            bytes(len).chunks(piece).for_each(|part| encoder.push(part, &mut text));
            encoder.finish(&mut text);
            prop_assert_eq!(&text, whole.as_bytes());
            let mut out = Vec::new();
            let mut decoder = ArmorDecoder::new(KIND);
            for part in text.chunks(piece) {
                decoder.push(part, &mut out).unwrap();
            }
            decoder.finish().unwrap();
            prop_assert_eq!(out, bytes(len));
        }

        #[test]
        fn what_is_taken_is_written_the_same(text in "[-A-Z a=\n]{0,80}") {
            if let Ok(bytes) = decode(KIND, text.as_bytes()) {
                let again = encode(KIND, &bytes);
                prop_assert_eq!(again.trim_end(), text.trim_end());
            }
        }
    }
}

//! GF(2^8) modulo x^8 + x^4 + x^3 + x + 1, the field of AES and of most Shamir programs, without tables or branches.
//!
//! Eight field elements go through each 64-bit word. What is secret (coefficients, shares) is only ever shifted, masked,
//! added and multiplied by a constant; masks are made from the public x-coordinate. `erasure` has a faster GF(2^8) of
//! another polynomial whose kernels look values up: fit for ciphertext, not for keys.

const LOW_BITS: u64 = 0x0101_0101_0101_0101;
const ALL_BUT_HIGH: u64 = 0x7f7f_7f7f_7f7f_7f7f;
/// x^8 = x^4 + x^3 + x + 1.
const REDUCTION: u64 = 0x1b;

/// Multiplies each of the word's eight elements by x.
fn times_x(word: u64) -> u64 {
    let carried = (word >> 7) & LOW_BITS;
    // Every byte of `carried` is 0 or 1, so the product stays within each byte.
    ((word & ALL_BUT_HIGH) << 1) ^ (carried.wrapping_mul(REDUCTION))
}

/// Multiplies each of the word's eight elements by `factor`.
pub(crate) fn mul_word(mut word: u64, factor: u8) -> u64 {
    let mut product = 0;
    for bit in 0..8 {
        let mask = 0_u64.wrapping_sub(u64::from(factor >> bit & 1));
        product ^= word & mask;
        word = times_x(word);
    }
    product
}

/// `left * right`.
pub(crate) fn mul(left: u8, right: u8) -> u8 {
    let [product, ..] = mul_word(u64::from(left), right).to_le_bytes();
    product
}

/// `1 / value`, and 0 for 0: value^254, as the multiplicative group has 255 elements.
pub(crate) fn invert(value: u8) -> u8 {
    // 254 = 0b1111_1110: square and multiply, from the highest bit.
    let mut power = value;
    for _ in 0..6 {
        power = mul(mul(power, power), value);
    }
    mul(power, power)
}

/// `sum = sum * factor + addend`, element by element: one step of Horner's rule.
pub(crate) fn scale_and_add<const N: usize>(sum: &mut [u8; N], factor: u8, addend: &[u8; N]) {
    scale(sum, factor);
    for (byte, other) in sum.iter_mut().zip(addend) {
        *byte ^= other;
    }
}

/// `sum = sum + value * factor`, element by element: one term of an interpolation.
pub(crate) fn add_scaled<const N: usize>(sum: &mut [u8; N], value: &[u8; N], factor: u8) {
    for (out, part) in sum.chunks_mut(8).zip(value.chunks(8)) {
        let product = mul_word(load(part), factor).to_le_bytes();
        for (byte, other) in out.iter_mut().zip(product) {
            *byte ^= other;
        }
    }
}

fn scale<const N: usize>(values: &mut [u8; N], factor: u8) {
    for part in values.chunks_mut(8) {
        let product = mul_word(load(part), factor).to_le_bytes();
        for (byte, other) in part.iter_mut().zip(product) {
            *byte = other;
        }
    }
}

/// Up to eight bytes as a word, the rest zero.
fn load(part: &[u8]) -> u64 {
    let mut bytes = [0; 8];
    for (slot, byte) in bytes.iter_mut().zip(part) {
        *slot = *byte;
    }
    u64::from_le_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Carry-less multiplication and division by the polynomial, from the definition and with every branch it likes.
    fn mul_by_definition(left: u8, right: u8) -> u8 {
        let mut product = 0_u16;
        for bit in 0..8 {
            if right >> bit & 1 == 1 {
                product ^= u16::from(left) << bit;
            }
        }
        for bit in (8..16).rev() {
            if product >> bit & 1 == 1 {
                product ^= 0x11b << (bit - 8);
            }
        }
        u8::try_from(product).unwrap()
    }

    #[test]
    fn every_product_is_the_one_by_definition() {
        for left in 0..=255 {
            for right in 0..=255 {
                assert_eq!(
                    mul(left, right),
                    mul_by_definition(left, right),
                    "{left} * {right}"
                );
            }
        }
    }

    #[test]
    fn every_inverse_inverts() {
        assert_eq!(invert(0), 0);
        for value in 1..=255 {
            assert_eq!(mul(value, invert(value)), 1, "{value}");
        }
    }

    #[test]
    fn words_and_lengths_that_are_no_multiple_of_eight_are_the_same_field() {
        let values: [u8; 13] = std::array::from_fn(|i| u8::try_from(i * 19).unwrap());
        let addends: [u8; 13] = std::array::from_fn(|i| u8::try_from(255 - i * 7).unwrap());
        for factor in 0..=255 {
            let mut horner = values;
            scale_and_add(&mut horner, factor, &addends);
            let mut term = addends;
            add_scaled(&mut term, &values, factor);
            for i in 0..13 {
                let expected = mul_by_definition(values[i], factor) ^ addends[i];
                assert_eq!((horner[i], term[i]), (expected, expected), "{factor}, {i}");
            }
        }
    }
}

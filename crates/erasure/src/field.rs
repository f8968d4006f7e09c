//! Arithmetic in GF(2^8) modulo x^8 + x^4 + x^3 + x^2 + 1 (`0x11D`), with the generator 2.

/// The reduction polynomial without its leading term.
const POLYNOMIAL_LOW: u8 = 0x1D;

/// `EXP[i]` is 2^i; doubled in length so that a sum of two logarithms needs no reduction.
const EXP: [u8; 510] = exp_table();
/// `LOG[x]` is the exponent of `x`; `LOG[0]` is never read.
const LOG: [u8; 256] = log_table();
/// `AFFINE[c]` multiplies by `c`; see [`affine`].
#[cfg(any(test, target_arch = "x86_64"))]
const AFFINE: [i64; 256] = affine_table();

/// 2 * x.
const fn double(x: u8) -> u8 {
    (x << 1) ^ if x & 0x80 == 0 { 0 } else { POLYNOMIAL_LOW }
}

#[expect(
    clippy::indexing_slicing,
    reason = "evaluated at compile time, where a bad index is a compile error"
)]
const fn exp_table() -> [u8; 510] {
    let mut table = [0; 510];
    let mut value = 1;
    let mut exponent = 0;
    while exponent < 510 {
        table[exponent] = value;
        value = double(value);
        exponent += 1;
    }
    table
}

#[expect(
    clippy::indexing_slicing,
    reason = "evaluated at compile time, where a bad index is a compile error"
)]
const fn log_table() -> [u8; 256] {
    let mut table = [0; 256];
    let mut value: u8 = 1;
    let mut exponent: u8 = 0;
    while exponent < 255 {
        table[value as usize] = exponent;
        value = double(value);
        exponent += 1;
    }
    table
}

/// The product of `a` and `b`.
#[expect(
    clippy::indexing_slicing,
    reason = "LOG has an entry for every byte, EXP one for every sum of two of its values"
)]
pub(crate) fn mul(a: u8, b: u8) -> u8 {
    if a == 0 || b == 0 {
        return 0;
    }
    EXP[usize::from(LOG[usize::from(a)]) + usize::from(LOG[usize::from(b)])]
}

/// The inverse of `a`, which zero does not have.
#[expect(
    clippy::indexing_slicing,
    reason = "LOG has an entry for every byte, and 255 minus one of its values is within EXP"
)]
pub(crate) fn inverse(a: u8) -> Option<u8> {
    (a != 0).then(|| EXP[255 - usize::from(LOG[usize::from(a)])])
}

/// The 8x8 bit matrix of "multiply by `c`", in the layout that `GF2P8AFFINEQB` wants: bit `i` of the result is the parity of
/// byte `7 - i` of the matrix AND the source byte (Intel SDM volume 2, GF2P8AFFINEQB). GFNI's own multiply instruction is of
/// no use here, as it is fixed to the polynomial `0x11B`.
#[cfg(any(test, target_arch = "x86_64"))]
#[expect(
    clippy::indexing_slicing,
    reason = "the table has an entry for every byte"
)]
pub(crate) fn affine(c: u8) -> i64 {
    AFFINE[usize::from(c)]
}

#[cfg(any(test, target_arch = "x86_64"))]
#[expect(
    clippy::indexing_slicing,
    reason = "evaluated at compile time, where a bad index is a compile error"
)]
const fn affine_table() -> [i64; 256] {
    let mut table = [0; 256];
    let mut coefficient: u8 = 0;
    loop {
        // Column j of the matrix is c * 2^j.
        let mut rows = [0_u8; 8];
        let mut column = coefficient;
        let mut input_bit = 0;
        while input_bit < 8 {
            let mut output_bit = 0;
            while output_bit < 8 {
                rows[7 - output_bit] |= ((column >> output_bit) & 1) << input_bit;
                output_bit += 1;
            }
            column = double(column);
            input_bit += 1;
        }
        table[coefficient as usize] = i64::from_le_bytes(rows);
        if coefficient == 255 {
            return table;
        }
        coefficient += 1;
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Multiplication as in the definition: carry-less product, then long division by the whole polynomial.
    pub(crate) fn schoolbook(a: u8, b: u8) -> u8 {
        let mut product: u32 = 0;
        for bit in 0..8 {
            if b >> bit & 1 == 1 {
                product ^= u32::from(a) << bit;
            }
        }
        for bit in (8..16).rev() {
            if product >> bit & 1 == 1 {
                product ^= 0x11D << (bit - 8);
            }
        }
        u8::try_from(product).expect("reduced")
    }

    #[test]
    fn products_are_those_of_the_definition() {
        for a in 0..=255 {
            for b in 0..=255 {
                assert_eq!(mul(a, b), schoolbook(a, b), "{a} * {b}");
            }
        }
    }

    #[test]
    fn every_byte_but_zero_has_its_inverse() {
        assert_eq!(inverse(0), None);
        for a in 1..=255 {
            assert_eq!(schoolbook(a, inverse(a).expect("not zero")), 1, "{a}");
        }
    }

    #[test]
    fn bit_matrices_multiply() {
        for c in 0..=255 {
            let rows = affine(c).to_le_bytes();
            for x in 0..=255_u8 {
                let product = (0..8).fold(0_u8, |byte, bit| {
                    byte | u8::from((rows[7 - bit] & x).count_ones() % 2 == 1) << bit
                });
                assert_eq!(product, schoolbook(c, x), "{c} * {x}");
            }
        }
    }
}

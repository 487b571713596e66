//! A base-2 logarithm in whole numbers, the same on every machine.

/// Fraction bits of the result.
const FRACTION_BITS: u32 = 56;

/// `-log2((h + 1) / 2^64)` with 56 fraction bits: 64 × 2^56 at most, and never zero.
///
/// The classic bit-by-bit method: the mantissa is squared once a result bit, and a carry over 2 is that bit.
/// 32 result bits are more than enough to tell 2^64 hashes of a few thousand workers apart.
pub(crate) fn neg_log2(h: u64) -> u64 {
    let x = u128::from(h) + 1;
    let whole = 127 - x.leading_zeros();
    // Mantissa in [1, 2) with 63 fraction bits.
    let mut mantissa = if whole >= 63 { x >> (whole - 63) } else { x << (63 - whole) };
    let mut fraction = 0u64;
    for bit in 1..=32 {
        mantissa = (mantissa * mantissa) >> 63;
        if mantissa >= 1 << 64 {
            fraction |= 1 << (FRACTION_BITS - bit);
            mantissa >>= 1;
        }
    }
    let log2 = (u128::from(whole) << FRACTION_BITS) | u128::from(fraction);
    u64::try_from((64u128 << FRACTION_BITS) - log2).map_or(u64::MAX, |cost| cost.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_the_float_logarithm() {
        let mut h = 1u64;
        for _ in 0..1_000 {
            h = h.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let expected = 64.0 - (h as f64).log2();
            let got = neg_log2(h) as f64 / (1u64 << 56) as f64;
            assert!((got - expected).abs() < 1e-8, "{h}: {got} {expected}");
        }
        assert_eq!(neg_log2(0), 64 << 56);
        assert_eq!(neg_log2(u64::MAX), 1);
    }
}

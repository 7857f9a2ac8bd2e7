//! MurmurHash3 x86_32 by Austin Appleby (public domain, <https://github.com/aappleby/smhasher>): the hash of
//! scikit-learn's `FeatureHasher`, so that vectors agree with models trained there. Not a keyed hash: whoever may
//! choose texts can choose collisions.

/// The hash of some bytes.
#[must_use]
pub fn murmur3_32(bytes: &[u8], seed: u32) -> u32 {
    const C1: u32 = 0xcc9e_2d51;
    const C2: u32 = 0x1b87_3593;
    let mix = |word: u32| word.wrapping_mul(C1).rotate_left(15).wrapping_mul(C2);
    let mut hash = seed;
    let mut words = bytes.chunks_exact(4);
    for word in &mut words {
        let word = word.iter().rev().fold(0, |word, byte| (word << 8) | u32::from(*byte));
        hash = (hash ^ mix(word)).rotate_left(13).wrapping_mul(5).wrapping_add(0xe654_6b64);
    }
    let rest = words.remainder();
    if !rest.is_empty() {
        hash ^= mix(rest.iter().rev().fold(0, |word, byte| (word << 8) | u32::from(*byte)));
    }
    // The format counts the length modulo 2^32.
    hash ^= bytes.len() as u32;
    hash = (hash ^ (hash >> 16)).wrapping_mul(0x85eb_ca6b);
    hash = (hash ^ (hash >> 13)).wrapping_mul(0xc2b2_ae35);
    hash ^ (hash >> 16)
}

/// Where a token lands among `size` positions and with which sign, as scikit-learn has it: the hash with seed 0
/// read as signed, its absolute value modulo `size`, negative hashes counted -1 if `signed`.
#[must_use]
pub fn place(token: &[u8], size: u32, signed: bool) -> (u32, f64) {
    let hash = murmur3_32(token, 0).cast_signed();
    let sign = if signed && hash < 0 { -1.0 } else { 1.0 };
    (hash.unsigned_abs() % size, sign)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Vectors that circulate for the reference implementation.
    #[test]
    fn murmur3_32_published_vectors_agree() {
        for (text, seed, want) in [
            ("", 0, 0),
            ("", 1, 0x514e_28b7),
            ("", 0xffff_ffff, 0x81f1_6f39),
            ("\0\0\0\0", 0, 0x2362_f9de),
            ("aaaa", 0x9747_b28c, 0x5a97_808a),
            ("aaa", 0x9747_b28c, 0x283e_0130),
            ("aa", 0x9747_b28c, 0x5d21_1726),
            ("a", 0x9747_b28c, 0x7fa0_9ea6),
            ("Hello, world!", 0x9747_b28c, 0x2488_4cba),
            ("The quick brown fox jumps over the lazy dog", 0x9747_b28c, 0x2fa8_26cd),
        ] {
            assert_eq!(murmur3_32(text.as_bytes(), seed), want, "{text:?}");
        }
    }
}

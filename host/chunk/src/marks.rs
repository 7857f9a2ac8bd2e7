//! Where JSON strings may stop: one bit per byte for quotes, backslashes and control characters.
//!
//! Set for whole runs of texts before they are scanned, 64 bytes at a time, so that the scanner jumps from one stop to
//! the next. Refuses to know what a stop means: that depends on where it is met.

/// Finds the first byte at or behind a place that is a quote, a backslash or a control character. Past the end of what it
/// knows it may answer anything that lies there, or nothing.
pub(crate) trait Stops: Copy {
    fn next(self, text: &[u8], at: usize) -> usize;
}

/// The answer where there is no stop.
pub(crate) const NOWHERE: usize = usize::MAX;

/// Bytes per word of marks. Texts that are marked are padded to whole blocks.
pub(crate) const BLOCK: usize = 64;

/// The marks of a part of a buffer.
#[derive(Debug, Default)]
pub(crate) struct Marks {
    words: Vec<u64>,
    /// Where the first word begins; a whole number of blocks.
    base: usize,
}

impl Marks {
    /// Marks `text[start..end]`, and what shares its first and last block.
    pub(crate) fn set(&mut self, text: &[u8], start: usize, end: usize) {
        self.base = start - start % BLOCK;
        self.words.clear();
        let (blocks, rest) = text[self.base..end.next_multiple_of(BLOCK).min(text.len())].as_chunks();
        self.words.extend(blocks.iter().map(marks));
        debug_assert!(rest.is_empty(), "the text is padded to whole blocks");
    }
}

impl Stops for &Marks {
    #[inline(always)]
    fn next(self, _text: &[u8], at: usize) -> usize {
        let mut word = (at - self.base) / BLOCK;
        let Some(first) = self.words.get(word) else { return NOWHERE };
        let hits = first >> (at % BLOCK);
        if hits != 0 {
            return at + hits.trailing_zeros() as usize;
        }
        loop {
            word += 1;
            match self.words.get(word) {
                None => return NOWHERE,
                Some(0) => {}
                Some(hits) => return self.base + word * BLOCK + hits.trailing_zeros() as usize,
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[inline]
fn marks(block: &[u8; BLOCK]) -> u64 {
    #[expect(unsafe_code, reason = "instructions that the compiler does not find by itself")]
    // SAFETY: the function needs SSE2, which is part of every x86_64.
    unsafe {
        marks_sse2(block)
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "sse2")]
#[inline]
fn marks_sse2(block: &[u8; BLOCK]) -> u64 {
    use std::arch::x86_64::{
        _mm_cmpeq_epi8, _mm_min_epu8, _mm_movemask_epi8, _mm_or_si128, _mm_set_epi64x, _mm_set1_epi8,
    };
    let (quote, slash) = (_mm_set1_epi8(b'"' as i8), _mm_set1_epi8(b'\\' as i8));
    let control = _mm_set1_epi8(0x1f);
    let mut all = 0;
    let (words, _) = block.as_chunks::<8>();
    let (pairs, _) = words.as_chunks::<2>();
    for (lane, [low, high]) in pairs.iter().enumerate() {
        let bytes = _mm_set_epi64x(i64::from_le_bytes(*high), i64::from_le_bytes(*low));
        let stops = _mm_or_si128(
            _mm_or_si128(_mm_cmpeq_epi8(bytes, quote), _mm_cmpeq_epi8(bytes, slash)),
            _mm_cmpeq_epi8(_mm_min_epu8(bytes, control), bytes),
        );
        all |= u64::from(_mm_movemask_epi8(stops) as u16) << (16 * lane);
    }
    all
}

#[cfg(not(target_arch = "x86_64"))]
fn marks(block: &[u8; BLOCK]) -> u64 {
    marks_by_byte(block)
}

#[cfg(any(test, not(target_arch = "x86_64")))]
fn marks_by_byte(block: &[u8; BLOCK]) -> u64 {
    let stops = block.iter().map(|&byte| u64::from(byte < 0x20 || byte == b'"' || byte == b'\\'));
    stops.enumerate().fold(0, |all, (at, stop)| all | stop << at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_every_byte_at_every_place_is_as_by_byte() {
        for byte in 0..=255u8 {
            let mut block = [b'x'; BLOCK];
            for at in 0..BLOCK {
                block[at] = byte;
                assert_eq!(marks(&block), marks_by_byte(&block), "byte {byte} at {at}");
                block[at] = b'x';
            }
            assert_eq!(marks(&[byte; BLOCK]), marks_by_byte(&[byte; BLOCK]));
        }
    }

    #[test]
    fn next_from_every_place_is_the_first_stop() {
        let mut text = vec![b'x'; 4 * BLOCK];
        let stops = [65, 66, 127, 128, 200];
        stops.iter().for_each(|&at| text[at] = b'"');
        let mut marks = Marks::default();
        for start in 0..=65 {
            marks.set(&text, start, 250);
            for at in start..text.len() {
                let expected = stops.iter().copied().find(|&stop| stop >= at).unwrap_or(NOWHERE);
                assert_eq!((&marks).next(&text, at), expected, "from {at}, marked from {start}");
            }
        }
    }
}

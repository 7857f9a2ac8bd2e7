//! One row being written: short pieces are copied in whole blocks.
//!
//! Prefixes and most values have a few dozen bytes; for those a call of `memcpy` costs more than the copy. A block is
//! copied past the end of its piece where the source has the bytes, and the next piece overwrites what was too much.
//! Refuses to know JSON.

const BLOCK: usize = 32;

/// Keeps its buffer; `bytes` is longer than what was written: `at` is where the next piece goes.
#[derive(Debug, Default)]
pub(crate) struct Blocks {
    bytes: Vec<u8>,
    at: usize,
}

impl Blocks {
    pub(crate) fn clear(&mut self) {
        self.at = 0;
    }

    /// What was written since [`Blocks::clear`].
    pub(crate) fn written(&self) -> &[u8] {
        &self.bytes[..self.at]
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.at == 0
    }

    /// Replaces the first byte.
    pub(crate) fn set_first(&mut self, byte: u8) {
        self.bytes[0] = byte;
    }

    /// Appends `source[start..end]`.
    #[inline(always)]
    pub(crate) fn put(&mut self, source: &[u8], start: usize, end: usize) {
        let (at, len) = (self.at, end - start);
        if self.bytes.len() < at + len + 4 * BLOCK {
            self.grow(len);
        }
        if len <= BLOCK && start + BLOCK <= source.len() {
            self.bytes[at..at + BLOCK].copy_from_slice(&source[start..start + BLOCK]);
        } else if len <= 2 * BLOCK && start + 2 * BLOCK <= source.len() {
            self.bytes[at..at + 2 * BLOCK].copy_from_slice(&source[start..start + 2 * BLOCK]);
        } else if len <= 4 * BLOCK && start + 4 * BLOCK <= source.len() {
            self.bytes[at..at + 4 * BLOCK].copy_from_slice(&source[start..start + 4 * BLOCK]);
        } else {
            self.bytes[at..at + len].copy_from_slice(&source[start..end]);
        }
        self.at = at + len;
    }

    /// Appends the first `len` bytes of a block.
    #[inline(always)]
    pub(crate) fn put_block(&mut self, block: &[u8; BLOCK], len: usize) {
        let at = self.at;
        if self.bytes.len() < at + BLOCK {
            self.grow(0);
        }
        self.bytes[at..at + BLOCK].copy_from_slice(block);
        self.at = at + len;
    }

    #[inline(always)]
    pub(crate) fn put_all(&mut self, source: &[u8]) {
        self.put(source, 0, source.len());
    }

    #[inline(always)]
    pub(crate) fn push(&mut self, byte: u8) {
        if self.bytes.len() == self.at {
            self.grow(0);
        }
        self.bytes[self.at] = byte;
        self.at += 1;
    }

    /// Appends an integer in decimal.
    #[inline]
    pub(crate) fn push_int(&mut self, value: i64) {
        if let Ok(small) = u32::try_from(value)
            && small < 100_000_000
        {
            let (word, len) = digits(small);
            let mut block = [0; BLOCK];
            block[..8].copy_from_slice(&word.to_le_bytes());
            self.put_block(&block, len);
        } else {
            self.put_all(itoa::Buffer::new().format(value).as_bytes());
        }
    }

    #[cold]
    #[inline(never)]
    fn grow(&mut self, len: usize) {
        let wanted = (self.at + len + 4 * BLOCK).next_power_of_two().max(1024);
        self.bytes.resize(wanted, 0);
    }
}

/// A piece of at most one block, ready to be put.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Piece {
    block: [u8; BLOCK],
    len: usize,
}

impl Piece {
    /// `None` if it does not fit.
    pub(crate) fn new(bytes: &[u8]) -> Option<Piece> {
        let mut block = [0; BLOCK];
        block.get_mut(..bytes.len())?.copy_from_slice(bytes);
        Some(Piece { block, len: bytes.len() })
    }

    #[inline(always)]
    pub(crate) fn put_into(&self, blocks: &mut Blocks) {
        blocks.put_block(&self.block, self.len);
    }
}

/// The decimal digits of a number below 10^8, first digit in the lowest byte, and how many there are. All eight digits
/// are found at once: halves of four, then pairs, then single ones, side by side in one word.
#[inline]
fn digits(value: u32) -> (u64, usize) {
    let value = u64::from(value);
    let (high, low) = (value / 10_000, value % 10_000);
    let halves = high | low << 32;
    // x / 100 for x < 10,000.
    let hundreds = ((halves * 10_486) >> 20) & (0x7f << 32 | 0x7f);
    let pairs = ((halves - 100 * hundreds) << 16) + hundreds;
    // x / 10 for x < 100.
    let tens = ((pairs * 103) >> 10) & 0x000f_000f_000f_000f;
    let digits = tens + ((pairs - 10 * tens) << 8);
    // At least one digit, also of 0.
    let leading = (digits | 1 << 56).trailing_zeros() as usize / 8;
    ((digits + 0x3030_3030_3030_3030) >> (8 * leading), 8 - leading)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn put_pieces_of_all_lengths_are_kept_apart() {
        let source: Vec<u8> = (0..=255).collect();
        let mut blocks = Blocks::default();
        for _ in 0..2 {
            blocks.clear();
            let mut expected = Vec::new();
            for start in (0..256).step_by(3) {
                for len in [0, 1, 31, 32, 33, 63, 64, 65, 127, 128, 129, 200] {
                    let end = (start + len).min(256);
                    blocks.put(&source, start, end);
                    blocks.push(b'|');
                    expected.extend_from_slice(&source[start..end]);
                    expected.push(b'|');
                }
            }
            assert!(blocks.written() == expected);
        }
    }

    #[test]
    fn push_int_is_as_formatted() {
        let mut values = vec![i64::MIN, -1, 0, 100_000_000, 4_294_967_295, 4_294_967_296, i64::MAX];
        for power in 0..9 {
            let ten = 10i64.pow(power);
            values.extend([ten - 1, ten, ten + 1, 3 * ten, 9 * ten + ten / 7]);
        }
        values.extend((0..100_000).map(|at| at * 1009 % 100_000_000));
        let mut blocks = Blocks::default();
        for value in values {
            blocks.clear();
            blocks.push_int(value);
            assert_eq!(blocks.written(), value.to_string().as_bytes());
        }
    }

    #[test]
    fn piece_longer_than_a_block_is_none() {
        assert!(Piece::new(&[b'x'; BLOCK + 1]).is_none());
        let mut blocks = Blocks::default();
        Piece::new(&[b'x'; BLOCK]).unwrap().put_into(&mut blocks);
        Piece::new(b"yz").unwrap().put_into(&mut blocks);
        assert_eq!(blocks.written(), format!("{}yz", "x".repeat(BLOCK)).as_bytes());
    }
}

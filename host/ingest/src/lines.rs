//! Lines out of blocks of bytes: what files, standard input and TCP have in common.
//!
//! It owns the carry between blocks, the cut at line feeds (one search and one copy per line) and the
//! limit. `\r` before `\n` is not part of a record, empty lines are none, and a line over the limit is skipped
//! up to its line feed and counted. It refuses to look into lines.

/// Bytes that are read at a time.
pub(crate) const BLOCK: usize = 1 << 20;

/// Splits a sequence of blocks into lines.
#[derive(Debug, Default)]
pub(crate) struct Splitter {
    block: Vec<u8>,
    /// Bytes of `block` that are carried over: the begin of a line.
    carried: usize,
    /// Inside a line that is over the limit.
    skipping: bool,
    max_record: usize,
    /// Bytes of the input before `block`.
    base: u64,
}

/// Complete lines of a block, as columns.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    pub(crate) payload: Vec<u8>,
    pub(crate) ends: Vec<u32>,
    /// Lines over the limit that ended or were noticed in this block, by their first byte.
    pub(crate) too_long: Vec<u64>,
}

impl Splitter {
    /// `base`: where in the input the first byte stands.
    pub(crate) fn new(max_record: u64, base: u64) -> Splitter {
        let max_record = usize::try_from(max_record).unwrap_or(usize::MAX).min(1 << 30);
        Splitter { block: Vec::new(), carried: 0, skipping: false, max_record, base }
    }

    /// Where the next block is read to; never empty.
    pub(crate) fn space(&mut self) -> &mut [u8] {
        let wanted = self.carried + BLOCK;
        if self.block.len() < wanted {
            self.block.resize(wanted, 0);
        }
        self.block.get_mut(self.carried..wanted).unwrap_or_default()
    }

    /// Where the next block is read from.
    pub(crate) fn read_from(&self) -> u64 {
        self.base + self.carried as u64
    }

    /// The first byte of the line that is not complete: everything before it has been handed out.
    pub(crate) fn complete_to(&self) -> u64 {
        self.base
    }

    /// Takes the `read` bytes that were put into [`Splitter::space`] and cuts complete lines.
    pub(crate) fn take(&mut self, read: usize) -> Lines {
        let filled = self.carried + read;
        let block = self.block.get(..filled).unwrap_or_default();
        let mut lines = Lines { payload: Vec::with_capacity(filled), ..Lines::default() };
        // Most lines are longer than 64 bytes; a wrong guess costs one more allocation per block.
        lines.ends.reserve(filled / 64);
        let mut start = 0;
        for end in memchr::memchr_iter(b'\n', block.get(self.carried..).unwrap_or_default()) {
            let end = end + self.carried;
            let line = block.get(start..end).unwrap_or_default();
            if self.skipping {
                self.skipping = false;
            } else {
                line_into(line, self.base + start as u64, self.max_record, &mut lines);
            }
            start = end + 1;
        }
        self.carried = filled - start;
        self.base += start as u64;
        self.block.copy_within(start..filled, 0);
        // One byte more than the limit may be a carriage return.
        if self.carried > self.max_record.saturating_add(1) || (self.skipping && self.carried > 0) {
            if !self.skipping {
                lines.too_long.push(self.base);
            }
            self.skipping = true;
            self.base += self.carried as u64;
            self.carried = 0;
        }
        lines
    }

    /// Takes a last line that has no line feed. Afterwards nothing is carried.
    pub(crate) fn finish(&mut self) -> Lines {
        let mut lines = Lines::default();
        let carried = std::mem::take(&mut self.carried);
        if !self.skipping {
            let line = self.block.get(..carried).unwrap_or_default();
            line_into(line, self.base, self.max_record, &mut lines);
        }
        self.skipping = false;
        self.base += carried as u64;
        lines
    }
}

#[inline]
fn line_into(line: &[u8], at: u64, max_record: usize, lines: &mut Lines) {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if line.is_empty() {
        return;
    }
    if line.len() > max_record {
        lines.too_long.push(at);
        return;
    }
    lines.payload.extend_from_slice(line);
    // A block and its carry are below 2^31 bytes, because max_record is at most 2^30.
    lines.ends.push(u32::try_from(lines.payload.len()).unwrap_or(u32::MAX));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds `text` in pieces of `piece` bytes; returns lines and places of those over the limit.
    fn split(text: &[u8], piece: usize, max_record: u64) -> (Vec<Vec<u8>>, Vec<u64>) {
        let mut splitter = Splitter::new(max_record, 0);
        let (mut records, mut too_long) = (Vec::new(), Vec::new());
        let mut gather = |lines: Lines| {
            let mut start = 0;
            for end in lines.ends {
                records.push(lines.payload[start..end as usize].to_vec());
                start = end as usize;
            }
            too_long.extend(lines.too_long);
        };
        for piece in text.chunks(piece) {
            splitter.space()[..piece.len()].copy_from_slice(piece);
            gather(splitter.take(piece.len()));
        }
        gather(splitter.finish());
        assert_eq!(splitter.complete_to(), text.len() as u64);
        (records, too_long)
    }

    #[test]
    fn lines_cut_at_any_byte_come_out_the_same() {
        let text = b"one\ntwo\r\n\n\r\nfour and more\n\xff\x00\nlast";
        let expected: Vec<&[u8]> = vec![b"one", b"two", b"four and more", b"\xff\x00", b"last"];
        for piece in 1..=text.len() {
            assert_eq!(split(text, piece, 100).0, expected, "pieces of {piece}");
        }
    }

    #[test]
    fn line_over_the_limit_is_skipped_with_its_place() {
        let text = b"1234\n12345\n1234\r\n123456789\nab\n99999";
        for piece in 1..=text.len() {
            let (records, too_long) = split(text, piece, 4);
            assert_eq!(records, [&b"1234"[..], b"1234", b"ab"], "pieces of {piece}");
            assert_eq!(too_long, [5, 17, 30], "pieces of {piece}");
        }
    }
}

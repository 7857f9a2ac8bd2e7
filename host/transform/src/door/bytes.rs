//! The encodings that foreign ABIs use: big-endian numbers, zig-zag varints, counted bytes. Every read is checked.

/// What is left of something encoded; every read is `None` past its end.
#[derive(Clone, Copy)]
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(len)?;
        self.0 = tail;
        Some(head)
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    pub(crate) fn u16(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes(self.take(2)?.try_into().ok()?))
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        Some(u32::from_be_bytes(self.take(4)?.try_into().ok()?))
    }

    pub(crate) fn i64(&mut self) -> Option<i64> {
        Some(i64::from_be_bytes(self.take(8)?.try_into().ok()?))
    }

    /// A zig-zag varint of at most 64 bits.
    pub(crate) fn varint(&mut self) -> Option<i64> {
        let mut number: u64 = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            let part = u64::from(byte & 0x7f);
            if shift == 63 && part > 1 {
                return None;
            }
            number |= part << shift;
            if byte & 0x80 == 0 {
                return Some((number >> 1).cast_signed() ^ -(number & 1).cast_signed());
            }
        }
        None
    }

    /// Bytes behind their length as a varint; the inner `None` is length -1, no value.
    pub(crate) fn sized(&mut self) -> Option<Option<&'a [u8]>> {
        match self.varint()? {
            -1 => Some(None),
            len => self.take(usize::try_from(len).ok()?).map(Some),
        }
    }
}

/// Appends a zig-zag varint.
pub(crate) fn put_varint(out: &mut Vec<u8>, number: i64) {
    let mut rest = ((number << 1) ^ (number >> 63)).cast_unsigned();
    while rest >= 0x80 {
        out.push((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// Appends bytes behind their length as a varint; no value is length -1.
pub(crate) fn put_sized(out: &mut Vec<u8>, value: Option<&[u8]>) {
    let len = value.map_or(-1, |value| i64::try_from(value.len()).unwrap_or(i64::MAX));
    put_varint(out, len);
    out.extend_from_slice(value.unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varint_any_number_is_read_as_written() {
        for number in [0, -1, 1, 63, -64, 64, 8191, i64::from(i32::MIN), i64::MAX, i64::MIN] {
            let mut out = Vec::new();
            put_varint(&mut out, number);
            let mut reader = Reader(&out);
            assert_eq!(reader.varint(), Some(number));
            assert!(reader.0.is_empty());
            out.pop();
            assert_eq!(Reader(&out).varint(), None);
        }
        let mut known = Vec::new();
        put_varint(&mut known, -134_217_729);
        assert_eq!(known, [0x81, 0x80, 0x80, 0x80, 0x01]);
        assert_eq!(Reader(&[0xff; 12]).varint(), None);
    }

    #[test]
    fn sized_lying_lengths_are_none() {
        let mut out = Vec::new();
        put_sized(&mut out, Some(b"abc"));
        put_sized(&mut out, None);
        let mut reader = Reader(&out);
        assert_eq!(reader.sized(), Some(Some(b"abc".as_slice())));
        assert_eq!(reader.sized(), Some(None));
        for lie in [-2, 4, i64::MAX, i64::MIN] {
            let mut out = Vec::new();
            put_varint(&mut out, lie);
            out.extend_from_slice(b"abc");
            assert_eq!(Reader(&out).sized(), None, "{lie}");
        }
    }
}

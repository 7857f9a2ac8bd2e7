//! JSON text for the one case in which names are not known beforehand: pairs without a list of fields.

/// Writes one flat object into a buffer.
pub(crate) struct Object<'a> {
    out: &'a mut Vec<u8>,
    empty: bool,
}

impl<'a> Object<'a> {
    pub(crate) fn new(out: &'a mut Vec<u8>) -> Self {
        out.push(b'{');
        Self { out, empty: true }
    }

    /// A member whose value is a text.
    pub(crate) fn text(&mut self, name: &[u8], value: &[u8]) {
        self.name(name);
        quote(value, self.out);
    }

    /// A member whose value is JSON.
    pub(crate) fn raw(&mut self, name: &[u8], value: &str) {
        self.name(name);
        self.out.extend_from_slice(value.as_bytes());
    }

    fn name(&mut self, name: &[u8]) {
        if !self.empty {
            self.out.push(b',');
        }
        self.empty = false;
        quote(name, self.out);
        self.out.push(b':');
    }

    pub(crate) fn end(self) {
        self.out.push(b'}');
    }
}

/// Appends a JSON string. The text is UTF-8: callers have checked the line.
pub(crate) fn quote(text: &[u8], out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    out.push(b'"');
    for byte in text {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', *byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\t' => out.extend_from_slice(b"\\t"),
            b'\r' => out.extend_from_slice(b"\\r"),
            0..=0x1f => {
                out.extend_from_slice(b"\\u00");
                out.extend([HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
            }
            _ => out.push(*byte),
        }
    }
    out.push(b'"');
}

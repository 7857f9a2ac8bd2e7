//! One row of CSV as RFC 4180 has it: fields may be quoted, quotes inside are doubled, quoted fields may hold
//! separators and line breaks; lines end in LF or CRLF.
//!
//! Refuses what RFC 4180 does not know (a quote inside a bare field, text behind a closing quote) with its place.

/// The fields of one row; kept and refilled.
#[derive(Debug, Default)]
pub struct Fields {
    data: Vec<u8>,
    ends: Vec<usize>,
    places: Vec<Place>,
}

/// Where something stands, both counted from 1; columns are bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Line of the table.
    pub line: u32,
    /// Byte of the line.
    pub column: u32,
}

impl Fields {
    /// Fields in the row.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether the row is an empty line.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() <= 1 && self.data.is_empty()
    }

    /// One field's text.
    #[must_use]
    pub fn get(&self, field: usize) -> &[u8] {
        let start = if field == 0 { 0 } else { self.ends[field - 1] };
        &self.data[start..self.ends[field]]
    }

    /// Where a field begins.
    #[must_use]
    pub fn place(&self, field: usize) -> Place {
        self.places[field]
    }

    fn clear(&mut self) {
        self.data.clear();
        self.ends.clear();
        self.places.clear();
    }
}

/// What [`scan`] found.
#[derive(Debug, PartialEq, Eq)]
pub enum Scan {
    /// The row goes on behind the input.
    Incomplete,
    /// A row.
    Row {
        /// Bytes of the input that it took, its line end included.
        consumed: usize,
        /// Lines that it took.
        lines: u32,
    },
}

/// Why a text is no CSV.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum CsvFault {
    /// `a"b` in a field that does not begin with a quote.
    #[error("a quote inside a field that does not begin with one")]
    QuoteInside,
    /// `"a"b`.
    #[error("text behind the closing quote")]
    BehindQuote,
    /// The table ends inside quotes.
    #[error("the quote is never closed")]
    Unclosed,
}

/// Reads one row from the beginning of `input`; `line` is the number of its first line.
pub fn scan(
    input: &[u8],
    at_end: bool,
    separator: u8,
    line: u32,
    fields: &mut Fields,
) -> Result<Scan, (Place, CsvFault)> {
    fields.clear();
    let (mut at, mut line_start, mut lines) = (0, 0, 0);
    let place = |at: usize, line_start: usize, lines: u32| Place {
        line: line + lines,
        column: u32::try_from(at - line_start + 1).unwrap_or(u32::MAX),
    };
    loop {
        let begin = place(at, line_start, lines);
        fields.places.push(begin);
        if input.get(at) == Some(&b'"') {
            at += 1;
            loop {
                match (input.get(at), input.get(at + 1)) {
                    (None, _) if at_end => return Err((begin, CsvFault::Unclosed)),
                    (None, _) => return Ok(Scan::Incomplete),
                    (Some(b'"'), Some(b'"')) => {
                        fields.data.push(b'"');
                        at += 2;
                    }
                    (Some(b'"'), None) if !at_end => return Ok(Scan::Incomplete),
                    (Some(b'"'), _) => {
                        at += 1;
                        break;
                    }
                    (Some(byte), _) => {
                        fields.data.push(*byte);
                        at += 1;
                        if *byte == b'\n' {
                            line_start = at;
                            lines += 1;
                        }
                    }
                }
            }
        } else {
            let rest = &input[at..];
            let length = rest.iter().position(|byte| *byte == separator || *byte == b'\n' || *byte == b'"');
            let mut end = at + length.unwrap_or(rest.len());
            match input.get(end) {
                None if !at_end => return Ok(Scan::Incomplete),
                Some(b'"') => return Err((place(end, line_start, lines), CsvFault::QuoteInside)),
                Some(b'\n') | None if end > at && input[end - 1] == b'\r' => end -= 1,
                _ => {}
            }
            fields.data.extend_from_slice(&input[at..end]);
            at = end;
        }
        fields.ends.push(fields.data.len());
        let ending = match (input.get(at), input.get(at + 1)) {
            (Some(byte), _) if *byte == separator => {
                at += 1;
                continue;
            }
            (Some(b'\n'), _) => 1,
            (Some(b'\r'), Some(b'\n')) => 2,
            (Some(b'\r'), None) if at_end => 1,
            (None, _) if at_end => 0,
            (None, _) | (Some(b'\r'), None) => return Ok(Scan::Incomplete),
            _ => return Err((place(at, line_start, lines), CsvFault::BehindQuote)),
        };
        return Ok(Scan::Row { consumed: at + ending, lines: lines + u32::from(ending > 0) });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(text: &str) -> Vec<String> {
        let mut fields = Fields::default();
        let scanned = scan(text.as_bytes(), true, b',', 1, &mut fields).unwrap();
        assert!(matches!(scanned, Scan::Row { .. }));
        (0..fields.len()).map(|field| String::from_utf8(fields.get(field).to_vec()).unwrap()).collect()
    }

    #[test]
    fn scan_quotes_and_line_ends_are_as_in_rfc_4180() {
        assert_eq!(row("a,b,\r\nnext"), ["a", "b", ""]);
        assert_eq!(row("\"a,\"\"b\"\"\nc\",d"), ["a,\"b\"\nc", "d"]);
        assert_eq!(row("a,\"\"\r"), ["a", ""]);
        assert_eq!(row("a\r"), ["a"]);
        assert_eq!(row(""), [""]);
    }

    #[test]
    fn scan_faults_name_line_and_column() {
        let fault = |text: &str| scan(text.as_bytes(), true, b',', 5, &mut Fields::default()).unwrap_err();
        assert_eq!(fault("a,b\"c"), (Place { line: 5, column: 4 }, CsvFault::QuoteInside));
        assert_eq!(fault("\"a\nb\"c"), (Place { line: 6, column: 3 }, CsvFault::BehindQuote));
        assert_eq!(fault("a,\"b\nc"), (Place { line: 5, column: 3 }, CsvFault::Unclosed));
    }

    #[test]
    fn scan_cut_anywhere_asks_for_more_or_gives_the_same() {
        let text = b"a,\"b\"\"\r\n\",c\r\nd";
        let mut fields = Fields::default();
        let Ok(Scan::Row { consumed, lines: 2 }) = scan(text, false, b',', 1, &mut fields) else { panic!() };
        assert_eq!(consumed, 13);
        for cut in 0..consumed {
            let result = scan(&text[..cut], false, b',', 1, &mut Fields::default());
            assert_eq!(result, Ok(Scan::Incomplete), "{cut}");
        }
    }
}

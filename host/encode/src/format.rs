//! How rows become one object: what stands before, between and after them.
//!
//! The pipeline writes every row between `Format::open_row` and `Format::close_row`; the encoder adds
//! prefix and suffix and takes away the last separator where the format wants none there.

/// The format of an object's rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// Payload bytes as they are, one after another with nothing between them, as Amazon Data Firehose delivers by default.
    Verbatim,
    /// Payload bytes as they are, each followed by a line feed.
    Raw,
    /// One JSON text per line.
    Ndjson,
    /// One JSON array of all rows.
    JsonArray,
    /// Rows behind their lengths and arrivals, for destinations that take them one by one: see [`FRAME_HEAD_BYTES`].
    Framed(Row),
    /// A Parquet file. Rows wait for it as they do for [`Format::Ndjson`]; it is written by the crate `columnar`, and
    /// the encoder here refuses it.
    Parquet,
}

/// What a row is that stands in a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Row {
    /// Payload bytes as they are.
    Verbatim,
    /// Payload bytes as they are, and a line feed.
    Line,
    /// One JSON text, and a line feed.
    Json,
}

/// In front of each framed row stand its length, a little-endian u32, and when its record arrived: a little-endian i64, in
/// nanoseconds since the Unix epoch.
pub const FRAME_HEAD_BYTES: usize = 4 + 8;

impl Format {
    /// MIME type of the uncompressed object.
    pub fn content_type(self) -> &'static str {
        match self {
            Format::Verbatim => "application/octet-stream",
            Format::Raw => "text/plain; charset=utf-8",
            Format::Ndjson => "application/x-ndjson",
            Format::JsonArray => "application/json",
            Format::Framed(Row::Verbatim) => "application/vnd.wasmill.records",
            Format::Framed(Row::Line) => "application/vnd.wasmill.records+lines",
            Format::Framed(Row::Json) => "application/vnd.wasmill.records+json",
            Format::Parquet => "application/vnd.apache.parquet",
        }
    }

    /// Extension with its dot, or nothing.
    pub fn extension(self) -> &'static str {
        match self {
            Format::Verbatim => "",
            Format::Raw => ".log",
            Format::Ndjson => ".ndjson",
            Format::JsonArray => ".json",
            Format::Framed(_) => ".records",
            Format::Parquet => ".parquet",
        }
    }

    /// Bytes before the first row.
    pub fn prefix(self) -> &'static [u8] {
        match self {
            Format::Verbatim | Format::Raw | Format::Ndjson | Format::Framed(_) | Format::Parquet => b"",
            Format::JsonArray => b"[",
        }
    }

    /// The byte that follows every row in a piece, if one does.
    pub fn separator(self) -> Option<u8> {
        match self {
            Format::Verbatim | Format::Framed(_) => None,
            Format::Raw | Format::Ndjson | Format::Parquet => Some(b'\n'),
            Format::JsonArray => Some(b','),
        }
    }

    /// Whether the object ends as its last piece does, or the encoder takes the last separator away.
    pub fn keeps_last_separator(self) -> bool {
        !matches!(self, Format::JsonArray)
    }

    /// Bytes after the last row.
    pub fn suffix(self) -> &'static [u8] {
        match self {
            Format::Verbatim | Format::Raw | Format::Ndjson | Format::Framed(_) | Format::Parquet => b"",
            Format::JsonArray => b"]",
        }
    }

    /// Whether every row must be a valid JSON text.
    pub fn requires_json(self) -> bool {
        matches!(self, Format::Ndjson | Format::JsonArray | Format::Parquet | Format::Framed(Row::Json))
    }

    /// Begins a row behind what `rows` has: what is written next belongs to it.
    pub fn open_row(self, rows: &mut Vec<u8>) {
        if let Format::Framed(_) = self {
            rows.extend_from_slice(&[0; FRAME_HEAD_BYTES]);
        }
    }

    /// Ends the row whose first byte is at `start`, and whose record arrived at `arrival`.
    pub fn close_row(self, rows: &mut Vec<u8>, start: usize, arrival: i64) {
        let Format::Framed(row) = self else {
            rows.extend(self.separator());
            return;
        };
        if row != Row::Verbatim {
            rows.push(b'\n');
        }
        // A row is far shorter than 4 GiB.
        let length = u32::try_from(rows.len().saturating_sub(start)).unwrap_or(u32::MAX);
        let head = start.checked_sub(FRAME_HEAD_BYTES).and_then(|head| rows.get_mut(head..start));
        if let Some(head) = head {
            let (of_length, of_arrival) = head.split_at_mut(size_of::<u32>());
            of_length.copy_from_slice(&length.to_le_bytes());
            of_arrival.copy_from_slice(&arrival.to_le_bytes());
        }
    }

    /// Size of the uncompressed object whose pieces add up to `framed_bytes` (rows with their separators).
    pub fn object_bytes(self, framed_bytes: u64) -> u64 {
        let dropped = u64::from(framed_bytes > 0 && !self.keeps_last_separator());
        framed_bytes - dropped + self.prefix().len() as u64 + self.suffix().len() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn framed_rows_stand_behind_their_lengths() {
        for (row, expected) in [
            (Row::Verbatim, [&b"\x01\0\0\0"[..], b"a", b"\0\0\0\0", b"", b"\x02\0\0\0", b"\n\n"]),
            (Row::Line, [b"\x02\0\0\0", b"a\n", b"\x01\0\0\0", b"\n", b"\x03\0\0\0", b"\n\n\n"]),
        ] {
            let expected: Vec<u8> = expected
                .chunks(2)
                .zip([7_i64, -1, i64::MAX])
                .flat_map(|(row, arrival)| [row[0], &arrival.to_le_bytes(), row[1]].concat())
                .collect();
            let mut rows = Vec::new();
            for (text, arrival) in [("a", 7), ("", -1), ("\n\n", i64::MAX)] {
                Format::Framed(row).open_row(&mut rows);
                let start = rows.len();
                rows.extend_from_slice(text.as_bytes());
                Format::Framed(row).close_row(&mut rows, start, arrival);
            }
            assert_eq!(rows, expected, "{row:?}");
        }
        let mut rows = b"x".to_vec();
        Format::Ndjson.open_row(&mut rows);
        Format::Ndjson.close_row(&mut rows, 1, 0);
        assert_eq!(rows, b"x\n");
    }
}

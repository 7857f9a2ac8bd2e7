//! What has come of one record so far: pieces one after the other in one buffer, each with its label.

use wasmill_sdk::log;

use crate::config::Limits;

/// What a piece has of its own besides its bytes; numbers of names. `None`: what its record has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Label {
    pub(crate) key: Option<u32>,
    pub(crate) hash_key: Option<u32>,
}

/// Pieces in order. Keeps its buffers.
#[derive(Debug, Default)]
pub(crate) struct Pieces {
    data: Vec<u8>,
    /// The end of each piece in `data`.
    ends: Vec<(usize, Label)>,
}

impl Pieces {
    pub(crate) fn clear(&mut self) {
        self.data.clear();
        self.ends.clear();
    }

    /// Starts with a whole record.
    pub(crate) fn start(&mut self, record: &[u8]) {
        self.clear();
        self.data.extend_from_slice(record);
        self.ends.push((record.len(), Label::default()));
    }

    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    /// Bytes of all pieces.
    pub(crate) fn bytes(&self) -> usize {
        self.data.len()
    }

    /// Bytes that further pieces may have.
    pub(crate) fn room(&self, limits: &Limits) -> usize {
        limits.max_bytes.saturating_sub(self.data.len())
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&[u8], Label)> {
        let starts = std::iter::once(0).chain(self.ends.iter().map(|(end, _)| *end));
        starts.zip(&self.ends).map(|(start, (end, label))| (&self.data[start..*end], *label))
    }

    /// Appends a piece that is made of parts.
    pub(crate) fn push(&mut self, limits: &Limits, label: Label, parts: &[&[u8]]) -> Result<(), String> {
        if self.room(limits) < parts.iter().map(|part| part.len()).sum() {
            return Err(limits.too_large());
        }
        for part in parts {
            self.data.extend_from_slice(part);
        }
        self.finish(limits, label)
    }

    /// The buffer, to append a piece to that [`Pieces::finish`] closes.
    pub(crate) fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.data
    }

    /// Closes a piece that was appended to [`Pieces::buffer`].
    pub(crate) fn finish(&mut self, limits: &Limits, label: Label) -> Result<(), String> {
        if self.data.len() > limits.max_bytes {
            return Err(limits.too_large());
        }
        if self.ends.len() >= limits.max_records {
            return Err(limits.too_many());
        }
        self.ends.push((self.data.len(), label));
        Ok(())
    }

    /// Where the next piece goes, for [`Pieces::leave_whole`].
    pub(crate) fn mark(&self) -> (usize, usize) {
        (self.data.len(), self.ends.len())
    }

    /// Takes back what was appended since the mark, and appends what it came of: that holds more than `most` records. It is
    /// said in the log, under the code of Amazon Data Firehose.
    pub(crate) fn leave_whole(
        &mut self,
        limits: &Limits,
        label: Label,
        (bytes, pieces): (usize, usize),
        piece: &[u8],
        most: usize,
    ) -> Result<(), String> {
        self.data.truncate(bytes);
        self.ends.truncate(pieces);
        let length = piece.len();
        log::write(
            log::Level::Warn,
            &format!(
                "DynamicPartitioning.DeAggregationRecordCountLimitExceeded: a record of {length} bytes holds more than {most} \
                 records and is left whole"
            ),
        );
        self.push(limits, label, &[piece])
    }
}

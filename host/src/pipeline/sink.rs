//! Gathers the final rows of one slice per output and partition, framed for the output's format.

use std::collections::HashMap;

use bytes::Bytes;
use wasmill_chunk::{Partition, RowMeta, RowSink};
use wasmill_encode::Format;

use super::batch::{Piece, Rows};
use super::outcome::BatchKey;

/// One piece in the making.
struct Gathering {
    route: u32,
    partition: Partition,
    rows: Vec<u8>,
    records: u64,
    first_offset: u64,
    first_arrival: i64,
}

/// See the head of this file.
pub(crate) struct SliceSink {
    formats: Vec<Format>,
    /// Stands for rows without a source, and is the first offset of pieces that hold only such rows.
    slice_offset: u64,
    /// Room for the rows of the first piece: growing by doubling would copy them and touch fresh pages again and again.
    room: usize,
    gathering: Vec<Gathering>,
    index: HashMap<(u32, Partition), usize>,
    current: usize,
}

impl SliceSink {
    /// `formats` by output number; `slice_offset` is the slice's first offset; `room` is what the first piece will take,
    /// as far as that is known.
    pub(crate) fn new(formats: Vec<Format>, slice_offset: u64, room: usize) -> SliceSink {
        SliceSink { formats, slice_offset, room, gathering: Vec::new(), index: HashMap::new(), current: 0 }
    }

    /// The pieces in order of appearance.
    pub(crate) fn into_pieces(self) -> Vec<(BatchKey, Piece)> {
        self.gathering
            .into_iter()
            .filter(|gathering| gathering.records > 0)
            .map(|gathering| {
                let partition = gathering
                    .partition
                    .values
                    .iter()
                    .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value).into_owned()))
                    .collect();
                let piece = Piece {
                    rows: Rows::Pending(Bytes::from(gathering.rows)),
                    records: gathering.records,
                    first_offset: gathering.first_offset,
                    first_arrival: gathering.first_arrival,
                };
                (BatchKey { output: gathering.route, partition }, piece)
            })
            .collect()
    }

    /// Bytes of the first piece.
    pub(crate) fn first_bytes(&self) -> usize {
        self.gathering.first().map_or(0, |gathering| gathering.rows.len())
    }

    fn find(&mut self, row: &RowMeta<'_>) -> usize {
        let current = self.gathering.get(self.current);
        if current.is_some_and(|g| g.route == row.route && g.partition == *row.partition) {
            return self.current;
        }
        let next = self.gathering.len();
        let index = *self.index.entry((row.route, row.partition.clone())).or_insert(next);
        if index < next {
            return index;
        }
        self.gathering.push(Gathering {
            route: row.route,
            partition: row.partition.clone(),
            rows: Vec::with_capacity(std::mem::take(&mut self.room)),
            records: 0,
            first_offset: u64::try_from(row.offset).unwrap_or(self.slice_offset),
            first_arrival: row.arrival,
        });
        index
    }
}

impl RowSink for SliceSink {
    fn begin(&mut self, row: &RowMeta<'_>) -> &mut Vec<u8> {
        self.current = self.find(row);
        &mut self.gathering[self.current].rows
    }

    fn end(&mut self, row: &RowMeta<'_>) {
        let gathering = &mut self.gathering[self.current];
        gathering.rows.push(self.formats[row.route as usize].separator());
        gathering.records += 1;
        gathering.first_arrival = gathering.first_arrival.min(row.arrival);
    }
}

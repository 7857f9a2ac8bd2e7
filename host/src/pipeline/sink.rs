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

/// Which rows came of which record, and where they went.
#[derive(Clone)]
pub(crate) struct Trace {
    pub(crate) rows: Vec<Row>,
    pieces: Vec<(BatchKey, Bytes)>,
    outputs: Vec<String>,
}

/// One row, without its separator.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    /// Below 0: no record stands behind it.
    pub(crate) offset: i64,
    child: u32,
    arrival: i64,
    piece: usize,
    start: usize,
    end: usize,
}

/// A row and what is known of it.
pub(crate) struct Indexed<'s> {
    pub(crate) offset: i64,
    pub(crate) child: u32,
    pub(crate) route: u32,
    pub(crate) arrival: i64,
    pub(crate) bytes: &'s [u8],
}

impl Trace {
    pub(crate) fn bytes(&self, row: &Row) -> &[u8] {
        &self.pieces[row.piece].1[row.start..row.end]
    }

    pub(crate) fn key(&self, row: &Row) -> &BatchKey {
        &self.pieces[row.piece].0
    }

    /// Adds what came of other records of the slice.
    pub(crate) fn append(&mut self, more: Trace) {
        let before = self.pieces.len();
        self.rows.extend(more.rows.into_iter().map(|row| Row { piece: before + row.piece, ..row }));
        self.pieces.extend(more.pieces);
    }

    /// Bytes of memory, about.
    pub(crate) fn size(&self) -> usize {
        let rows = self.rows.len() * size_of::<Row>();
        rows + self.pieces.iter().map(|(key, bytes)| size_of_val(key) + bytes.len()).sum::<usize>()
    }

    /// Name of the output that it goes to.
    pub(crate) fn output(&self, row: &Row) -> &str {
        self.outputs.get(self.key(row).output as usize).map_or("", String::as_str)
    }

    /// Of rows `(offset, output, text)`.
    #[cfg(test)]
    pub(crate) fn of(outputs: Vec<String>, rows: &[(i64, u32, &str)]) -> Trace {
        let piece = |(_, output, text): &(i64, u32, &str)| {
            (BatchKey { output: *output, partition: Vec::new() }, Bytes::from(text.as_bytes().to_vec()))
        };
        let pieces = rows.iter().map(piece).collect();
        let row = |(piece, (offset, _, text)): (usize, &(i64, u32, &str))| Row {
            offset: *offset,
            child: 0,
            arrival: 0,
            piece,
            start: 0,
            end: text.len(),
        };
        Trace { rows: rows.iter().enumerate().map(row).collect(), pieces, outputs }
    }
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
    /// Where the row that is being written begins.
    start: usize,
    rows: Option<Vec<Row>>,
}

impl SliceSink {
    /// `formats` by output number; `slice_offset` is the slice's first offset; `room` is what the first piece will take,
    /// as far as that is known.
    pub(crate) fn new(formats: Vec<Format>, slice_offset: u64, room: usize) -> SliceSink {
        SliceSink {
            formats,
            slice_offset,
            room,
            gathering: Vec::new(),
            index: HashMap::new(),
            current: 0,
            start: 0,
            rows: None,
        }
    }

    /// With an index of its rows, of which a trace is made at the end.
    pub(crate) fn traced(self) -> SliceSink {
        SliceSink { rows: Some(Vec::new()), ..self }
    }

    /// The pieces in order of appearance.
    pub(crate) fn into_pieces(self) -> Vec<(BatchKey, Piece)> {
        self.finish(&[]).0
    }

    /// The same, and the trace if one was asked for.
    pub(crate) fn finish(self, outputs: &[String]) -> (Vec<(BatchKey, Piece)>, Option<Trace>) {
        let all: Vec<(BatchKey, Piece)> = self
            .gathering
            .into_iter()
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
            .collect();
        let trace = self.rows.map(|rows| {
            let bytes = |piece: &Piece| match &piece.rows {
                Rows::Pending(bytes) => bytes.clone(),
                Rows::Durable { .. } => Bytes::new(),
            };
            let pieces = all.iter().map(|(key, piece)| (key.clone(), bytes(piece))).collect();
            Trace { rows, pieces, outputs: outputs.to_vec() }
        });
        (all.into_iter().filter(|(_, piece)| piece.records > 0).collect(), trace)
    }

    /// Every row, in the order in which they came; none without an index.
    pub(crate) fn indexed(&self) -> impl Iterator<Item = Indexed<'_>> {
        self.rows.iter().flatten().filter_map(|row| {
            let gathering = self.gathering.get(row.piece)?;
            let bytes = gathering.rows.get(row.start..row.end)?;
            let (offset, child, arrival) = (row.offset, row.child, row.arrival);
            Some(Indexed { offset, child, route: gathering.route, arrival, bytes })
        })
    }

    /// Keeps rows of which `keeps` says so, by their number in the index and their offset; how many are gone.
    pub(crate) fn retain(&mut self, mut keeps: impl FnMut(usize, i64) -> bool) -> u64 {
        let Some(rows) = self.rows.take() else { return 0 };
        let before = rows.len();
        let old: Vec<Vec<u8>> =
            self.gathering.iter_mut().map(|gathering| std::mem::take(&mut gathering.rows)).collect();
        for gathering in &mut self.gathering {
            gathering.records = 0;
        }
        let mut kept = Vec::with_capacity(before);
        for (_, row) in rows.into_iter().enumerate().filter(|(number, row)| keeps(*number, row.offset)) {
            let gathering = &mut self.gathering[row.piece];
            let format = self.formats[gathering.route as usize];
            format.open_row(&mut gathering.rows);
            let start = gathering.rows.len();
            gathering.rows.extend_from_slice(&old[row.piece][row.start..row.end]);
            let end = gathering.rows.len();
            format.close_row(&mut gathering.rows, start, row.arrival);
            if gathering.records == 0 {
                gathering.first_offset = u64::try_from(row.offset).unwrap_or(self.slice_offset);
                gathering.first_arrival = row.arrival;
            }
            gathering.records += 1;
            gathering.first_arrival = gathering.first_arrival.min(row.arrival);
            kept.push(Row { start, end, ..row });
        }
        let gone = before - kept.len();
        self.rows = Some(kept);
        gone as u64
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
        let rows = &mut self.gathering[self.current].rows;
        self.formats[row.route as usize].open_row(rows);
        self.start = rows.len();
        rows
    }

    fn end(&mut self, row: &RowMeta<'_>) {
        let gathering = &mut self.gathering[self.current];
        let format = self.formats[row.route as usize];
        if format.requires_json() {
            on_one_line(&mut gathering.rows, self.start);
        }
        if let Some(rows) = &mut self.rows {
            let (start, end) = (self.start, gathering.rows.len());
            let (offset, child, arrival) = (row.offset, row.child, row.arrival);
            rows.push(Row { offset, child, arrival, piece: self.current, start, end });
        }
        format.close_row(&mut gathering.rows, self.start, row.arrival);
        gathering.records += 1;
        gathering.first_arrival = gathering.first_arrival.min(row.arrival);
    }
}

/// JSON has line feeds only between its tokens, where a space does as well.
fn on_one_line(rows: &mut Vec<u8>, start: usize) {
    if !rows[start..].contains(&b'\n') {
        return;
    }
    let end = start + rows[start..].trim_ascii_end().len();
    rows.truncate(end);
    rows[start..].iter_mut().filter(|byte| **byte == b'\n').for_each(|byte| *byte = b' ');
}

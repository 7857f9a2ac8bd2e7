//! The columns of a slice's inputs on their way into a process: payloads and their ends; offsets, arrival deltas, keys, attributes,
//! event times and watermarks where there are any.

use std::ops::Range;

use wasmill_chunk::{Cells, CellsRef, Column, ColumnRef, Input};

use super::messages::InputHead;
use super::wire::{Body, put_i64s, put_u32s};
use crate::event_time::RowTimes;

/// Some rows of an input: what they are, their payloads, and the columns behind these. `None`: the columns are no columns.
pub(super) fn columns<'a>(
    input: &Input<'a>,
    rows: &Range<usize>,
    times: Option<&RowTimes<'_>>,
) -> Option<(InputHead, &'a [u8], Vec<u8>)> {
    let mut out = Vec::with_capacity(rows.len() * 8);
    let payload = put_ends(input.payloads, rows, &mut out)?;
    if let Some(offsets) = input.offsets {
        put_i64s(&mut out, offsets.get(rows.clone())?.iter().map(|offset| offset.cast_signed()));
    }
    if let Some(deltas) = input.arrival_deltas {
        put_u32s(&mut out, deltas.get(rows.clone())?.iter().copied());
    }
    let keys = match &input.keys {
        Some(keys) => Some(put_cells(keys, rows, &mut out)?),
        None => None,
    };
    let mut attributes = Vec::with_capacity(input.attributes.len());
    for (name, cells) in input.attributes {
        attributes.push((name.clone(), put_cells(cells, rows, &mut out)?));
    }
    if let Some(RowTimes { times, watermarks }) = times {
        put_i64s(&mut out, times.get(rows.clone())?.iter().copied());
        put_i64s(&mut out, watermarks.get(rows.clone())?.iter().copied());
    }
    let head = InputHead {
        first_offset: input.offset(rows.start),
        arrival: input.arrival,
        rows: u32::try_from(rows.len()).ok()?,
        payload_bytes: u32::try_from(payload.len()).ok()?,
        offsets: input.offsets.is_some(),
        deltas: input.arrival_deltas.is_some(),
        keys,
        attributes,
        timed: times.is_some(),
    };
    Some((head, payload, out))
}

/// Writes the ends of some values, counted from the first of them, and returns their bytes.
fn put_ends<'a>(column: ColumnRef<'a>, rows: &Range<usize>, out: &mut Vec<u8>) -> Option<&'a [u8]> {
    let start = if rows.start == 0 { 0 } else { *column.ends.get(rows.start - 1)? };
    let ends = column.ends.get(rows.clone())?;
    put_u32s(out, ends.iter().map(|end| end.wrapping_sub(start)));
    column.data.get(start as usize..ends.last().map_or(start, |end| *end) as usize)
}

/// States, ends and values; how many bytes the values are.
fn put_cells(cells: &CellsRef<'_>, rows: &Range<usize>, out: &mut Vec<u8>) -> Option<u32> {
    out.extend_from_slice(cells.state.get(rows.clone())?);
    let values = put_ends(cells.values, rows, out)?;
    out.extend_from_slice(values);
    u32::try_from(values.len()).ok()
}

/// The columns of one input, as they came.
pub(super) struct Columns<'a> {
    payload: &'a [u8],
    ends: Vec<u32>,
    offsets: Option<Vec<u64>>,
    deltas: Option<Vec<u32>>,
    keys: Option<Cells>,
    attributes: Vec<(String, Cells)>,
    times: Vec<i64>,
    watermarks: Vec<i64>,
}

impl<'a> Columns<'a> {
    pub(super) fn read(head: &InputHead, body: &mut Body<'a>) -> Option<Columns<'a>> {
        let rows = head.rows as usize;
        let payload = body.bytes(head.payload_bytes as usize)?;
        let ends = body.ends(rows, payload.len())?;
        let offsets = if head.offsets {
            Some(body.i64s(rows)?.into_iter().map(i64::cast_unsigned).collect())
        } else {
            None
        };
        let deltas = if head.deltas { Some(body.u32s(rows)?) } else { None };
        let keys = match head.keys {
            Some(length) => Some(cells(body, rows, length)?),
            None => None,
        };
        let attributes = head
            .attributes
            .iter()
            .map(|(name, length)| Some((name.clone(), cells(body, rows, *length)?)))
            .collect::<Option<_>>()?;
        let timed = if head.timed { rows } else { 0 };
        let (times, watermarks) = (body.i64s(timed)?, body.i64s(timed)?);
        Some(Columns { payload, ends, offsets, deltas, keys, attributes, times, watermarks })
    }

    pub(super) fn attributes(&self) -> Vec<(String, CellsRef<'_>)> {
        self.attributes.iter().map(|(name, cells)| (name.clone(), cells.as_ref())).collect()
    }

    pub(super) fn input(&'a self, head: &InputHead, attributes: &'a [(String, CellsRef<'a>)]) -> Input<'a> {
        Input {
            first_offset: head.first_offset,
            offsets: self.offsets.as_deref(),
            payloads: ColumnRef { data: self.payload, ends: &self.ends },
            arrival: head.arrival,
            arrival_deltas: self.deltas.as_deref(),
            keys: self.keys.as_ref().map(Cells::as_ref),
            attributes,
        }
    }

    pub(super) fn times(&self) -> RowTimes<'_> {
        RowTimes { times: &self.times, watermarks: &self.watermarks }
    }
}

fn cells(body: &mut Body<'_>, rows: usize, length: u32) -> Option<Cells> {
    let state = body.bytes(rows)?.to_vec();
    let ends = body.ends(rows, length as usize)?;
    Some(Cells { state, values: Column { data: body.bytes(length as usize)?.to_vec(), ends } })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_of_rows_that_are_not_consecutive_come_as_they_were() {
        let payloads = ColumnRef { data: b"abbccc", ends: &[1, 3, 6] };
        let input = Input {
            offsets: Some(&[7, 9, 30]),
            arrival_deltas: Some(&[0, 1, 2]),
            ..Input::of_payloads(7, payloads)
        };
        let (head, payload, rest) = columns(&input, &(1..3), None).unwrap();
        let body = [payload, &rest].concat();
        let read = Columns::read(&head, &mut Body(&body)).unwrap();
        let attributes = read.attributes();
        let input = read.input(&head, &attributes);
        let rows: Vec<(u64, &[u8])> =
            (0..2).map(|row| (input.offset(row), input.payloads.get(row))).collect();
        assert_eq!(rows, [(9, &b"bb"[..]), (30, b"ccc")]);
        assert_eq!((head.first_offset, input.arrival_deltas), (9, Some(&[1, 2][..])));
        // Others have none.
        let (head, payload, rest) = columns(&Input::of_payloads(7, payloads), &(1..3), None).unwrap();
        let body = [payload, &rest].concat();
        let read = Columns::read(&head, &mut Body(&body)).unwrap();
        assert_eq!((read.offsets, head.first_offset), (None, 8));
    }
}

//! A frame of records in memory, and its columns to and from a frame's body.
//!
//! Encoding copies everything but the payload; decoding copies everything but the bytes of payload and cells.

use bytes::Bytes;

use crate::format::{COLUMN_REQUIRED, ColumnEntry, Header, Kind, OPTIONAL_PRODUCER, column};
use crate::limits;
use crate::records::{Cells, Numbered, Producer, Records};
use crate::wire::{Take, pad, put_bytes, put_u32, put_u64};

/// Consecutive records of a stream, as appended. Record `i` is `payload[ends[i-1]..ends[i]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Journal position.
    pub position: u64,
    pub base_offset: u64,
    pub count: u32,
    /// Nanoseconds since 1970; never decreases from frame to frame of a stream.
    pub arrival: i64,
    pub arrival_deltas: Option<Vec<u32>>,
    pub payload: Bytes,
    pub ends: Vec<u32>,
    pub keys: Option<Cells>,
    pub attributes: Vec<(String, Cells)>,
    pub event_times: Option<Vec<i64>>,
    pub producer: Option<Producer>,
    /// Name of the source that it was appended with; empty without one.
    pub source: String,
}

impl Frame {
    /// Offset behind the last record.
    pub fn end_offset(&self) -> u64 {
        self.base_offset + u64::from(self.count)
    }

    /// Bytes of record `row`, counted inside the frame.
    pub fn record(&self, row: usize) -> Option<&[u8]> {
        let end = *self.ends.get(row)? as usize;
        let start = match row.checked_sub(1) {
            Some(before) => *self.ends.get(before)? as usize,
            None => 0,
        };
        self.payload.get(start..end)
    }

    pub fn records(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.ends.len()).filter_map(|row| self.record(row))
    }

    /// Those of its records, at least one, as if they had been appended together: only the offset of the first is told.
    pub fn gathered(&self, rows: &[usize]) -> Frame {
        let mut payload =
            Vec::with_capacity(rows.iter().filter_map(|row| self.record(*row)).map(<[u8]>::len).sum());
        let mut ends = Vec::with_capacity(rows.len());
        for row in rows {
            payload.extend_from_slice(self.record(*row).unwrap_or_default());
            // No longer than the frame's own.
            ends.push(payload.len() as u32);
        }
        let cells = |cells: &Cells| cells.gathered(rows);
        let at = |values: &Vec<i64>| rows.iter().filter_map(|row| values.get(*row)).copied().collect();
        Frame {
            position: self.position,
            base_offset: self.base_offset + rows.first().map_or(0, |row| *row as u64),
            count: ends.len() as u32,
            arrival: self.arrival,
            arrival_deltas: self
                .arrival_deltas
                .as_ref()
                .map(|deltas| rows.iter().filter_map(|row| deltas.get(*row)).copied().collect()),
            payload: payload.into(),
            ends,
            keys: self.keys.as_ref().map(cells),
            attributes: self.attributes.iter().map(|(name, values)| (name.clone(), cells(values))).collect(),
            event_times: self.event_times.as_ref().map(at),
            producer: None,
            source: self.source.clone(),
        }
    }

    /// Bytes that the frame keeps in memory, about.
    pub(crate) fn memory_bytes(&self) -> u64 {
        let cells = |c: &Cells| c.data.len() + c.ends.len() * 5;
        let columns = self.payload.len()
            + self.ends.len() * 4
            + self.arrival_deltas.as_ref().map_or(0, |d| d.len() * 4)
            + self.event_times.as_ref().map_or(0, |t| t.len() * 8)
            + self.keys.iter().chain(self.attributes.iter().map(|(_, c)| c)).map(cells).sum::<usize>();
        columns as u64 + self.source.len() as u64 + 256
    }

    pub(crate) fn from_records(header: &Header, records: Records) -> Frame {
        Frame {
            position: header.position,
            base_offset: header.base,
            count: header.count,
            arrival: header.arrival,
            arrival_deltas: records.arrival_deltas,
            payload: records.payload,
            ends: records.ends,
            keys: records.keys,
            attributes: records.attributes,
            event_times: records.event_times,
            producer: records.producer,
            source: String::from_utf8_lossy(&header.source_name).into_owned(),
        }
    }

    /// Decodes a body whose checksum was checked. `None` if the columns contradict each other.
    pub(crate) fn decode(header: &Header, body: &Bytes) -> Option<Frame> {
        let count = header.count as usize;
        let ends = u32s(&column_of(header, body, column::ENDS)?)?;
        let payload = column_of(header, body, column::PAYLOAD)?;
        let deltas = column_of(header, body, column::ARRIVAL_DELTAS).map(|bytes| u32s(&bytes));
        let times = column_of(header, body, column::EVENT_TIMES).map(|bytes| i64s(&bytes));
        let keys = column_of(header, body, column::KEYS).map(|bytes| get_cells(&bytes, count));
        let attributes = match column_of(header, body, column::ATTRIBUTES) {
            Some(bytes) => get_attributes(&bytes, count)?,
            None => Vec::new(),
        };
        let producer = (header.optional & OPTIONAL_PRODUCER != 0).then_some(Producer {
            id: header.producer_id,
            epoch: header.producer_epoch,
            first_sequence: header.producer_sequence,
        });
        // An absent column is `None`, one that cannot be decoded makes the frame bad.
        let records = Records {
            payload,
            ends,
            arrival: header.arrival,
            arrival_deltas: deltas.map_or(Some(None), |d| d.map(Some))?,
            keys: keys.map_or(Some(None), |k| k.map(Some))?,
            attributes,
            event_times: times.map_or(Some(None), |t| t.map(Some))?,
            source: None,
            producer,
            numbered: None,
            early: false,
        };
        (records.ends.len() == count && records.check().is_ok()).then(|| Frame::from_records(header, records))
    }
}

/// A frame's body before it is written: small columns encoded, the payload as it came.
#[derive(Debug, Default)]
pub(crate) struct Body {
    /// Columns before the payload.
    pub(crate) head: Vec<u8>,
    pub(crate) payload: Bytes,
    /// The payload's padding, columns behind it, and the frame's padding.
    pub(crate) tail: Vec<u8>,
}

impl Body {
    /// Encodes checked records and fills in all of the header that follows from them.
    pub(crate) fn of_records(header: &mut Header, records: &Records) -> Body {
        let mut body = Body { payload: records.payload.clone(), ..Body::default() };
        put_u32s(&mut body.head, &records.ends);
        add(header, column::ENDS, body.head.len());
        pad(&mut body.head, 8);
        add(header, column::PAYLOAD, body.payload.len());
        let mut columns = Vec::new();
        if let Some(deltas) = &records.arrival_deltas {
            put_u32s(&mut columns, deltas);
            add(header, column::ARRIVAL_DELTAS, columns.len());
            pad(&mut columns, 8);
        }
        if let Some(keys) = &records.keys {
            let start = columns.len();
            put_cells(&mut columns, keys);
            add(header, column::KEYS, columns.len() - start);
            pad(&mut columns, 8);
        }
        if !records.attributes.is_empty() {
            let start = columns.len();
            put_u32(&mut columns, u32::try_from(records.attributes.len()).unwrap_or(0));
            for (name, cells) in &records.attributes {
                put_bytes(&mut columns, name.as_bytes());
                put_u32(&mut columns, u32::try_from(cells.data.len() + cells.ends.len() * 5).unwrap_or(0));
                put_cells(&mut columns, cells);
            }
            add(header, column::ATTRIBUTES, columns.len() - start);
            pad(&mut columns, 8);
        }
        if let Some(times) = &records.event_times {
            let start = columns.len();
            times.iter().for_each(|time| columns.extend_from_slice(&time.to_le_bytes()));
            add(header, column::EVENT_TIMES, columns.len() - start);
        }
        if let Some(numbered) = &records.numbered {
            let start = columns.len();
            put_u64(&mut columns, numbered.sequence);
            columns.extend_from_slice(&numbered.digest);
            columns.extend_from_slice(numbered.producer.as_bytes());
            // A reader that does not know it still reads the records.
            let len = u32::try_from(columns.len() - start).unwrap_or(u32::MAX);
            header.columns.push(ColumnEntry { id: column::NUMBERED, flags: 0, len });
            pad(&mut columns, 8);
        }
        header.count = u32::try_from(records.ends.len()).unwrap_or(0);
        header.arrival = records.arrival;
        if let Some(producer) = records.producer {
            header.optional |= OPTIONAL_PRODUCER;
            header.producer_id = producer.id;
            header.producer_epoch = producer.epoch;
            header.producer_sequence = producer.first_sequence;
        }
        if let Some(source) = &records.source {
            header.partition = source.partition;
            header.source_name = source.name.as_bytes().to_vec();
            header.source_position.clone_from(&source.position);
        }
        body.finish(header, &columns);
        body
    }

    /// The body of every kind but records.
    pub(crate) fn of_content(header: &mut Header, content: Bytes) -> Body {
        let mut body = Body { payload: content, ..Body::default() };
        if !body.payload.is_empty() {
            add(header, column::CONTENT, body.payload.len());
        }
        body.finish(header, &[]);
        body
    }

    fn finish(&mut self, header: &mut Header, columns: &[u8]) {
        let payload_pad = self.payload.len().next_multiple_of(8) - self.payload.len();
        self.tail.resize(payload_pad, 0);
        self.tail.extend_from_slice(columns);
        let body_len = self.head.len() + self.payload.len() + self.tail.len();
        header.body_len = body_len as u64;
        header.body_crc = crc32c::crc32c_append(
            crc32c::crc32c_append(crc32c::crc32c(&self.head), &self.payload),
            &self.tail,
        );
        let len = header.header_len() + body_len;
        let frame_pad = len.next_multiple_of(limits::ALIGN as usize) - len;
        self.tail.resize(self.tail.len() + frame_pad, 0);
    }
}

/// The content column of an entry; empty if it has none.
pub(crate) fn content(header: &Header, body: &Bytes) -> Bytes {
    column_of(header, body, column::CONTENT).unwrap_or_default()
}

/// The request that a frame's records are of, if its producer numbered it.
pub(crate) fn numbered(header: &Header, body: &Bytes) -> Option<Numbered> {
    let column = column_of(header, body, column::NUMBERED)?;
    let mut take = Take(&column);
    let sequence = take.u64()?;
    let digest = *take.bytes(16)?.first_chunk()?;
    Some(Numbered { producer: std::str::from_utf8(take.0).ok()?.into(), sequence, digest })
}

/// True if records may be decoded at all: the only kind with a structure of its own in the body.
pub(crate) fn is_sound(header: &Header, body: &Bytes) -> bool {
    header.kind != Kind::Records || Frame::decode(header, body).is_some()
}

fn add(header: &mut Header, id: u16, len: usize) {
    let len = u32::try_from(len).unwrap_or(u32::MAX);
    header.columns.push(ColumnEntry { id, flags: COLUMN_REQUIRED, len });
}

fn column_of(header: &Header, body: &Bytes, id: u16) -> Option<Bytes> {
    let mut at = 0usize;
    for column in &header.columns {
        let len = column.len as usize;
        if column.id == id {
            return (at + len <= body.len()).then(|| body.slice(at..at + len));
        }
        at += len.next_multiple_of(8);
    }
    None
}

fn put_u32s(out: &mut Vec<u8>, values: &[u32]) {
    let start = out.len();
    out.resize(start + values.len() * 4, 0);
    let room = out.get_mut(start..).unwrap_or_default();
    for (to, value) in room.chunks_exact_mut(4).zip(values) {
        to.copy_from_slice(&value.to_le_bytes());
    }
}

fn u32s(bytes: &[u8]) -> Option<Vec<u32>> {
    let (values, []) = bytes.as_chunks::<4>() else { return None };
    Some(values.iter().map(|value| u32::from_le_bytes(*value)).collect())
}

fn i64s(bytes: &[u8]) -> Option<Vec<i64>> {
    let (values, []) = bytes.as_chunks::<8>() else { return None };
    Some(values.iter().map(|value| i64::from_le_bytes(*value)).collect())
}

fn put_cells(out: &mut Vec<u8>, cells: &Cells) {
    put_u32s(out, &cells.ends);
    out.extend_from_slice(&cells.state);
    out.extend_from_slice(&cells.data);
}

fn get_cells(bytes: &Bytes, count: usize) -> Option<Cells> {
    let ends = u32s(bytes.get(..count.checked_mul(4)?)?)?;
    let state = bytes.get(count * 4..count * 5)?.to_vec();
    Some(Cells { state, data: bytes.slice(count * 5..), ends })
}

fn get_attributes(bytes: &Bytes, count: usize) -> Option<Vec<(String, Cells)>> {
    let mut take = Take(bytes);
    let number = take.u32()? as usize;
    if number > limits::ATTRIBUTES_MAX {
        return None;
    }
    let mut attributes = Vec::with_capacity(number);
    for _ in 0..number {
        let name = String::from_utf8(take.prefixed()?.to_vec()).ok()?;
        let cells = take.prefixed()?;
        attributes.push((name, get_cells(&bytes.slice_ref(cells), count)?));
    }
    Some(attributes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::SourcePosition;
    use proptest::prelude::*;

    fn cells(count: usize) -> impl Strategy<Value = Cells> {
        prop::collection::vec((0u8..4, prop::collection::vec(any::<u8>(), 0..9)), count).prop_map(|rows| {
            let mut cells = Cells::default();
            let mut data = Vec::new();
            for (state, value) in rows {
                data.extend(value);
                cells.state.push(state);
                cells.ends.push(data.len() as u32);
            }
            cells.data = data.into();
            cells
        })
    }

    pub(crate) fn records() -> impl Strategy<Value = Records> {
        prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 1..30).prop_flat_map(|rows| {
            let count = rows.len();
            (
                Just(rows),
                any::<i64>(),
                prop::option::of(prop::collection::vec(any::<u32>(), count)),
                prop::option::of(cells(count)),
                prop::collection::vec(("[a-z]{0,8}", cells(count)), 0..3),
                prop::option::of(prop::collection::vec(any::<i64>(), count)),
                prop::option::of(("[a-z/]{0,20}", any::<u32>(), prop::collection::vec(any::<u8>(), 0..20))),
                prop::option::of((any::<u64>(), any::<u16>(), any::<u32>())),
                prop::option::of(("[!-~]{1,128}", any::<u64>(), any::<[u8; 16]>())),
            )
                .prop_map(
                    |(
                        rows,
                        arrival,
                        arrival_deltas,
                        keys,
                        attributes,
                        event_times,
                        source,
                        producer,
                        numbered,
                    )| {
                        let mut payload = Vec::new();
                        let mut ends = Vec::new();
                        for row in rows {
                            payload.extend(row);
                            ends.push(payload.len() as u32);
                        }
                        Records {
                            payload: payload.into(),
                            ends,
                            arrival,
                            arrival_deltas,
                            keys,
                            attributes,
                            event_times,
                            source: source.map(|(name, partition, position)| SourcePosition {
                                name,
                                partition,
                                position,
                            }),
                            producer: producer.map(|(id, epoch, first_sequence)| Producer {
                                id,
                                epoch,
                                first_sequence,
                            }),
                            numbered: numbered.map(|(name, sequence, digest)| Numbered {
                                producer: name.into(),
                                sequence,
                                digest,
                            }),
                            early: false,
                        }
                    },
                )
        })
    }

    fn written(header: &Header, body: &Body) -> Vec<u8> {
        let mut bytes = Vec::new();
        header.write(&mut bytes);
        bytes.extend_from_slice(&body.head);
        bytes.extend_from_slice(&body.payload);
        bytes.extend_from_slice(&body.tail);
        bytes
    }

    proptest! {
        #[test]
        fn frame_written_reads_back(records in records()) {
            prop_assert!(records.check().is_ok());
            let mut header = Header::new(Kind::Records);
            let body = Body::of_records(&mut header, &records);
            header.until = u64::from(header.count);
            let bytes = written(&header, &body);
            prop_assert_eq!(bytes.len() as u64, header.frame_len());
            let read = Header::read(&bytes).unwrap();
            prop_assert_eq!(&read, &header);
            let body = Bytes::from(bytes).slice(read.header_len()..read.header_len() + read.body_len as usize);
            prop_assert_eq!(crc32c::crc32c(&body), read.body_crc);
            let source = records.source.clone().unwrap_or_default();
            prop_assert_eq!(read.source_name.as_slice(), source.name.as_bytes());
            prop_assert_eq!(&read.source_position, &source.position);
            prop_assert_eq!(&numbered(&read, &body), &records.numbered);
            let frame = Frame::decode(&read, &body).unwrap();
            prop_assert_eq!(frame.records().count(), records.ends.len());
            prop_assert_eq!(&frame.source, &source.name);
            prop_assert_eq!(frame, Frame::from_records(&header, records));
        }

        #[test]
        fn gathered_records_keep_all_that_they_have(records in records(), picked in prop::collection::vec(any::<bool>(), 30)) {
            let mut header = Header::new(Kind::Records);
            header.base = 100;
            header.count = u32::try_from(records.ends.len()).unwrap();
            let frame = Frame::from_records(&header, records);
            let rows: Vec<usize> = (0..frame.ends.len()).filter(|row| picked[*row] || *row == 0).collect();
            let gathered = frame.gathered(&rows);
            prop_assert_eq!(gathered.count as usize, rows.len());
            prop_assert_eq!(gathered.base_offset, 100);
            let value = |cells: &Cells, row: usize| {
                let start = if row == 0 { 0 } else { cells.ends[row - 1] };
                (cells.state[row], cells.data[start as usize..cells.ends[row] as usize].to_vec())
            };
            for (place, row) in rows.iter().enumerate() {
                prop_assert_eq!(gathered.record(place), frame.record(*row));
                let pairs = frame.attributes.iter().map(|(_, cells)| cells).chain(&frame.keys);
                for (one, other) in pairs.zip(gathered.attributes.iter().map(|(_, cells)| cells).chain(&gathered.keys)) {
                    prop_assert_eq!(value(one, *row), value(other, place));
                }
                let delta = |frame: &Frame, row: usize| frame.arrival_deltas.as_ref().map(|deltas| deltas[row]);
                prop_assert_eq!(delta(&gathered, place), delta(&frame, *row));
                let time = |frame: &Frame, row: usize| frame.event_times.as_ref().map(|times| times[row]);
                prop_assert_eq!(time(&gathered, place), time(&frame, *row));
            }
        }

        #[test]
        fn body_of_garbage_is_refused_or_consistent(records in records(), garbage in prop::collection::vec(any::<u8>(), 0..2000)) {
            let mut header = Header::new(Kind::Records);
            Body::of_records(&mut header, &records);
            if let Some(frame) = Frame::decode(&header, &Bytes::from(garbage)) {
                prop_assert_eq!(frame.records().count(), header.count as usize);
            }
        }
    }
}

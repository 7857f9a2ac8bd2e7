//! A program whose outputs take the place of the record.

use wasmill_sdk::{Chunk, TextColumn};

use crate::json;
use crate::program::Program;

/// What a chunk of several records becomes at most before the host is asked to cut it: it refuses more in one call
/// anyway, and a guest's memory holds it twice while it grows.
const CHUNK_BYTES: usize = 12 << 20;
const TOO_MUCH: &str = "the records of this chunk become too large together";

pub(crate) struct Map {
    program: Program,
    max_outputs: usize,
    /// Outputs of one record, and where each ends.
    outputs: Vec<u8>,
    ends: Vec<usize>,
    /// A cell for each row that leaves; a record of which nothing leaves has one row that is not kept.
    payloads: TextColumn,
    sources: Vec<u32>,
    keep: Vec<u8>,
}

impl Map {
    pub(crate) fn new(program: Program, max_outputs: usize) -> Self {
        Self {
            program,
            max_outputs,
            outputs: Vec::new(),
            ends: Vec::new(),
            payloads: TextColumn::new(),
            sources: Vec::new(),
            keep: Vec::new(),
        }
    }

    pub(crate) fn process(&mut self, rows: &mut Chunk<'_>) -> Result<(), String> {
        let (payloads, arrivals) = (rows.payloads(), rows.arrival_times());
        let (mut several, mut bytes) = (false, 0);
        self.payloads.clear();
        self.sources.clear();
        self.keep.clear();
        for (row, payload) in payloads.iter().enumerate() {
            let source = u32::try_from(row).map_err(|_| TOO_MUCH)?;
            self.outputs.clear();
            self.ends.clear();
            if let Err(reason) = self.run(payload, arrivals[row]) {
                rows.fail(row, &reason);
                self.ends.clear();
            }
            bytes += self.outputs.len();
            if bytes > CHUNK_BYTES && payloads.len() > 1 {
                return Err(TOO_MUCH.to_owned());
            }
            several |= self.ends.len() > 1;
            let mut start = 0;
            for &end in &self.ends {
                self.payloads.push_bytes(&self.outputs[start..end]);
                self.sources.push(source);
                self.keep.push(1);
                start = end;
            }
            if self.ends.is_empty() {
                self.payloads.push_missing();
                self.sources.push(source);
                self.keep.push(0);
            }
        }
        if several {
            // All rows are derived, so that records stay in their order.
            let derived = rows.derive(&self.sources);
            derived.set_payloads(&self.payloads);
            derived.keep(&self.keep);
            rows.emit(derived);
        } else {
            rows.set_payloads(&self.payloads);
            rows.keep(&self.keep);
        }
        Ok(())
    }

    fn run(&mut self, payload: &[u8], arrival: i64) -> Result<(), String> {
        let record = json::read(payload).map_err(|error| format!("the record is not JSON: {error}"))?;
        for output in self.program.run(record, arrival) {
            let value = output.map_err(|error| format!("map: {error}"))?;
            if self.ends.len() == self.max_outputs {
                return Err(format!("map: more than {} outputs (`max_outputs`)", self.max_outputs));
            }
            json::write(&value, &mut self.outputs)
                .map_err(|error| format!("map: output {} is not JSON: {error}", self.ends.len() + 1))?;
            self.ends.push(self.outputs.len());
        }
        Ok(())
    }
}

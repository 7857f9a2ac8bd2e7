//! A Fluvio SmartModule as a plugin: filter, map, filter-map and array-map, in the encoding of version 22.
//!
//! A batch goes in as one buffer that the guest frees; what comes out is a buffer that nobody frees, so instances are
//! replaced as their memory grows. The module itself stops at the first record that it has an error for: that record
//! fails with the error's text, those before it keep what became of them, and those after it are handed in again.
//!
//! Which record an output belongs to is told by its offset. An array-map makes records without one, so it gets one
//! record a call; so does a module whose offsets make no sense.

use std::collections::BTreeMap;

use serde::Deserialize;
use wasmill_chunk::{CellsRef, Chunk, ColumnRef, RowsId};
use wasmtime::{Caller, InstancePre, Linker, TypedFunc};

use super::answer::Answer;
use super::bytes::{Reader, put_sized, put_varint};
use super::outline::Outline;
use super::resident::Resident;
use super::{Door, Speaker, Usage, config, host};
use crate::fault::{PluginFault, reason_of};
use crate::instance::{Call, Guest};
use crate::limits::Limits;
use crate::step::Step;

/// The encoding that is spoken.
const VERSION: i32 = 22;
const COPY: &str = "copy_records";
const FUNCTION: &str = "(i32 i32 i32) -> (i32)";
/// An output whose fields cannot be read is so much nonsense whatever it holds.
const DELTA_MAX: i64 = 1 << 30;
/// What a record that is written counts for at least, so that more of them cannot be taken.
const RECORD_CHARGE_MIN: u64 = 16;

/// What a module does with a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SmartModule {
    Filter,
    Map,
    FilterMap,
    ArrayMap,
    /// Recognised, so that its refusal says what it is.
    Aggregate,
}

impl SmartModule {
    const RUN: [SmartModule; 4] =
        [SmartModule::Filter, SmartModule::Map, SmartModule::FilterMap, SmartModule::ArrayMap];

    /// The function that it exports.
    fn export(self) -> &'static str {
        match self {
            SmartModule::Filter => "filter",
            SmartModule::Map => "map",
            SmartModule::FilterMap => "filter_map",
            SmartModule::ArrayMap => "array_map",
            SmartModule::Aggregate => "aggregate",
        }
    }

    /// As people write it.
    pub(super) fn name(self) -> &'static str {
        match self {
            SmartModule::FilterMap => "filter-map",
            SmartModule::ArrayMap => "array-map",
            SmartModule::Filter | SmartModule::Map | SmartModule::Aggregate => self.export(),
        }
    }
}

/// Whether a module is one; the texts say why it would not be run.
pub(super) fn recognise(outline: &Outline) -> Option<(SmartModule, Vec<String>)> {
    if !outline.imports.iter().any(is_copy) {
        return None;
    }
    let mut refused = Vec::new();
    let found = SmartModule::RUN.into_iter().filter(|kind| outline.exports(kind.export(), FUNCTION));
    let found: Vec<SmartModule> = found.collect();
    let aggregate = SmartModule::Aggregate;
    if outline.exports(aggregate.export(), FUNCTION) {
        refused.push(
            "an aggregate keeps a value from record to record, and this host has no keyed state to keep it in yet"
                .to_owned(),
        );
        return Some((aggregate, refused));
    }
    if found.len() != 1 {
        refused.push(format!(
            "exports {} of filter, map, filter_map and array_map, where a SmartModule exports one",
            found.len()
        ));
    }
    if !outline.exports("alloc", "(i32) -> (i32)") {
        refused.push("exports no alloc, through which a SmartModule gets its records".to_owned());
    }
    Some((found.first().copied().unwrap_or(SmartModule::Filter), refused))
}

/// The function through which it hands over what it made; toolchains put it into a module of their own name.
pub(super) fn is_copy(import: &super::outline::Import) -> bool {
    import.name == COPY && import.shape == "(i32 i32) -> ()"
}

pub(super) fn add_to_linker(linker: &mut Linker<Guest>, outline: &Outline) -> wasmtime::Result<()> {
    // It may be imported twice.
    linker.allow_shadowing(true);
    for import in outline.imports.iter().filter(|import| is_copy(import)) {
        linker.func_wrap(&import.module, COPY, |mut caller: Caller<'_, Guest>, at: u32, len: u32| {
            if let Some(door) = &mut caller.data_mut().door {
                // Read when the call is over; the last one counts.
                door.copied = Some((at, len));
            }
        })?;
    }
    Ok(())
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Config {
    /// Handed to the module's `init`, and with every batch.
    params: BTreeMap<String, String>,
}

type Function = TypedFunc<(u32, u32, i32), i32>;

pub(super) struct Fluvio {
    resident: Resident,
    alloc: TypedFunc<u32, u32>,
    function: Function,
    /// Parameters as every input carries them.
    params: Vec<u8>,
    /// One record a call.
    single: bool,
    limits: Limits,
}

/// The rows of a chunk, as far as a module sees them.
struct Rows<'a> {
    payloads: ColumnRef<'a>,
    keys: CellsRef<'a>,
    offsets: Vec<i64>,
    /// Milliseconds since the epoch.
    times: Vec<i64>,
}

/// What came of one batch.
struct Turn {
    /// Rows that are done with, from the first of the batch on.
    done: usize,
}

impl Fluvio {
    pub(super) fn start(
        step: &Step,
        pre: &InstancePre<Guest>,
        kind: SmartModule,
    ) -> Result<Fluvio, PluginFault> {
        let Config { params } = config(step, Door::Fluvio(kind))?;
        let params = encoded(&params)?;
        let mut resident = Resident::start(step, pre)?;
        let alloc = resident.function("alloc")?;
        let function = resident.function(kind.export())?;
        let mut fluvio = Fluvio {
            resident,
            alloc,
            function,
            single: kind == SmartModule::ArrayMap,
            limits: step.limits.clone(),
            params,
        };
        fluvio.init()?;
        fluvio.resident.ready();
        Ok(fluvio)
    }

    /// Runs `init`, if the module has one.
    fn init(&mut self) -> Result<(), PluginFault> {
        if self.resident.instance.get_func(&mut self.resident.store, "init").is_none() {
            return Ok(());
        }
        let init: Function = self.resident.function("init")?;
        let params = self.params.clone();
        let (status, output) = self.call(&init, &params)?;
        if status >= 0 {
            return Ok(());
        }
        let hint = || {
            let mut reader = Reader(output.as_ref()?);
            let len = reader.u16()?;
            Some(String::from_utf8_lossy(reader.take(len.into())?).into_owned())
        };
        let message = hint().unwrap_or_else(|| format!("init failed with status {status}"));
        Err(PluginFault::Returned { message: reason_of(message) })
    }

    /// Hands in a buffer; the status, and what the module handed over.
    fn call(&mut self, function: &Function, input: &[u8]) -> Result<(i32, Option<Vec<u8>>), PluginFault> {
        let len = u32::try_from(input.len()).unwrap_or(u32::MAX);
        let at = self.resident.call(&self.alloc, len)?;
        self.resident.put(at, input, "alloc")?;
        if let Some(door) = &mut self.resident.store.data_mut().door {
            door.copied = None;
        }
        let status = self.resident.call(function, (at, len, VERSION))?;
        let copied = self.resident.store.data_mut().door.as_mut().and_then(|door| door.copied.take());
        let Some((at, len)) = copied else { return Ok((status, None)) };
        // What it echoes of the records in errors comes on top of what it wrote.
        let max = self.limits.output_bytes.saturating_mul(2).saturating_add(1 << 20);
        if u64::from(len) > max {
            let message = format!("{COPY}: {len} bytes; {max} are allowed");
            return Err(PluginFault::OutputTooLarge { message });
        }
        Ok((status, Some(self.resident.read(at, len, COPY)?.to_vec())))
    }

    fn rows(&mut self, rows: &Rows<'_>, answer: &mut Answer) -> Result<(), PluginFault> {
        let total = rows.payloads.len();
        let (mut first, mut size) = (0, total);
        while first < total {
            let count = if self.single { 1 } else { size.min(total - first) };
            match self.batch(rows, first, count, answer)? {
                Some(Turn { done }) => {
                    // After an error in the middle not everything is written out again for each; behind it, it grows.
                    size = done.max(1).saturating_mul(2);
                    first += done.max(1);
                }
                None => self.single = true,
            }
        }
        Ok(())
    }

    /// Rows `first..first + count`; `None` if it cannot be told what belongs to which.
    fn batch(
        &mut self,
        rows: &Rows<'_>,
        first: usize,
        count: usize,
        answer: &mut Answer,
    ) -> Result<Option<Turn>, PluginFault> {
        let deltas = deltas(rows.offsets.get(first..first + count).unwrap_or_default());
        let input = self.input(rows, first, &deltas);
        let function = self.function.clone();
        let (status, output) = self.call(&function, &input)?;
        if status < 0 {
            return Err(PluginFault::Returned { message: status_text(status) });
        }
        let nonsense = |what: &str| PluginFault::BadOutput { message: format!("the SmartModule {what}") };
        let output = output.ok_or_else(|| nonsense("returned without handing records over"))?;
        let written = u64::from(Reader(&output).u32().unwrap_or(0));
        if written > self.limits.output_bytes / RECORD_CHARGE_MIN && written <= output.len() as u64 {
            let message = format!("{written} records in one batch");
            return Err(PluginFault::OutputTooLarge { message });
        }
        let decoded = decode(&output).ok_or_else(|| nonsense("handed over records that cannot be read"))?;
        // With one record there is no question.
        let mut sources = Vec::with_capacity(decoded.records.len());
        for record in &decoded.records {
            match deltas.binary_search(&record.delta) {
                _ if count == 1 => sources.push(0),
                Ok(index) if self.single || sources.last().is_none_or(|last| *last < index) => {
                    sources.push(index);
                }
                _ => return Ok(None),
            }
        }
        let done = match &decoded.error {
            None => count,
            Some(error) => {
                let base = rows.offsets.get(first).copied().unwrap_or(0);
                let failed = match deltas.binary_search(&error.offset.saturating_sub(base)) {
                    _ if count == 1 => 0,
                    Ok(index) if sources.last().is_none_or(|last| *last < index) => index,
                    _ => return Ok(None),
                };
                let reason = reason_of(String::from_utf8_lossy(error.hint).trim().to_owned());
                answer.fail(row(first + failed), &reason)?;
                failed + 1
            }
        };
        for (record, index) in decoded.records.iter().zip(sources) {
            answer.put_keyed(row(first + index), record.value, record.key, 0)?;
        }
        Ok(Some(Turn { done }))
    }

    fn input(&self, rows: &Rows<'_>, first: usize, deltas: &[i64]) -> Vec<u8> {
        let base_time = rows.times.get(first).copied().unwrap_or(0);
        let mut raw = Vec::new();
        let mut record = Vec::new();
        raw.extend_from_slice(&row(deltas.len()).to_be_bytes());
        for (index, &delta) in (first..).zip(deltas) {
            record.clear();
            record.push(0);
            let time = rows.times.get(index).copied().unwrap_or(0);
            put_varint(&mut record, time.saturating_sub(base_time).clamp(-DELTA_MAX, DELTA_MAX));
            put_varint(&mut record, delta);
            match rows.keys.get(index) {
                Some(key) => {
                    record.push(1);
                    put_sized(&mut record, Some(key));
                }
                None => record.push(0),
            }
            put_sized(&mut record, Some(rows.payloads.get(index)));
            // No headers.
            put_varint(&mut record, 0);
            put_sized(&mut raw, Some(&record));
        }
        let mut input = Vec::with_capacity(raw.len() + self.params.len() + 32);
        input.extend_from_slice(&rows.offsets.get(first).copied().unwrap_or(0).to_be_bytes());
        input.extend_from_slice(&row(raw.len()).to_be_bytes());
        input.extend_from_slice(&raw);
        input.extend_from_slice(&self.params);
        // No join record.
        input.extend_from_slice(&0u32.to_be_bytes());
        input.extend_from_slice(&base_time.to_be_bytes());
        input
    }
}

impl Speaker for Fluvio {
    fn process(&mut self, chunk: &mut Chunk, call: Call) -> Result<(), PluginFault> {
        let offsets = chunk.offsets(RowsId::MAIN).map_err(host)?.to_vec();
        let times = chunk.arrival_times(RowsId::MAIN).map_err(host)?;
        let times = times.iter().map(|time| time / 1_000_000).collect();
        let keys = chunk.keys(RowsId::MAIN).map_err(host)?;
        let (state, values) = (keys.state.to_vec(), keys.values);
        let (data, ends) = (values.data.to_vec(), values.ends.to_vec());
        let keys = CellsRef { state: &state, values: ColumnRef { data: &data, ends: &ends } };
        let payloads = chunk.payloads(RowsId::MAIN).map_err(host)?;
        let total = row(payloads.len());
        let rows = Rows { payloads, keys, offsets, times };
        let mut answer = Answer::new(&self.limits);
        self.resident.begin_call(call);
        let done = self.rows(&rows, &mut answer);
        self.resident.end_call();
        done?;
        answer.stage(chunk, total)
    }

    fn usage(&self) -> Usage {
        self.resident.usage()
    }
}

/// How far each offset is behind the first; places in the batch where that does not tell the records apart.
fn deltas(offsets: &[i64]) -> Vec<i64> {
    let base = offsets.first().copied().unwrap_or(0);
    let behind: Vec<i64> = offsets.iter().map(|offset| offset.saturating_sub(base)).collect();
    let rising = behind.windows(2).all(|pair| matches!(pair, [a, b] if a < b));
    if rising && behind.last().is_none_or(|last| *last < DELTA_MAX) {
        return behind;
    }
    (0..).take(offsets.len()).collect()
}

struct Decoded<'a> {
    records: Vec<Record<'a>>,
    error: Option<Error<'a>>,
}

struct Record<'a> {
    delta: i64,
    key: Option<&'a [u8]>,
    value: &'a [u8],
}

struct Error<'a> {
    hint: &'a [u8],
    offset: i64,
}

/// An output; `None` if it is cut off or lies about a length.
fn decode(output: &[u8]) -> Option<Decoded<'_>> {
    let mut reader = Reader(output);
    let count = reader.u32()? as usize;
    // A record takes at least this many bytes; nothing is made room for that cannot be there.
    const RECORD_BYTES_MIN: usize = 7;
    if count > output.len() / RECORD_BYTES_MIN {
        return None;
    }
    let mut records = Vec::with_capacity(count);
    for _ in 0..count {
        let len = usize::try_from(reader.varint()?).ok()?;
        let mut record = Reader(reader.take(len)?);
        record.u8()?;
        record.varint()?;
        let delta = record.varint()?;
        let key = match record.u8()? {
            0 => None,
            _ => Some(record.sized()??),
        };
        let value = record.sized()??;
        records.push(Record { delta, key, value });
    }
    let error = match reader.u8()? {
        0 => None,
        _ => {
            let len = reader.u16()?;
            let hint = reader.take(len.into())?;
            Some(Error { hint, offset: reader.i64()? })
        }
    };
    Some(Decoded { records, error })
}

/// Parameters without a look back.
fn encoded(params: &BTreeMap<String, String>) -> Result<Vec<u8>, PluginFault> {
    let long = |what: &str| {
        let message = format!("config: {what} of a SmartModule's params; 65535 are allowed");
        PluginFault::Returned { message }
    };
    let mut out = Vec::new();
    let count = u16::try_from(params.len()).map_err(|_long| long("the number"))?;
    out.extend_from_slice(&count.to_be_bytes());
    for text in params.iter().flat_map(|(name, value)| [name, value]) {
        let len = u16::try_from(text.len()).map_err(|_long| long("the bytes of one"))?;
        out.extend_from_slice(&len.to_be_bytes());
        out.extend_from_slice(text.as_bytes());
    }
    out.push(0);
    Ok(out)
}

fn row(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX)
}

fn status_text(status: i32) -> String {
    let what = match status {
        -11 => "cannot read its input",
        -22 => "cannot read the records of its input",
        -33 => "cannot write its output",
        -44 => "cannot read its params",
        _ => "failed",
    };
    format!("the SmartModule {what} (status {status})")
}

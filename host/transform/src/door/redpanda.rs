//! A Redpanda Data Transform as a plugin, ABI 1 and 2.
//!
//! Such a program never returns from `_start`: it asks for a batch, then for each record of it, and writes what comes of
//! one before it asks for the next. So it runs on a stack of its own and is suspended where it asks for a batch and there
//! is none. It waits for nothing else, and so takes turns with other plugins on the worker's thread: a call of the chain
//! resumes it with a chunk, and goes on when it asks for the next one. Deadlines and limits are the call's.
//!
//! What it writes belongs to the record that it read last; a record that it writes nothing for is dropped. A topic is an
//! output of the stream by name. Records have their key, and no headers.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use serde::Deserialize;
use wasmill_chunk::{Chunk, RowsId};
use wasmtime::{AsContextMut, Caller, InstancePre, Linker};

use super::answer::Answer;
use super::bytes::{Reader, put_sized, put_varint};
use super::outline::{Import, Outline};
use super::preview1::{Preview1, memory, part, put};
use super::{Door, Speaker, State, Usage, config, host};
use crate::fault::{PluginFault, fault_of};
use crate::instance::{Call, Guest, Phase, guard, guest};
use crate::limits::{ARGUMENT_BYTES_MAX, Limits};
use crate::step::Step;

/// Bytes of a topic that nobody has which a reason shows.
const TOPIC_SHOWN_MAX: usize = 256;
const MODULE: &str = "redpanda_transform";
const REGISTRY: &str = "redpanda_schema_registry";

const NO_BATCH: i32 = -1;
const BAD_BUFFER: i32 = -2;
/// There is no schema registry here.
const NO_REGISTRY: i32 = -1;

const OWN: &[&str] = &[
    "check_abi_version_1",
    "check_abi_version_2",
    "read_batch_header",
    "read_next_record",
    "write_record",
    "write_record_with_options",
];

/// Functions of the registry: name and number of parameters.
const REFUSED: &[(&str, usize)] = &[
    ("get_schema_definition_len", 2),
    ("get_schema_definition", 3),
    ("get_subject_schema_len", 4),
    ("get_subject_schema", 5),
    ("create_subject_schema", 5),
];

/// The version of the ABI that a module was made for, and why it would not be run.
pub(super) fn recognise(outline: &Outline) -> Option<(u8, Vec<String>)> {
    let wants =
        |name: &str| outline.imports.iter().any(|import| import.module == MODULE && import.name == name);
    if !outline.imports.iter().any(|import| import.module == MODULE) {
        return None;
    }
    let mut refused = Vec::new();
    let version = match (wants("check_abi_version_1"), wants("check_abi_version_2")) {
        (_, true) => 2,
        (true, false) => 1,
        (false, false) => {
            refused.push(
                "imports no check of the ABI's version 1 or 2, which is what this host speaks".to_owned(),
            );
            2
        }
    };
    if !outline.exports("_start", "() -> ()") {
        refused.push("exports no _start, which is where a Data Transform begins".to_owned());
    }
    Some((version, refused))
}

pub(super) fn has(import: &Import) -> bool {
    match import.module.as_str() {
        MODULE => OWN.contains(&import.name.as_str()),
        REGISTRY => {
            import.name == "check_abi_version_0" || REFUSED.iter().any(|(name, _)| *name == import.name)
        }
        _ => false,
    }
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Config {
    /// The program's environment, as a deployment there would set it.
    env: BTreeMap<String, String>,
    /// What it is told that its input topic is called; the transform's name if it is not said.
    input_topic: Option<String>,
}

/// One record as the program reads it.
struct Record {
    payload: Vec<u8>,
    /// Nanoseconds since the epoch.
    time: i64,
    offset: i64,
}

/// A chunk on its way through the program.
struct Batch {
    call: Call,
    records: Vec<Record>,
    /// How many were read.
    read: usize,
    answer: Answer,
}

/// What the worker and the suspended program hand to one another.
#[derive(Default)]
struct Desk {
    /// For the program.
    next: Option<Batch>,
    /// From the program, at its next suspension.
    done: Option<Batch>,
    usage: Usage,
}

fn locked(desk: &Mutex<Desk>) -> MutexGuard<'_, Desk> {
    desk.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The part of an instance's state that is this door's.
pub(crate) struct Held {
    desk: Arc<Mutex<Desk>>,
    batch: Option<Batch>,
}

type Running = Pin<Box<dyn Future<Output = PluginFault> + Send>>;

pub(super) struct Redpanda {
    /// The program, on its own stack; what it ends with is always a fault.
    running: Running,
    desk: Arc<Mutex<Desk>>,
    limits: Limits,
    memory_at_start: usize,
}

impl Redpanda {
    pub(super) fn start(step: &Step, pre: &InstancePre<Guest>, version: u8) -> Result<Redpanda, PluginFault> {
        let Config { mut env, input_topic } = config(step, Door::Redpanda(version))?;
        env.insert("REDPANDA_INPUT_TOPIC".to_owned(), input_topic.unwrap_or_else(|| step.name.to_string()));
        for (number, output) in step.outputs.iter().enumerate() {
            env.insert(format!("REDPANDA_OUTPUT_TOPIC_{number}"), output.clone());
        }
        let env: Vec<String> = env.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
        let bytes: usize = env.iter().map(|text| text.len() + 1).sum();
        if bytes > ARGUMENT_BYTES_MAX || env.iter().any(|text| text.contains('\0')) {
            let message = format!(
                "config: the environment has {bytes} bytes or a zero byte; {ARGUMENT_BYTES_MAX} are allowed, none of \
                 them zero"
            );
            return Err(PluginFault::Returned { message });
        }
        let desk = Arc::new(Mutex::new(Desk::default()));
        let mut state = State::new(Preview1::new(step.name_seed).with_texts(&[], env));
        state.redpanda = Some(Held { desk: Arc::clone(&desk), batch: None });
        let store = guard(step.engine.wasmtime(), guest(step, Some(state)), step.engine.fuel())?;
        let running: Running = Box::pin(run(store, pre.clone()));
        let mut redpanda = Redpanda { running, desk, limits: step.limits.clone(), memory_at_start: 0 };
        redpanda.resume()?;
        redpanda.memory_at_start = redpanda.usage().memory;
        Ok(redpanda)
    }

    /// Lets the program run until it asks for a batch that is not there.
    fn resume(&mut self) -> Result<(), PluginFault> {
        match self.running.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Pending => Ok(()),
            Poll::Ready(fault) => Err(fault),
        }
    }
}

/// The program from its start to its end, which is never a good one.
async fn run(mut store: wasmtime::Store<Guest>, pre: InstancePre<Guest>) -> PluginFault {
    let ended = async {
        let instance = pre.instantiate_async(&mut store).await?;
        let start = instance.get_typed_func::<(), ()>(&mut store, "_start")?;
        start.call_async(&mut store, ()).await
    };
    let ended = ended.await;
    let stderr = store.data_mut().end_call();
    note_usage(&mut store.as_context_mut());
    match ended {
        Ok(()) => PluginFault::BadOutput {
            message: "the Data Transform returned from _start, where it should ask for more".to_owned(),
        },
        Err(error) => fault_of(&error, store.data(), &stderr),
    }
}

fn note_usage(store: &mut wasmtime::StoreContextMut<'_, Guest>) {
    let fuel = store.get_fuel().map_or(0, |left| u64::MAX - left);
    let limiter = &store.data().limiter;
    let usage = Usage {
        memory: limiter.used(),
        memory_peak: limiter.peak,
        memory_at_start: 0,
        memory_limit: limiter.limit(),
        fuel,
    };
    if let Some(held) = held(store.data_mut()) {
        locked(&held.desk).usage = usage;
    }
}

fn held(guest: &mut Guest) -> Option<&mut Held> {
    guest.door.as_mut()?.redpanda.as_mut()
}

impl Speaker for Redpanda {
    fn process(&mut self, chunk: &mut Chunk, call: Call) -> Result<(), PluginFault> {
        let offsets = chunk.offsets(RowsId::MAIN).map_err(host)?.to_vec();
        let times = chunk.arrival_times(RowsId::MAIN).map_err(host)?.to_vec();
        let mut payloads: Vec<Vec<u8>> = Vec::with_capacity(offsets.len());
        for key in chunk.keys(RowsId::MAIN).map_err(host)?.iter() {
            let mut payload = Vec::new();
            put_sized(&mut payload, key);
            payloads.push(payload);
        }
        for (payload, value) in payloads.iter_mut().zip(chunk.payloads(RowsId::MAIN).map_err(host)?.iter()) {
            put_sized(payload, Some(value));
            // No headers.
            put_varint(payload, 0);
        }
        let records = payloads.into_iter().zip(times).zip(offsets);
        let records: Vec<Record> =
            records.map(|((payload, time), offset)| Record { payload, time, offset }).collect();
        let rows = u32::try_from(records.len()).unwrap_or(u32::MAX);
        if rows == 0 {
            return Ok(());
        }
        let batch = Batch { call, records, read: 0, answer: Answer::new(&self.limits) };
        locked(&self.desk).next = Some(batch);
        self.resume()?;
        let done = locked(&self.desk).done.take();
        let done =
            done.ok_or_else(|| PluginFault::Host { message: "a batch was lost in a call".to_owned() })?;
        if done.read < done.records.len() {
            let message =
                format!("read {} of {} records and asked for the next batch", done.read, done.records.len());
            return Err(PluginFault::BadOutput { message });
        }
        done.answer.stage(chunk, rows)
    }

    fn usage(&self) -> Usage {
        Usage { memory_at_start: self.memory_at_start, ..locked(&self.desk).usage }
    }
}

/// There when the worker has put a chunk onto the desk.
struct Next(Arc<Mutex<Desk>>);

impl Future for Next {
    type Output = Batch;

    fn poll(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<Batch> {
        // Polled by the worker itself, which knows when there is something: nobody is woken.
        match locked(&self.0).next.take() {
            Some(batch) => Poll::Ready(batch),
            None => Poll::Pending,
        }
    }
}

/// Where the program wants the parts of a batch's header.
type Header = (u32, u32, u32, u32, u32, u32, u32, u32, u32, u32);

pub(super) fn add_to_linker(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    linker.func_wrap(MODULE, "check_abi_version_1", || {})?;
    linker.func_wrap(MODULE, "check_abi_version_2", || {})?;
    linker.func_wrap_async(
        MODULE,
        "read_batch_header",
        |mut caller: Caller<'_, Guest>, header: Header| {
            Box::new(async move {
                // What the batch before ended with goes to the worker, and the log.
                caller.data_mut().end_call();
                note_usage(&mut caller.as_context_mut());
                let Some(desk) = held(caller.data_mut()).map(|held| {
                    let mut desk = locked(&held.desk);
                    desk.done = held.batch.take();
                    Arc::clone(&held.desk)
                }) else {
                    return NO_BATCH;
                };
                let batch = Next(desk).await;
                caller.data_mut().begin_call(Phase::Process, batch.call);
                caller.as_context_mut().set_epoch_deadline(1);
                let written = begin(&mut caller, header, &batch);
                if let Some(held) = held(caller.data_mut()) {
                    held.batch = Some(batch);
                }
                written.unwrap_or(BAD_BUFFER)
            })
        },
    )?;
    linker.func_wrap(
        MODULE,
        "read_next_record",
        |mut caller: Caller<'_, Guest>, attributes: u32, time: u32, offset: u32, to: u32, len: u32| {
            let Some(memory) = memory(&mut caller) else { return BAD_BUFFER };
            let (bytes, guest) = memory.data_and_store_mut(&mut caller);
            let Some(door) = guest.door.as_mut() else { return NO_BATCH };
            let Some(batch) = door.redpanda.as_mut().and_then(|held| held.batch.as_mut()) else {
                return NO_BATCH;
            };
            let Some(record) = batch.records.get(batch.read) else { return NO_BATCH };
            let size = record.payload.len();
            if (len as usize) < size {
                return BAD_BUFFER;
            }
            let written = put(bytes, attributes, &[0])
                .and_then(|()| put(bytes, time, &(record.time / 1_000_000).to_le_bytes()))
                .and_then(|()| put(bytes, offset, &record.offset.to_le_bytes()))
                .and_then(|()| put(bytes, to, &record.payload));
            if written.is_none() {
                return BAD_BUFFER;
            }
            // Its clock is the record's.
            door.preview1.at(u64::try_from(record.time).unwrap_or(0));
            batch.read += 1;
            i32::try_from(size).unwrap_or(i32::MAX)
        },
    )?;
    linker.func_wrap(MODULE, "write_record", |mut caller: Caller<'_, Guest>, at: u32, len: u32| {
        write(&mut caller, at, len, None)
    })?;
    linker.func_wrap(
        MODULE,
        "write_record_with_options",
        |mut caller: Caller<'_, Guest>, at: u32, len: u32, options: u32, options_len: u32| {
            write(&mut caller, at, len, Some((options, options_len)))
        },
    )?;
    registry(linker)
}

/// A registry that has nothing.
fn registry(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    use wasmtime::{FuncType, Val, ValType};
    linker.func_wrap(REGISTRY, "check_abi_version_0", || {})?;
    for (name, params) in REFUSED {
        let params = std::iter::repeat_n(ValType::I32, *params);
        let ty = FuncType::new(linker.engine(), params, [ValType::I32]);
        linker.func_new(REGISTRY, name, ty, |_, _, results| {
            results.iter_mut().for_each(|result| *result = Val::I32(NO_REGISTRY));
            Ok(())
        })?;
    }
    Ok(())
}

/// Writes the header; the size of the largest record, or nothing if a pointer was wrong.
fn begin(caller: &mut Caller<'_, Guest>, header: Header, batch: &Batch) -> Option<i32> {
    let memory = memory(caller)?;
    let bytes = memory.data_mut(caller);
    let (
        base_offset,
        count,
        epoch,
        attributes,
        last,
        base_time,
        max_time,
        producer,
        producer_epoch,
        sequence,
    ) = header;
    let records = i32::try_from(batch.records.len()).ok()?;
    let millis = batch.records.iter().map(|record| record.time / 1_000_000);
    let (first, latest) = (millis.clone().next().unwrap_or(0), millis.max().unwrap_or(0));
    let offset = batch.records.first().map_or(0, |record| record.offset);
    put(bytes, base_offset, &offset.to_le_bytes())?;
    put(bytes, count, &records.to_le_bytes())?;
    put(bytes, epoch, &0i32.to_le_bytes())?;
    put(bytes, attributes, &0i16.to_le_bytes())?;
    put(bytes, last, &(records - 1).to_le_bytes())?;
    put(bytes, base_time, &first.to_le_bytes())?;
    put(bytes, max_time, &latest.to_le_bytes())?;
    put(bytes, producer, &(-1i64).to_le_bytes())?;
    put(bytes, producer_epoch, &(-1i16).to_le_bytes())?;
    put(bytes, sequence, &(-1i32).to_le_bytes())?;
    let largest = batch.records.iter().map(|record| record.payload.len()).max().unwrap_or(0);
    i32::try_from(largest).ok()
}

/// One record that the program writes, and where to.
fn write(
    caller: &mut Caller<'_, Guest>,
    at: u32,
    len: u32,
    options: Option<(u32, u32)>,
) -> wasmtime::Result<i32> {
    let Some(memory) = memory(caller) else { return Ok(BAD_BUFFER) };
    let (bytes, guest) = memory.data_and_store_mut(caller);
    let bytes = &*bytes;
    let topic = match options {
        None | Some((_, 0)) => None,
        Some((at, len)) => match part(bytes, at, len).and_then(topic_of) {
            Some(topic) => Some(topic),
            None => return Ok(BAD_BUFFER),
        },
    };
    let outputs = Arc::clone(&guest.outputs);
    let Some(batch) = held(guest).and_then(|held| held.batch.as_mut()) else { return Ok(NO_BATCH) };
    let Some(row) = batch.read.checked_sub(1).and_then(|row| u32::try_from(row).ok()) else {
        return Ok(NO_BATCH);
    };
    let Some(Written { key, value }) = part(bytes, at, len).and_then(record_of) else {
        return Ok(BAD_BUFFER);
    };
    let route = match topic {
        None => Some(0),
        Some(topic) => outputs.iter().position(|output| output.as_bytes() == topic),
    };
    let written = match route.and_then(|route| u32::try_from(route).ok()) {
        Some(route) => batch.answer.put_keyed(row, value.unwrap_or_default(), key, route),
        None => {
            let names = outputs.iter().map(|output| format!("`{output}`")).collect::<Vec<_>>().join(", ");
            let topic = topic.unwrap_or_default();
            let topic =
                String::from_utf8_lossy(topic.get(..topic.len().min(TOPIC_SHOWN_MAX)).unwrap_or_default());
            batch.answer.fail(
                row,
                &format!("wrote to the topic `{topic}`, and no output is named so; the stream has {names}"),
            )
        }
    };
    written.map_err(wasmtime::Error::new)?;
    Ok(i32::try_from(len).unwrap_or(i32::MAX))
}

/// The topic that options name: a tag, and the name behind its length.
fn topic_of(options: &[u8]) -> Option<&[u8]> {
    let mut reader = Reader(options);
    if reader.u8()? != 1 {
        return None;
    }
    let topic = reader.sized()??;
    reader.0.is_empty().then_some(topic)
}

/// What is kept of a payload.
struct Written<'a> {
    key: Option<&'a [u8]>,
    value: Option<&'a [u8]>,
}

/// Headers are read, and nothing is kept of them.
fn record_of(payload: &[u8]) -> Option<Written<'_>> {
    let mut reader = Reader(payload);
    let (key, value) = (reader.sized()?, reader.sized()?);
    for _ in 0..u32::try_from(reader.varint()?).ok()? {
        reader.sized()?;
        reader.sized()?;
    }
    reader.0.is_empty().then_some(Written { key, value })
}

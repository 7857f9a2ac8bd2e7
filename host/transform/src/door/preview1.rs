//! WASI preview 1 for core modules: standard streams in memory, and the clock and generator of the call.
//!
//! No files, no sockets: whatever would open one answers as on a system that has none. Nothing here blocks: reading
//! standard input past its end is the end of the file, and who sleeps finds that the time has passed, so that runtimes
//! which sleep now and then work, and no worker thread is held where no deadline sees it.

use wasmtime::{Caller, Extern, FuncType, Linker, Memory, Val, ValType};
use wasmtime_wasi::I32Exit;

use crate::fault::PluginFault;
use crate::instance::Guest;
use crate::limits::{IO_VECTORS_MAX, RANDOM_BYTES_MAX, STDIO_BYTES_MAX};
use crate::seed::Generator;

pub(crate) const MODULE: &str = "wasi_snapshot_preview1";

/// Nanoseconds that the guest's clock moves each time the guest looks.
const CLOCK_STEP: u64 = 1000;

const SUCCESS: i32 = 0;
const BADF: i32 = 8;
const FAULT: i32 = 21;
const INVAL: i32 = 28;
const NOSYS: i32 = 52;
const SPIPE: i32 = 70;

/// Functions with something behind them.
const OWN: &[&str] = &[
    "args_get",
    "args_sizes_get",
    "environ_get",
    "environ_sizes_get",
    "clock_res_get",
    "clock_time_get",
    "fd_close",
    "fd_fdstat_get",
    "fd_fdstat_set_flags",
    "fd_filestat_get",
    "fd_read",
    "fd_write",
    "poll_oneoff",
    "proc_exit",
    "random_get",
    "sched_yield",
];

/// Functions that only ever refuse: name, parameters (`i` 32 bits, `l` 64), what they answer.
const REFUSED: &[(&str, &str, i32)] = &[
    ("fd_advise", "illi", BADF),
    ("fd_allocate", "ill", BADF),
    ("fd_datasync", "i", INVAL),
    ("fd_fdstat_set_rights", "ill", BADF),
    ("fd_filestat_set_size", "il", BADF),
    ("fd_filestat_set_times", "illi", BADF),
    ("fd_pread", "iiili", SPIPE),
    ("fd_prestat_get", "ii", BADF),
    ("fd_prestat_dir_name", "iii", BADF),
    ("fd_pwrite", "iiili", SPIPE),
    ("fd_readdir", "iiili", BADF),
    ("fd_renumber", "ii", BADF),
    ("fd_seek", "ilii", SPIPE),
    ("fd_sync", "i", INVAL),
    ("fd_tell", "ii", SPIPE),
    ("path_create_directory", "iii", BADF),
    ("path_filestat_get", "iiiii", BADF),
    ("path_filestat_set_times", "iiiilli", BADF),
    ("path_link", "iiiiiii", BADF),
    ("path_open", "iiiiillii", BADF),
    ("path_readlink", "iiiiii", BADF),
    ("path_remove_directory", "iii", BADF),
    ("path_rename", "iiiiii", BADF),
    ("path_symlink", "iiiii", BADF),
    ("path_unlink_file", "iii", BADF),
    ("proc_raise", "i", NOSYS),
    ("sock_accept", "iii", BADF),
    ("sock_recv", "iiiiii", BADF),
    ("sock_send", "iiiii", BADF),
    ("sock_shutdown", "ii", BADF),
];

/// Whether this host has a function of this name.
pub(crate) fn knows(name: &str) -> bool {
    OWN.contains(&name) || REFUSED.iter().any(|(known, ..)| *known == name)
}

/// One instance's WASI state.
pub(crate) struct Preview1 {
    input: Vec<u8>,
    read: usize,
    /// What was written to standard output, if somebody is to have it: kept up to so many bytes, more is a fault.
    output: Option<(Vec<u8>, u64)>,
    /// What goes to the log: standard error, and standard output if nobody is to have it.
    said: Vec<u8>,
    lost: u64,
    /// Without their final zeros.
    arguments: Vec<Vec<u8>>,
    environment: Vec<Vec<u8>>,
    clock: u64,
    generator: Generator,
}

impl Preview1 {
    pub(crate) fn new(seed: u64) -> Preview1 {
        Preview1 {
            input: Vec::new(),
            read: 0,
            output: None,
            said: Vec::new(),
            lost: 0,
            arguments: vec![b"plugin".to_vec()],
            environment: Vec::new(),
            clock: 0,
            generator: Generator::new(seed),
        }
    }

    /// The program's arguments behind its name, and its environment as `NAME=value`. None holds a zero byte.
    pub(crate) fn with_texts(mut self, arguments: &[String], environment: Vec<String>) -> Preview1 {
        self.arguments.extend(arguments.iter().map(|argument| argument.as_bytes().to_vec()));
        self.environment = environment.into_iter().map(String::into_bytes).collect();
        self
    }

    /// A new call begins: time and randomness depend on it alone.
    pub(crate) fn begin_call(&mut self, now: u64, seed: u64) {
        self.clock = now;
        self.generator = Generator::new(seed);
    }

    /// Time goes on to a record's, never back.
    pub(crate) fn at(&mut self, now: u64) {
        self.clock = self.clock.max(now);
    }

    /// Hands over standard input, and says how much standard output may hold.
    pub(crate) fn feed(&mut self, input: Vec<u8>, output_max: u64) {
        self.input = input;
        self.read = 0;
        let mut output = self.output.take().map(|(bytes, _)| bytes).unwrap_or_default();
        output.clear();
        self.output = Some((output, output_max));
    }

    /// Standard output so far, and standard input back for its buffer.
    pub(crate) fn take(&mut self) -> (Vec<u8>, Vec<u8>) {
        let output = self.output.take().map(|(bytes, _)| bytes).unwrap_or_default();
        (output, std::mem::take(&mut self.input))
    }

    /// What goes to the log, and how many bytes more there were.
    pub(crate) fn said(&mut self) -> (Vec<u8>, u64) {
        (std::mem::take(&mut self.said), std::mem::take(&mut self.lost))
    }

    fn look(&mut self) -> u64 {
        let now = self.clock;
        self.clock = now.saturating_add(CLOCK_STEP);
        now
    }

    fn write(&mut self, to_output: bool, bytes: &[u8]) -> wasmtime::Result<()> {
        if let Some((output, max)) = self.output.as_mut().filter(|_| to_output) {
            if (output.len() + bytes.len()) as u64 > *max {
                let message = format!("more than {max} bytes on standard output");
                return Err(wasmtime::Error::new(PluginFault::OutputTooLarge { message }));
            }
            output.extend_from_slice(bytes);
            return Ok(());
        }
        let (kept, lost) = bytes.split_at(STDIO_BYTES_MAX.saturating_sub(self.said.len()).min(bytes.len()));
        self.said.extend_from_slice(kept);
        self.lost += lost.len() as u64;
        Ok(())
    }
}

/// The guest's memory and the state behind it; `None` if it exports no memory or has no such state.
fn both<'a>(caller: &'a mut Caller<'_, Guest>) -> Option<(&'a mut [u8], &'a mut Preview1)> {
    let memory = memory(caller)?;
    let (bytes, guest) = memory.data_and_store_mut(caller);
    Some((bytes, &mut guest.door.as_mut()?.preview1))
}

/// The memory that the guest exports as `memory`.
pub(crate) fn memory(caller: &mut Caller<'_, Guest>) -> Option<Memory> {
    if let Some(memory) = caller.data().door.as_ref().and_then(|door| door.memory) {
        return Some(memory);
    }
    let memory = caller.get_export("memory").and_then(Extern::into_memory)?;
    if let Some(door) = &mut caller.data_mut().door {
        door.memory = Some(memory);
    }
    Some(memory)
}

pub(crate) fn add_to_linker(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    for (name, params, errno) in REFUSED {
        let errno = *errno;
        let params = params.chars().map(|param| if param == 'l' { ValType::I64 } else { ValType::I32 });
        let ty = FuncType::new(linker.engine(), params, [ValType::I32]);
        linker.func_new(MODULE, name, ty, move |_, _, results| {
            results.iter_mut().for_each(|result| *result = Val::I32(errno));
            Ok(())
        })?;
    }
    texts(linker)?;
    clocks(linker)?;
    streams(linker)?;
    linker.func_wrap(MODULE, "proc_exit", |code: i32| -> wasmtime::Result<()> {
        Err(wasmtime::Error::new(I32Exit(code)))
    })?;
    linker.func_wrap(MODULE, "sched_yield", || SUCCESS)?;
    linker.func_wrap(MODULE, "random_get", |mut caller: Caller<'_, Guest>, at: u32, len: u32| {
        if u64::from(len) > RANDOM_BYTES_MAX {
            let message = format!(
                "random_get: {len} bytes asked for in one call; at most {RANDOM_BYTES_MAX} are given"
            );
            return Err(wasmtime::Error::new(PluginFault::BadOutput { message }));
        }
        let Some((bytes, state)) = both(&mut caller) else { return Ok(FAULT) };
        Ok(match slice(bytes, at, len) {
            Some(to) => {
                to.copy_from_slice(&state.generator.bytes(to.len()));
                SUCCESS
            }
            None => FAULT,
        })
    })?;
    Ok(())
}

/// Arguments and environment.
fn texts(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    type List = fn(&Preview1) -> &[Vec<u8>];
    let lists: [(&str, &str, List); 2] = [
        ("args_get", "args_sizes_get", |state| &state.arguments),
        ("environ_get", "environ_sizes_get", |state| &state.environment),
    ];
    for (get, sizes, list) in lists {
        linker.func_wrap(MODULE, sizes, move |mut caller: Caller<'_, Guest>, count: u32, size: u32| {
            let Some((bytes, state)) = both(&mut caller) else { return FAULT };
            let texts = list(state);
            let total: usize = texts.iter().map(|text| text.len() + 1).sum();
            done(put_u32(bytes, count, texts.len()).and_then(|()| put_u32(bytes, size, total)))
        })?;
        linker.func_wrap(MODULE, get, move |mut caller: Caller<'_, Guest>, pointers: u32, texts: u32| {
            let Some((bytes, state)) = both(&mut caller) else { return FAULT };
            let (mut pointer, mut at) = (pointers, texts);
            for text in list(state) {
                let len = u32::try_from(text.len()).unwrap_or(u32::MAX);
                let written = put_u32(bytes, pointer, at as usize)
                    .and_then(|()| put(bytes, at, text))
                    .and_then(|()| put(bytes, at.checked_add(len)?, &[0]));
                if written.is_none() {
                    return FAULT;
                }
                pointer = pointer.saturating_add(4);
                at = at.saturating_add(len).saturating_add(1);
            }
            SUCCESS
        })?;
    }
    Ok(())
}

fn clocks(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    linker.func_wrap(MODULE, "clock_res_get", |mut caller: Caller<'_, Guest>, _clock: i32, at: u32| {
        let Some((bytes, _)) = both(&mut caller) else { return FAULT };
        done(put(bytes, at, &CLOCK_STEP.to_le_bytes()))
    })?;
    linker.func_wrap(
        MODULE,
        "clock_time_get",
        |mut caller: Caller<'_, Guest>, _clock: i32, _precision: i64, at: u32| {
            let Some((bytes, state)) = both(&mut caller) else { return FAULT };
            done(put(bytes, at, &state.look().to_le_bytes()))
        },
    )?;
    linker.func_wrap(
        MODULE,
        "poll_oneoff",
        |mut caller: Caller<'_, Guest>, wanted: u32, happened: u32, count: u32, events: u32| {
            let Some((bytes, state)) = both(&mut caller) else { return FAULT };
            if count == 0 || count > IO_VECTORS_MAX {
                return INVAL;
            }
            match poll(bytes, state, wanted, happened, count) {
                Some(number) => done(put_u32(bytes, events, number)),
                None => FAULT,
            }
        },
    )?;
    Ok(())
}

/// What happens at once: every stream is ready; where only clocks are waited for, the first of them has rung.
fn poll(bytes: &mut [u8], state: &mut Preview1, wanted: u32, happened: u32, count: u32) -> Option<usize> {
    const SUBSCRIPTION: usize = 48;
    const EVENT: u32 = 32;
    const ABSOLUTE: u8 = 1;
    let len = count.checked_mul(48)?;
    let wanted = part(bytes, wanted, len)?.to_vec();
    let now = state.look();
    // Until when each one waits; a stream waits for nothing.
    let until = |one: &[u8]| -> Option<u64> {
        let timeout = u64::from_le_bytes(one.get(24..32)?.try_into().ok()?);
        match (*one.get(8)?, one.get(40)? & ABSOLUTE) {
            (0, 0) => Some(now.saturating_add(timeout)),
            (0, _) => Some(timeout),
            _ => Some(0),
        }
    };
    let first = wanted.chunks_exact(SUBSCRIPTION).filter_map(until).min()?;
    state.at(first);
    let mut number = 0;
    let mut at = happened;
    for one in wanted
        .chunks_exact(SUBSCRIPTION)
        .filter(|one| until(one).is_some_and(|until| until <= first.max(now)))
    {
        let mut event = [0u8; EVENT as usize];
        event.get_mut(..8)?.copy_from_slice(one.get(..8)?);
        *event.get_mut(10)? = *one.get(8)?;
        // Bytes that are there; one does where it is not known.
        *event.get_mut(16)? = u8::from(*one.get(8)? != 0);
        put(bytes, at, &event)?;
        at = at.checked_add(EVENT)?;
        number += 1;
    }
    Some(number)
}

/// Standard input, output and error: 0, 1 and 2; there are no others.
fn streams(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    const STREAMS: std::ops::RangeInclusive<i32> = 0..=2;
    let known = |fd: i32| if STREAMS.contains(&fd) { SUCCESS } else { BADF };
    linker.func_wrap(MODULE, "fd_close", move |fd: i32| known(fd))?;
    linker.func_wrap(MODULE, "fd_fdstat_set_flags", move |fd: i32, _flags: i32| known(fd))?;
    linker.func_wrap(MODULE, "fd_fdstat_get", |mut caller: Caller<'_, Guest>, fd: i32, at: u32| {
        const READ: u64 = 1 << 1;
        const WRITE: u64 = 1 << 6;
        const POLL: u64 = 1 << 27;
        let Some((bytes, _)) = both(&mut caller) else { return FAULT };
        let rights = match fd {
            0 => READ | POLL,
            1 | 2 => WRITE | POLL,
            _ => return BADF,
        };
        // Of no known kind, so that nobody takes it for a terminal.
        let mut stat = [0u8; 24];
        stat.iter_mut().skip(8).zip(rights.to_le_bytes()).for_each(|(to, from)| *to = from);
        done(put(bytes, at, &stat))
    })?;
    linker.func_wrap(MODULE, "fd_filestat_get", |mut caller: Caller<'_, Guest>, fd: i32, at: u32| {
        let Some((bytes, _)) = both(&mut caller) else { return FAULT };
        if STREAMS.contains(&fd) { done(put(bytes, at, &[0; 64])) } else { BADF }
    })?;
    linker.func_wrap(
        MODULE,
        "fd_read",
        |mut caller: Caller<'_, Guest>, fd: i32, vectors: u32, count: u32, read: u32| {
            let Some((bytes, state)) = both(&mut caller) else { return FAULT };
            if fd != 0 {
                return BADF;
            }
            if count > IO_VECTORS_MAX {
                return INVAL;
            }
            let mut total = 0;
            for index in 0..count {
                let Some((at, len)) = vector(bytes, vectors, index) else { return FAULT };
                let rest = state.input.get(state.read..).unwrap_or_default();
                let text = rest.get(..rest.len().min(len as usize)).unwrap_or_default();
                if put(bytes, at, text).is_none() {
                    return FAULT;
                }
                state.read += text.len();
                total += text.len();
            }
            done(put_u32(bytes, read, total))
        },
    )?;
    linker.func_wrap(
        MODULE,
        "fd_write",
        |mut caller: Caller<'_, Guest>, fd: i32, vectors: u32, count: u32, written: u32| {
            let Some((bytes, state)) = both(&mut caller) else { return Ok(FAULT) };
            if !(1..=2).contains(&fd) {
                return Ok(BADF);
            }
            if count > IO_VECTORS_MAX {
                return Ok(INVAL);
            }
            let mut total = 0usize;
            for index in 0..count {
                let text = vector(bytes, vectors, index).and_then(|(at, len)| part(bytes, at, len));
                let Some(text) = text else { return Ok(FAULT) };
                state.write(fd == 1, text)?;
                total = total.saturating_add(text.len());
            }
            Ok(done(put_u32(bytes, written, total)))
        },
    )?;
    Ok(())
}

fn done(written: Option<()>) -> i32 {
    if written.is_some() { SUCCESS } else { FAULT }
}

/// Pointer and length of one of several buffers.
fn vector(bytes: &[u8], vectors: u32, index: u32) -> Option<(u32, u32)> {
    let pair = part(bytes, vectors.checked_add(index.checked_mul(8)?)?, 8)?;
    let (at, len) = pair.split_at(4);
    Some((u32::from_le_bytes(at.try_into().ok()?), u32::from_le_bytes(len.try_into().ok()?)))
}

/// So many bytes of the guest's memory; `None` if it does not have them.
pub(crate) fn slice(bytes: &mut [u8], at: u32, len: u32) -> Option<&mut [u8]> {
    let start = at as usize;
    bytes.get_mut(start..start.checked_add(len as usize)?)
}

/// The same, to read only.
pub(crate) fn part(bytes: &[u8], at: u32, len: u32) -> Option<&[u8]> {
    let start = at as usize;
    bytes.get(start..start.checked_add(len as usize)?)
}

/// Writes into the guest's memory, if all of it fits.
pub(crate) fn put(bytes: &mut [u8], at: u32, value: &[u8]) -> Option<()> {
    slice(bytes, at, u32::try_from(value.len()).ok()?)?.copy_from_slice(value);
    Some(())
}

fn put_u32(bytes: &mut [u8], at: u32, value: usize) -> Option<()> {
    put(bytes, at, &u32::try_from(value).ok()?.to_le_bytes())
}

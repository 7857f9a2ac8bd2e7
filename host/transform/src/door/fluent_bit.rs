//! A Fluent Bit Wasm filter as a plugin: one call a record, as JSON text or as msgpack.
//!
//! As there, a null pointer or an empty text drops the record. What Fluent Bit would drop for being nonsense (pointers
//! outside the memory, text without an end, no object) fails its record here, and so does a trap: a record is never lost
//! in silence. In msgpack mode one value is read and not, as there, the bytes before the first zero, of which binary
//! records have many.
//!
//! Nobody frees what a filter returns, so it is read before anything else is called, and instances are replaced as
//! their memory grows.

use serde::Deserialize;
use wasmill_chunk::{Chunk, RowsId};
use wasmtime::{InstancePre, TypedFunc};

use super::answer::Answer;
use super::msgpack;
use super::outline::Outline;
use super::resident::Resident;
use super::{Door, Speaker, Usage, config, host};
use crate::fault::PluginFault;
use crate::instance::{Call, Guest};
use crate::limits::Limits;
use crate::step::Step;

/// Tag, its length, seconds, nanoseconds, record, its length.
const FUNCTION: &str = "(i32 i32 i32 i32 i32 i32) -> (i32)";
const NO_OBJECT: &str = "the record is no JSON object, which is what a Fluent Bit filter takes";
const PAGE_BYTES: u64 = 64 << 10;

/// Whether a module is a filter.
pub(super) fn recognise(outline: &Outline) -> bool {
    functions(outline).next().is_some()
}

/// The functions that could be called.
fn functions(outline: &Outline) -> impl Iterator<Item = &str> {
    outline.exports.iter().filter(|(_, shape)| shape == FUNCTION).map(|(name, _)| name.as_str())
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Format {
    #[default]
    Json,
    Msgpack,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Config {
    /// The export to call; the only one that can be, if there is no choice.
    function: Option<String>,
    format: Format,
    /// The transform's name if there is none.
    tag: Option<String>,
}

/// What a record became; nothing if it was dropped, a reason if it alone fails.
type Filtered = Result<Option<Vec<u8>>, String>;
type Function = TypedFunc<(u32, u32, u32, u32, u32, u32), u32>;

pub(super) struct FluentBit {
    resident: Resident,
    function: Function,
    format: Format,
    /// Pointer and length; the zero behind it is not counted.
    tag: (u32, u32),
    room: Room,
    limits: Limits,
}

/// Where records are put.
enum Room {
    /// Memory of the guest's own allocator, so much of it.
    Allocated { malloc: TypedFunc<u32, u32>, free: TypedFunc<u32, ()>, at: u32, len: u32 },
    /// Pages that nobody else knows of.
    Pages { at: u32, len: u32 },
}

impl FluentBit {
    pub(super) fn start(step: &Step, pre: &InstancePre<Guest>) -> Result<FluentBit, PluginFault> {
        let Config { function, format, tag } = config(step, Door::FluentBit)?;
        let outline = Outline::of_module(pre.module());
        let name = chosen(&outline, function).map_err(|message| PluginFault::Returned { message })?;
        let mut resident = Resident::start(step, pre)?;
        let function = resident.function(&name)?;
        let allocator = outline.exports("malloc", "(i32) -> (i32)") && outline.exports("free", "(i32) -> ()");
        let room = if allocator {
            let (malloc, free) = (resident.function("malloc")?, resident.function("free")?);
            Room::Allocated { malloc, free, at: 0, len: 0 }
        } else {
            Room::Pages { at: 0, len: 0 }
        };
        let mut filter =
            FluentBit { resident, function, format, tag: (0, 0), room, limits: step.limits.clone() };
        let tag = tag.unwrap_or_else(|| step.name.to_string());
        let mut text = tag.into_bytes();
        let len = u32::try_from(text.len()).unwrap_or(u32::MAX);
        text.push(0);
        filter.tag = (filter.allocate(&text, "malloc for the tag")?, len);
        // The next record gets a place of its own.
        match &mut filter.room {
            Room::Allocated { at, len, .. } | Room::Pages { at, len } => (*at, *len) = (0, 0),
        }
        filter.resident.ready();
        Ok(filter)
    }

    /// Puts bytes where the guest can read them.
    fn allocate(&mut self, bytes: &[u8], what: &str) -> Result<u32, PluginFault> {
        let wanted = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let place = match &mut self.room {
            Room::Allocated { malloc, free, at, len } => {
                if *len < wanted {
                    if *at != 0 {
                        self.resident.call(free, *at)?;
                    }
                    (*at, *len) = (0, 0);
                    let wanted = wanted.checked_next_power_of_two().unwrap_or(wanted).max(1024);
                    let got = self.resident.call(malloc, wanted)?;
                    if got == 0 {
                        return Err(no_room(&self.resident, wanted));
                    }
                    (*at, *len) = (got, wanted);
                }
                *at
            }
            Room::Pages { at, len } => {
                if *len < wanted {
                    let pages = u64::from(wanted).div_ceil(PAGE_BYTES);
                    let before = self.resident.memory.grow(&mut self.resident.store, pages);
                    let Ok(before) = before else { return Err(no_room(&self.resident, wanted)) };
                    *at = u32::try_from(before * PAGE_BYTES).unwrap_or(u32::MAX);
                    *len = u32::try_from(pages * PAGE_BYTES).unwrap_or(u32::MAX);
                }
                *at
            }
        };
        self.resident.put(place, bytes, what)?;
        Ok(place)
    }

    /// One record.
    fn filter(&mut self, payload: &[u8], time: i64) -> Result<Filtered, PluginFault> {
        let mut record = match self.format {
            Format::Json if !is_object(payload) => {
                return Ok(Err(
                    "the record is no JSON object, which is what a Fluent Bit filter takes".to_owned()
                ));
            }
            Format::Json => payload.to_vec(),
            Format::Msgpack => match msgpack::of_json(payload) {
                Some(record) => record,
                None => return Ok(Err(NO_OBJECT.to_owned())),
            },
        };
        let len = u32::try_from(record.len()).unwrap_or(u32::MAX);
        record.push(0);
        let at = self.allocate(&record, "malloc for the record")?;
        let time = u64::try_from(time).unwrap_or(0);
        let seconds = u32::try_from(time / 1_000_000_000).unwrap_or(u32::MAX);
        let nanoseconds = u32::try_from(time % 1_000_000_000).unwrap_or(0);
        let function = self.function.clone();
        let result =
            self.resident.call(&function, (self.tag.0, self.tag.1, seconds, nanoseconds, at, len))?;
        if result == 0 {
            return Ok(Ok(None));
        }
        let max = usize::try_from(self.limits.output_bytes).unwrap_or(usize::MAX);
        let memory = self.resident.memory.data(&self.resident.store);
        let Some(rest) = memory.get(result as usize..).filter(|rest| !rest.is_empty()) else {
            return Ok(Err(format!("the filter returned the pointer {result}, which is not in its memory")));
        };
        let rest = rest.get(..rest.len().min(max.saturating_add(1))).unwrap_or_default();
        Ok(match self.format {
            Format::Json => read_text(rest),
            Format::Msgpack if rest.first() == Some(&0) => Ok(None),
            Format::Msgpack => {
                msgpack::to_json(rest, max).map(Some).map_err(|what| format!("the filter returned {what}"))
            }
        })
    }
}

impl Speaker for FluentBit {
    fn process(&mut self, chunk: &mut Chunk, call: Call) -> Result<(), PluginFault> {
        let times = chunk.arrival_times(RowsId::MAIN).map_err(host)?.to_vec();
        let payloads = chunk.payloads(RowsId::MAIN).map_err(host)?;
        let rows = u32::try_from(payloads.len()).unwrap_or(u32::MAX);
        let mut answer = Answer::new(&self.limits);
        self.resident.begin_call(call);
        let done = (0..).zip(payloads.iter()).zip(times).try_for_each(|((row, payload), time)| {
            match self.filter(payload, time)? {
                Ok(Some(record)) => answer.put(row, &record),
                Ok(None) => Ok(()),
                Err(reason) => answer.fail(row, &reason),
            }
        });
        self.resident.end_call();
        done?;
        answer.stage(chunk, rows)
    }

    fn usage(&self) -> Usage {
        self.resident.usage()
    }
}

/// Which function the config means.
fn chosen(outline: &Outline, wanted: Option<String>) -> Result<String, String> {
    let listed = || functions(outline).map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ");
    if let Some(wanted) = wanted {
        let known = functions(outline).any(|name| name == wanted);
        return if known {
            Ok(wanted)
        } else {
            Err(format!("no filter is named {wanted:?}; the module has {}", listed()))
        };
    }
    let mut all = functions(outline);
    match (all.next(), all.next()) {
        (Some(name), None) => Ok(name.to_owned()),
        _ => Err(format!("the module has the filters {}; say which one with `function`", listed())),
    }
}

fn no_room(resident: &Resident, wanted: u32) -> PluginFault {
    PluginFault::Memory {
        limit_bytes: resident.store.data().limiter.limit() as u64,
        message: format!("no room for a record of {wanted} bytes"),
    }
}

fn is_object(payload: &[u8]) -> bool {
    let first = payload.iter().find(|byte| !byte.is_ascii_whitespace());
    first == Some(&b'{') && serde_json::from_slice::<serde::de::IgnoredAny>(payload).is_ok()
}

/// The text up to its zero.
fn read_text(rest: &[u8]) -> Result<Option<Vec<u8>>, String> {
    let Some(end) = memchr::memchr(0, rest) else {
        return Err("the filter returned a text without an end".to_owned());
    };
    match rest.get(..end).unwrap_or_default() {
        [] => Ok(None),
        text if is_object(text) => Ok(Some(text.to_vec())),
        _ => Err("the filter returned something other than a JSON object".to_owned()),
    }
}

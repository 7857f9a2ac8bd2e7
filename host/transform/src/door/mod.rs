//! The doors through which a plain WASI program, or a plugin made for another system, comes in as it is.
//!
//! Owns how such a core module is recognised ([`Door`]), and one file for each ABI that hands it the rows of a chunk and
//! takes back what became of them. Engine, limits, deadlines, logs, bisection, cache and reports are those of
//! components. Everything that a guest claims is checked: pointers, lengths, counts, encodings.
//!
//! Refuses: state that outlives a call (no door promises any), and whatever of a foreign system is no transform.

mod answer;
mod bytes;
mod command;
mod fluent_bit;
mod fluvio;
mod msgpack;
mod outline;
mod preview1;
mod redpanda;
mod resident;

use std::fmt;

use serde::Serialize;
use wasmill_chunk::Chunk;
use wasmtime::{InstancePre, Linker, Memory, Module, Store};

pub use self::fluvio::SmartModule;
use self::outline::{Import, Outline};
use self::preview1::Preview1;
use crate::engine::Engine;
use crate::fault::PluginFault;
use crate::instance::{Call, Guest};
use crate::step::{Declared, Step};

/// Which foreign ABI a core module speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// A WASI preview 1 program: records on standard input, records on standard output.
    Command,
    /// A SmartModule of Fluvio.
    Fluvio(SmartModule),
    /// A Wasm filter of Fluent Bit.
    FluentBit,
    /// A Data Transform of Redpanda, and the version of the ABI that it was made for.
    Redpanda(u8),
}

impl fmt::Display for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Door::Command => f.write_str("wasi-command"),
            Door::Fluvio(kind) => write!(f, "fluvio-{}", kind.name()),
            Door::FluentBit => f.write_str("fluent-bit-filter"),
            Door::Redpanda(version) => write!(f, "redpanda-transform-{version}"),
        }
    }
}

impl Door {
    /// Whether a module for it may import this.
    fn has(self, import: &Import) -> bool {
        let of_wasi = import.module == preview1::MODULE && preview1::knows(&import.name);
        of_wasi
            || match self {
                Door::Command | Door::FluentBit => false,
                Door::Redpanda(_) => redpanda::has(import),
                Door::Fluvio(_) => fluvio::is_copy(import),
            }
    }
}

impl Serialize for Door {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// What a core module without component metadata is taken for.
pub(crate) struct Recognised {
    pub(crate) door: Door,
    /// Names by module.
    pub(crate) imports: Vec<(String, Vec<String>)>,
    pub(crate) exports: Vec<String>,
    /// Why this host would not run it all the same; empty = it would.
    pub(crate) refused: Vec<String>,
}

/// The door for a core module, if there is one.
pub(crate) fn recognise(wasm: &[u8]) -> wasmparser::Result<Option<Recognised>> {
    Outline::of_file(wasm).map(|outline| recognise_outline(&outline))
}

/// What a module that no door is for could have been.
pub(crate) const NO_DOOR: &str = "a core module without component metadata that is none of what this host runs as it \
     is: a WASI preview 1 program exports _start, a Fluvio SmartModule imports copy_records, a \
     Redpanda Data Transform imports redpanda_transform, a Fluent Bit filter exports a function of six numbers; build a component with a plugin SDK or with wit-bindgen";

fn recognise_outline(outline: &Outline) -> Option<Recognised> {
    let (door, mut refused) = if let Some((kind, refused)) = fluvio::recognise(outline) {
        (Door::Fluvio(kind), refused)
    } else if let Some((version, refused)) = redpanda::recognise(outline) {
        (Door::Redpanda(version), refused)
    } else if fluent_bit::recognise(outline) {
        // Before programs: compilers give a filter a _start too.
        (Door::FluentBit, Vec::new())
    } else if outline.exports("_start", "() -> ()") {
        (Door::Command, Vec::new())
    } else {
        return None;
    };
    if !outline.exports("memory", "memory") {
        refused.push(format!("exports no memory, which a {door} must"));
    }
    for import in &outline.imports {
        if !door.has(import) {
            let (module, name) = (&import.module, &import.name);
            refused
                .push(format!("imports {name:?} of {module:?}, which this host does not have for a {door}"));
        }
    }
    let mut imports: Vec<(String, Vec<String>)> = Vec::new();
    for import in &outline.imports {
        match imports.iter_mut().find(|(module, _)| *module == import.module) {
            Some((_, names)) => names.push(import.name.clone()),
            None => imports.push((import.module.clone(), vec![import.name.clone()])),
        }
    }
    let exports = outline.exports.iter().map(|(name, _)| name.clone()).collect();
    Some(Recognised { door, imports, exports, refused })
}

/// A compiled and linked core module.
pub(crate) struct DoorCode {
    pub(crate) door: Door,
    pre: InstancePre<Guest>,
}

impl DoorCode {
    pub(crate) fn link(engine: &Engine, module: &Module) -> Result<DoorCode, PluginFault> {
        let refuse = |message: String| PluginFault::Refused { message };
        let outline = Outline::of_module(module);
        let recognised = recognise_outline(&outline).ok_or_else(|| refuse(NO_DOOR.to_owned()))?;
        if !recognised.refused.is_empty() {
            return Err(refuse(recognised.refused.join("; ")));
        }
        let door = recognised.door;
        let pre = linker(engine, door, &outline)
            .and_then(|linker| linker.instantiate_pre(module))
            .map_err(|error| refuse(format!("wants what this host does not have: {error:#}")))?;
        Ok(DoorCode { door, pre })
    }
}

/// Everything that a module of this door may import.
fn linker(engine: &Engine, door: Door, outline: &Outline) -> wasmtime::Result<Linker<Guest>> {
    let mut linker = Linker::new(engine.wasmtime());
    preview1::add_to_linker(&mut linker)?;
    match door {
        Door::Command | Door::FluentBit => {}
        Door::Redpanda(_) => redpanda::add_to_linker(&mut linker)?,
        Door::Fluvio(_) => fluvio::add_to_linker(&mut linker, outline)?,
    }
    Ok(linker)
}

/// The state behind an instance that came through a door.
pub(crate) struct State {
    pub(crate) preview1: Preview1,
    /// Once it was looked for.
    pub(crate) memory: Option<Memory>,
    /// Pointer and length that a SmartModule handed over last.
    pub(crate) copied: Option<(u32, u32)>,
    /// Of a Data Transform.
    pub(crate) redpanda: Option<redpanda::Held>,
}

impl State {
    fn new(preview1: Preview1) -> State {
        State { preview1, memory: None, copied: None, redpanda: None }
    }
}

/// What an instance has used.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    pub(crate) memory: usize,
    pub(crate) memory_peak: usize,
    /// Before the first call.
    pub(crate) memory_at_start: usize,
    pub(crate) memory_limit: usize,
    /// Fuel of all calls, where it is counted.
    pub(crate) fuel: u64,
}

impl Usage {
    /// Of an instance as it is now.
    fn of(store: &Store<Guest>, memory_at_start: usize) -> Usage {
        let limiter = &store.data().limiter;
        Usage {
            memory: limiter.used(),
            memory_peak: limiter.peak,
            memory_at_start,
            memory_limit: limiter.limit(),
            fuel: store.get_fuel().map_or(0, |left| u64::MAX - left),
        }
    }
}

/// A configured instance behind a door, ready for chunks.
trait Speaker: Send {
    /// Stages what became of the rows. After an `Err` the instance is dropped.
    fn process(&mut self, chunk: &mut Chunk, call: Call) -> Result<(), PluginFault>;
    fn usage(&self) -> Usage;
}

/// The counterpart of an instance of a component.
pub(crate) struct Instance {
    speaker: Box<dyn Speaker>,
    declared: Declared,
    calls: u64,
}

impl Instance {
    pub(crate) fn start(step: &Step, code: &DoorCode) -> Result<Instance, PluginFault> {
        let speaker: Box<dyn Speaker> = match code.door {
            Door::Command => Box::new(command::Command::start(step, &code.pre)?),
            Door::FluentBit => Box::new(fluent_bit::FluentBit::start(step, &code.pre)?),
            Door::Redpanda(version) => Box::new(redpanda::Redpanda::start(step, &code.pre, version)?),
            Door::Fluvio(kind) => Box::new(fluvio::Fluvio::start(step, &code.pre, kind)?),
        };
        Ok(Instance { speaker, declared: Declared::default(), calls: 0 })
    }

    pub(crate) fn process(&mut self, chunk: &mut Chunk, call: Call) -> Result<(), PluginFault> {
        self.calls += 1;
        self.speaker.process(chunk, call)
    }

    pub(crate) fn declared(&self) -> &Declared {
        &self.declared
    }

    pub(crate) fn calls(&self) -> u64 {
        self.calls
    }

    pub(crate) fn usage(&self) -> Usage {
        self.speaker.usage()
    }

    /// Guests of foreign systems leak what they return, by design: any growth over the mark ends the instance.
    pub(crate) fn memory_over(&self, percent: u8) -> bool {
        let usage = self.usage();
        let over = usage.memory / 100 >= usage.memory_limit / 10_000 * usize::from(percent);
        over && usage.memory > usage.memory_at_start
    }
}

/// The transform's config as `T`; what is wrong with it is the operator's to mend.
fn config<T: serde::de::DeserializeOwned>(step: &Step, door: Door) -> Result<T, PluginFault> {
    serde_json::from_str(&step.config)
        .map_err(|error| PluginFault::Returned { message: format!("config of a {door}: {error}") })
}

/// A call through the host's own chunk went wrong.
fn host(misuse: wasmill_chunk::Misuse) -> PluginFault {
    answer::fault_of(misuse)
}

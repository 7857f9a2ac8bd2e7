//! The host side of `wit/plugin.wit`: what guests may import, registered by hand so that lists cross the boundary with
//! one copy on the way in and none on the way out.
//!
//! Semantics live in `wasmill-chunk`; here is only the crossing. A guest that breaks the contract is trapped with a
//! text that names the function and what was wrong.

mod event_clock;
mod http;
pub(crate) mod nn;
mod records;
mod setup;
mod shapes;
mod state;

pub(crate) use shapes::OutBuffers;

use wasmill_state::StateError;
use wasmtime::component::{ComponentType, Lift, Linker, WasmStr};
use wasmtime::{AsContext, StoreContextMut};

use crate::fault::Interrupted;
use crate::instance::{Guest, Phase};
use crate::log::Level;

/// Version of the WIT package that this host speaks.
pub(crate) const VERSION: &str = "0.1.3";
/// The interface that a plugin must export.
pub(crate) const TRANSFORM: &str = "wasmill:plugin/transform@0.1.3";
/// Optional exports, looked up by name.
pub(crate) const EVENT_TIME: &str = "wasmill:plugin/event-time@0.1.3";

/// Whether `name` is this interface in any version that goes with this host's. Versions of one line (the major one; the
/// minor one while that is 0) differ only by what they add, so what a component was built for need not be ours.
pub(crate) fn is(name: &str, interface: &str) -> bool {
    let version = |name: &str| semver::Version::parse(name.split_once('@')?.1).ok();
    let (Some(theirs), Some(ours)) = (version(name), version(interface)) else { return false };
    base(name) == base(interface) && line(&theirs) == line(&ours)
}

/// An interface's name without its version.
fn base(name: &str) -> &str {
    name.split_once('@').map_or(name, |(base, _)| base)
}

/// What two versions have in common when the one only adds to the other.
pub(crate) fn line(version: &semver::Version) -> (u64, u64) {
    (version.major, if version.major == 0 { version.minor } else { 0 })
}

/// Every function that a plugin may import, by interface; checked against the linker by a test.
pub(crate) const IMPORTS: &[(&str, &[&str])] = &[
    ("records", records::FUNCTIONS),
    ("setup", &["field", "output", "secret", "file"]),
    ("log", &["write"]),
    ("http", http::FUNCTIONS),
    ("state", state::FUNCTIONS),
    ("event-clock", event_clock::FUNCTIONS),
    // Types only.
    ("transform", &[]),
];

/// The host type behind the WIT resource `chunk`; a handle's representation is a `RowsId`.
pub(crate) struct Rows;

/// A guest broke the contract of a host function.
#[derive(Debug, thiserror::Error)]
#[error("{function}: {cause}")]
pub(crate) struct AbiError {
    pub(crate) function: &'static str,
    #[source]
    pub(crate) cause: AbiCause,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum AbiCause {
    #[error(transparent)]
    Misuse(wasmill_chunk::Misuse),
    #[error("may be called inside configure only")]
    OutsideConfigure,
    #[error("there is no chunk outside process")]
    NoChunk,
    #[error("more than {limit} fields declared")]
    TooManyFields { limit: usize },
    #[error("fields declared whose keys take more than {limit} bytes")]
    KeysTooLong { limit: usize },
    #[error("{requests} requests at once; at most {limit} are allowed")]
    TooManyRequests { requests: usize, limit: usize },
    #[error("a path of {steps} keys; 1 to {limit} are allowed")]
    Path { steps: usize, limit: usize },
    #[error("{0}")]
    Text(&'static str),
    #[error("lists of different lengths")]
    Lengths,
    #[error("{keys} keys at once; at most {limit} are allowed")]
    TooManyKeys { keys: usize, limit: usize },
    #[error(transparent)]
    Overdue(Interrupted),
    #[error(transparent)]
    State(#[from] StateError),
    #[error("{bytes} bytes of tensors, with which the instance would have more than the {limit} that it may")]
    NoRoom { bytes: usize, limit: usize },
}

impl AbiError {
    pub(crate) fn trap(function: &'static str, cause: AbiCause) -> wasmtime::Error {
        wasmtime::Error::new(AbiError { function, cause })
    }
}

/// As in the WIT.
#[expect(dead_code, reason = "made by lifting only")]
#[derive(Clone, Copy, ComponentType, Lift)]
#[component(enum)]
#[repr(u8)]
enum LevelIn {
    #[component(name = "debug")]
    Debug,
    #[component(name = "info")]
    Info,
    #[component(name = "warn")]
    Warn,
    #[component(name = "error")]
    Error,
}

pub(crate) fn add_to_linker(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    records::add_to_linker(&mut linker.instance(&interface("records"))?)?;
    setup::add_to_linker(&mut linker.instance(&interface("setup"))?)?;
    http::add_to_linker(&mut linker.instance(&interface("http"))?)?;
    state::add_to_linker(&mut linker.instance(&interface("state"))?)?;
    nn::add_to_linker(linker)?;
    event_clock::add_to_linker(&mut linker.instance(&interface("event-clock"))?)?;
    linker.instance(&interface("log"))?.func_wrap(
        "write",
        |mut store: StoreContextMut<'_, Guest>, (level, message): (LevelIn, WasmStr)| {
            // The text must not borrow the store while the gate is used; log lines are rare.
            let message = message.to_str(store.as_context())?.into_owned();
            let level = match level {
                LevelIn::Debug => Level::Debug,
                LevelIn::Info => Level::Info,
                LevelIn::Warn => Level::Warn,
                LevelIn::Error => Level::Error,
            };
            store.data_mut().log(level, &message);
            Ok(())
        },
    )
}

fn interface(name: &str) -> String {
    format!("wasmill:plugin/{name}@{VERSION}")
}

/// The guest's state while it is inside `configure`; a trap otherwise.
fn configuring<'a>(
    store: &'a mut StoreContextMut<'_, Guest>,
    function: &'static str,
) -> wasmtime::Result<&'a mut Guest> {
    let guest = store.data_mut();
    if guest.phase == Phase::Configure {
        Ok(guest)
    } else {
        Err(AbiError::trap(function, AbiCause::OutsideConfigure))
    }
}

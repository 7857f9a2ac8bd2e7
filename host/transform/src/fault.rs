//! What went wrong in or around a guest, as a value: who has to mend it, and a text for that person.
//!
//! A fault never carries record contents beyond what the guest itself put into its message.

use std::fmt;
use std::fmt::Write as _;
use std::time::Duration;

use wasmtime::{PoolConcurrencyLimitError, Trap, WasmBacktrace};

use wasmill_state::StateError;

use crate::abi::{AbiCause, AbiError};
use crate::instance::Guest;
use crate::wasi::MayNotWait;

/// Longest reason that is kept, in bytes; longer ones are cut at a character.
pub(crate) const REASON_BYTES_MAX: usize = 1024;
/// The name of a function in a backtrace.
const NAME_BYTES_MAX: usize = 512;

/// How the runtime's text ends when it stops a call that hands over too much.
const COPIED_TOO_MUCH: &str = "fuel allocated for hostcalls has been exhausted";

/// Who has to act on a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// The author of the plugin.
    Plugin,
    /// The operator: config, grants, limits.
    Operator,
    /// The host itself: out of pool slots, broken invariant.
    Host,
}

/// One failed attempt to load, configure or call a plugin.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
pub enum PluginFault {
    /// The guest trapped, or the host trapped it for misusing the ABI. `detail` has the Wasm frames and stderr.
    Trap { message: String, detail: String },
    /// `configure` or `process` returned an error of its own.
    Returned { message: String },
    /// The guest used more CPU time, or waited longer, than it may.
    Deadline { message: String },
    /// The guest asked for more memory than its limit.
    Memory { limit_bytes: u64, message: String },
    /// The guest wrote more than it may per chunk.
    OutputTooLarge { message: String },
    /// The guest returned something that the ABI does not allow.
    BadOutput { message: String },
    /// State could not be written: the tenant's quota, or a bound of its own.
    State { message: String, of_quota: bool },
    /// The plugin cannot be used at all: wrong imports, no such export, refused grants.
    Refused { message: String },
    /// The host could not run the guest.
    Host { message: String },
}

impl PluginFault {
    /// Who has to act.
    pub fn owner(&self) -> Owner {
        match self {
            PluginFault::Host { .. } => Owner::Host,
            PluginFault::Refused { .. } | PluginFault::State { .. } => Owner::Operator,
            _ => Owner::Plugin,
        }
    }

    /// A short, stable word for metrics.
    pub fn kind(&self) -> &'static str {
        match self {
            PluginFault::Trap { .. } => "trap",
            PluginFault::Returned { .. } => "error",
            PluginFault::Deadline { .. } => "deadline",
            PluginFault::Memory { .. } => "memory",
            PluginFault::OutputTooLarge { .. } => "output",
            PluginFault::BadOutput { .. } => "bad-output",
            PluginFault::State { .. } => "state",
            PluginFault::Refused { .. } => "refused",
            PluginFault::Host { .. } => "host",
        }
    }

    /// Whether the tenant's quota of state had no room.
    pub(crate) fn is_of_state_quota(&self) -> bool {
        matches!(self, PluginFault::State { of_quota: true, .. })
    }

    /// The reason that goes into a dead letter: one line, at most 1 KiB.
    pub fn reason(&self) -> String {
        cut_text(&self.to_string(), REASON_BYTES_MAX)
    }

    /// The same with texts of bounded length, whoever wrote them.
    pub(crate) fn bounded(self) -> PluginFault {
        const MESSAGE: usize = 4 << 10;
        const DETAIL: usize = 16 << 10;
        let cut = |text: String| cut_text(&text, MESSAGE);
        match self {
            PluginFault::Trap { message, detail } => {
                PluginFault::Trap { message: cut(message), detail: cut_text(&detail, DETAIL) }
            }
            PluginFault::Returned { message } => PluginFault::Returned { message: cut(message) },
            PluginFault::Deadline { message } => PluginFault::Deadline { message: cut(message) },
            PluginFault::Memory { limit_bytes, message } => {
                PluginFault::Memory { limit_bytes, message: cut(message) }
            }
            PluginFault::OutputTooLarge { message } => PluginFault::OutputTooLarge { message: cut(message) },
            PluginFault::BadOutput { message } => PluginFault::BadOutput { message: cut(message) },
            PluginFault::State { message, of_quota } => {
                PluginFault::State { message: cut(message), of_quota }
            }
            PluginFault::Refused { message } => PluginFault::Refused { message: cut(message) },
            PluginFault::Host { message } => PluginFault::Host { message: cut(message) },
        }
    }

    /// Frames and captured stderr, for the plugin's author; empty when there is nothing more to say.
    pub fn detail(&self) -> &str {
        match self {
            PluginFault::Trap { detail, .. } => detail,
            _ => "",
        }
    }
}

impl fmt::Display for PluginFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PluginFault::Trap { message, .. } => write!(f, "trap: {message}"),
            PluginFault::Returned { message } => write!(f, "{message}"),
            PluginFault::Deadline { message } => write!(f, "deadline: {message}"),
            PluginFault::Memory { limit_bytes, message } => {
                write!(f, "memory limit of {limit_bytes} bytes reached: {message}")
            }
            PluginFault::OutputTooLarge { message } => write!(f, "output too large: {message}"),
            PluginFault::BadOutput { message } => write!(f, "bad output: {message}"),
            PluginFault::State { message, .. } => write!(f, "{message}"),
            PluginFault::Refused { message } => write!(f, "refused: {message}"),
            PluginFault::Host { message } => write!(f, "host: {message}"),
        }
    }
}

impl std::error::Error for PluginFault {}

/// `text` cut to at most `max` bytes at a character boundary, with a mark where it was cut.
pub(crate) fn cut_text(text: &str, max: usize) -> String {
    if text.len() <= max {
        return text.to_owned();
    }
    let mut end = max.saturating_sub(3);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let mut out = String::with_capacity(end + 3);
    out.push_str(text.get(..end).unwrap_or_default());
    out.push_str("...");
    out
}

/// The error and what caused it.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.ends_with(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = error.source();
    }
    text
}

/// A guest's own error text, made fit for a reason.
pub(crate) fn reason_of(message: String) -> String {
    if message.trim().is_empty() {
        return "the plugin returned an error without a message".to_owned();
    }
    cut_text(&message, REASON_BYTES_MAX)
}

/// The epoch callback's verdict on a call that took too long.
#[derive(Clone, Copy, Debug, thiserror::Error)]
pub(crate) enum Interrupted {
    #[error("used more than {}ms of CPU time", .limit.as_millis())]
    Cpu { limit: Duration },
    #[error("did not return within {}ms", .limit.as_millis())]
    Wall { limit: Duration },
}

/// What a failed call means, in words for the plugin's author.
pub(crate) fn fault_of(error: &wasmtime::Error, guest: &Guest, stderr: &str) -> PluginFault {
    if let Some(fault) = error.downcast_ref::<PluginFault>() {
        return fault.clone();
    }
    if let Some(interrupted) = error.downcast_ref::<Interrupted>() {
        return PluginFault::Deadline { message: interrupted.to_string() };
    }
    if let Some(waited) = error.downcast_ref::<MayNotWait>() {
        return PluginFault::Deadline { message: waited.to_string() };
    }
    if let Some(abi) = error.downcast_ref::<AbiError>() {
        let message = abi.to_string();
        return match abi.cause {
            AbiCause::Misuse(
                wasmill_chunk::Misuse::TooLarge { .. } | wasmill_chunk::Misuse::TooManyRows { .. },
            ) => PluginFault::OutputTooLarge { message },
            AbiCause::NoRoom { limit, .. } => PluginFault::Memory { limit_bytes: limit as u64, message },
            AbiCause::Overdue(interrupted) => PluginFault::Deadline { message: interrupted.to_string() },
            AbiCause::State(StateError::Store(_)) => PluginFault::Host { message: with_causes(abi) },
            AbiCause::State(StateError::Full { .. }) => PluginFault::State { message, of_quota: true },
            AbiCause::State(StateError::SliceFull) => PluginFault::State { message, of_quota: false },
            _ => PluginFault::BadOutput { message },
        };
    }
    if error.downcast_ref::<PoolConcurrencyLimitError>().is_some() {
        return PluginFault::Host { message: format!("no instance left in the pool: {error:#}") };
    }
    // The type of this error is the runtime's own secret.
    if error.root_cause().to_string().ends_with(COPIED_TOO_MUCH) {
        let message =
            "one call of the host would have copied more out of the plugin than it may hand over".to_owned();
        return PluginFault::OutputTooLarge { message };
    }
    let mut message = match (error.downcast_ref::<wasmtime_wasi::I32Exit>(), error.downcast_ref::<Trap>()) {
        (Some(exit), _) => format!("called exit({})", exit.0),
        (None, Some(trap)) => trap_text(*trap).to_owned(),
        (None, None) => error.root_cause().to_string(),
    };
    // A panic of the guest's language is a bare trap; what it said went to the log or to stderr.
    // Rust's ends with advice that helps nobody here.
    let says =
        |line: &&str| !line.trim().is_empty() && !line.starts_with("note: run with `RUST_BACKTRACE=1`");
    let last_line = stderr.lines().rev().find(says).unwrap_or_default();
    for words in [guest.last_words.as_str(), last_line] {
        if !words.is_empty() && !message.contains(words) {
            let _infallible = write!(message, ": {words}");
            break;
        }
    }
    if guest.limiter.refused {
        return PluginFault::Memory {
            limit_bytes: guest.limiter.limit() as u64,
            message: reason_of(message),
        };
    }
    let mut detail = String::new();
    if let Some(backtrace) = error.downcast_ref::<WasmBacktrace>() {
        for frame in backtrace.frames() {
            let name = match frame.func_name() {
                // A name is the guest's, and what is made of it may be longer than it is.
                Some(name) => {
                    let name = cut_text(name, NAME_BYTES_MAX);
                    cut_text(&format!("{:#}", rustc_demangle::demangle(&name)), NAME_BYTES_MAX)
                }
                None => format!("function {}", frame.func_index()),
            };
            let _infallible = match frame.module_offset() {
                Some(offset) => writeln!(detail, "  at {name} ({offset:#x})"),
                None => writeln!(detail, "  at {name}"),
            };
            for symbol in frame.symbols() {
                if let Some(file) = symbol.file() {
                    let line = symbol.line().map_or_else(String::new, |line| format!(":{line}"));
                    let _infallible = writeln!(detail, "       {file}{line}");
                }
            }
        }
    }
    if !stderr.is_empty() {
        let _infallible = writeln!(detail, "stderr:\n{stderr}");
    }
    PluginFault::Trap { message: reason_of(message), detail }
}

fn trap_text(trap: Trap) -> &'static str {
    match trap {
        Trap::UnreachableCodeReached => "the plugin panicked or aborted (unreachable)",
        Trap::StackOverflow => "call stack exhausted",
        Trap::MemoryOutOfBounds => "memory access out of bounds",
        Trap::TableOutOfBounds => "table access out of bounds",
        Trap::IntegerDivisionByZero => "division by zero",
        Trap::IntegerOverflow => "integer overflow",
        Trap::BadConversionToInteger => "a float that is no integer",
        Trap::IndirectCallToNull => "call of an empty table entry",
        Trap::BadSignature => "indirect call with another signature",
        Trap::CannotEnterComponent => "the instance had already failed",
        _ => "the guest trapped",
    }
}

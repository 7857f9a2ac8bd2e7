//! What went wrong in or around a guest, as a value: who has to mend it, and a text for that person.
//!
//! A fault never carries record contents beyond what the guest itself put into its message.

use std::fmt;

/// Longest reason that is kept, in bytes; longer ones are cut at a character.
pub(crate) const REASON_BYTES_MAX: usize = 1024;

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
#[derive(Clone, Debug, PartialEq, Eq)]
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
            PluginFault::Refused { .. } => Owner::Operator,
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
            PluginFault::Refused { .. } => "refused",
            PluginFault::Host { .. } => "host",
        }
    }

    /// The reason that goes into a dead letter: one line, at most 1 KiB.
    pub fn reason(&self) -> String {
        cut_text(&self.to_string(), REASON_BYTES_MAX)
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

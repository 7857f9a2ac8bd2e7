//! Keys of what one instance of a plugin may use. A doc comment here is text that users read.

use schemars::JsonSchema;
use serde::Deserialize;

use super::default;
use crate::units::{Size, Span};

/// What one instance of a plugin may use.
#[derive(Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(title = "limits")]
pub(crate) struct Limits {
    /// Linear memory.
    #[schemars(extend("default" = default::memory()))]
    pub(crate) memory: Size,
    /// CPU time of one call, which is one chunk of about 128 KiB, or a slice where a plugin of the chain asks for that.
    #[schemars(extend("default" = default::deadline()))]
    pub(crate) deadline: Span,
    /// CPU time of `configure`.
    #[schemars(extend("default" = default::configure_deadline()))]
    pub(crate) configure_deadline: Span,
    /// Bytes that one call may hand over.
    #[schemars(extend("default" = default::output()))]
    pub(crate) output: Size,
    /// Log text of one call; more is cut.
    #[schemars(extend("default" = default::log()))]
    pub(crate) log: Size,
    /// Time that one call may wait for answers to its requests, all together.
    #[schemars(extend("default" = default::http_deadline()))]
    pub(crate) http_deadline: Span,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            memory: default::memory(),
            deadline: default::deadline(),
            configure_deadline: default::configure_deadline(),
            output: default::output(),
            log: default::log(),
            http_deadline: default::http_deadline(),
        }
    }
}

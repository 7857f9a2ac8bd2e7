//! Keys of what a tenant may use. A doc comment here is text that users read.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::units::{Cores, Size};

/// What a tenant may use; docs/quotas.md says what is answered past each bound. What no key says may be set over HTTP.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(title = "quota")]
pub(crate) struct Quota {
    /// Records that arrive in a second, at most as many at once. By default without bound.
    #[schemars(range(min = 1))]
    pub(crate) records_per_second: Option<u32>,
    /// Bytes of records that arrive in a second, at most as many at once. By default without bound.
    pub(crate) bytes_per_second: Option<Size>,
    /// Requests with a body at a time. By default 256.
    #[schemars(range(min = 1))]
    pub(crate) requests: Option<u32>,
    /// Request bodies in memory: of what is announced more waits for the tenant's own requests to end, and no body is larger. By default 128MiB.
    pub(crate) body_bytes: Option<Size>,
    /// Bytes that wait in all streams of the tenant, before and behind the transforms. By default without bound; `max_bytes` of `[buffer]` bounds each stream.
    pub(crate) buffered_bytes: Option<Size>,
    /// Processor cores that its plugins and encoders may use on average, such as 0.5. By default without bound.
    pub(crate) cpu: Option<Cores>,
    /// Linear memory of one instance of a plugin, whatever its `limits` say. By default without bound.
    pub(crate) plugin_memory: Option<Size>,
    /// Linear memory of instances that are kept for the next slice. By default without bound; `warm_memory` bounds all tenants together.
    pub(crate) warm_memory: Option<Size>,
    /// Plugins. By default without bound.
    pub(crate) plugins: Option<u32>,
    /// Bytes of one plugin file. By default 64MiB.
    pub(crate) plugin_bytes: Option<Size>,
    /// Streams. By default without bound.
    pub(crate) streams: Option<u32>,
    /// Bytes of dead letters of all its streams. By default without bound; `max_bytes` of `dead_letters` bounds each stream.
    pub(crate) dead_letter_bytes: Option<Size>,
    /// Bytes of state that its plugins keep, of all its streams. By default without bound.
    pub(crate) state_bytes: Option<Size>,
    /// Seconds of CPU time that the compiler may use within an hour. By default without bound.
    #[schemars(range(min = 1))]
    pub(crate) compile_seconds: Option<u32>,
    /// Attempts of deliveries over the network at a time. By default without bound but that of each output.
    #[schemars(range(min = 1))]
    pub(crate) deliveries: Option<u32>,
}

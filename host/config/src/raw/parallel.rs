//! The keys of `parallel`: how the keys of a stream are parted, so that what keeps state runs on several cores.

use schemars::JsonSchema;
use serde::Deserialize;

/// Parts the records by a key into strands that run at once. Plugins that keep state have state of its own in each strand, and see the records of one key in order.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "parallel")]
pub(crate) struct Parallel {
    /// The field with the key, of records that are JSON; dots lead inwards, `\.` is a dot in a name. Records without it have the empty key. It must say which records share state: the key by which the plugins keep some, or a part of it.
    // What is bad is `None`, and was told.
    #[schemars(required, extend("examples" = ["card", "user.id"]))]
    pub(crate) key: Option<String>,
    /// How many strands. With state there, it stays as it is until that is dropped.
    #[schemars(required, range(min = 2, max = 64))]
    pub(crate) strands: Option<u32>,
}

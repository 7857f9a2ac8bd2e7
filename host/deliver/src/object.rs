//! One object on its way out: its name, what it is, and the synced file that holds its bytes.
//!
//! The metadata is what a later run needs to recognise the object as ours, so it is kept in the
//! outcome and must not be computed anew.

use std::path::Path;

use serde::{Deserialize, Serialize};

/// What is known about an object before it leaves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectMeta {
    /// Relative name from the template, `/`-separated; carries the batch id.
    pub name: String,
    pub content_type: String,
    pub content_encoding: Option<String>,
    pub batch_id: String,
    /// xxh3-128 of the uncompressed object.
    #[serde(with = "digest")]
    pub digest: u128,
    /// xxh3-128 of the bytes as sent.
    #[serde(with = "digest")]
    pub body_digest: u128,
    /// Size of the uncompressed object, in bytes.
    pub raw_bytes: u64,
    /// Size as sent, in bytes.
    pub bytes: u64,
    pub records: u64,
    pub stream: String,
    pub output: String,
    /// Arrival of the oldest record, in nanoseconds since the Unix epoch.
    #[serde(default)]
    pub arrival: i64,
    /// Number of its first row within the batch: not 0 where the rows before it have gone elsewhere.
    #[serde(default)]
    pub first_row: u64,
}

impl ObjectMeta {
    /// `digest` as it appears in metadata and headers.
    pub fn digest_text(&self) -> String {
        format!("xxh3-128:{:032x}", self.digest)
    }
}

/// An object and its bytes.
#[derive(Clone, Copy, Debug)]
pub struct Object<'a> {
    pub meta: &'a ObjectMeta,
    /// A synced file in the destination's staging directory. A directory destination moves it
    /// away; the others leave it to the caller.
    pub body: &'a Path,
}

/// How an object came to be at its destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivered {
    /// By this call.
    Created,
    /// By an earlier one whose success was not recorded.
    AlreadyOurs,
    /// Not yet: some of its rows were refused, for which somebody has to find a place ([`Destination::refused`]) before the
    /// same call goes on with the others.
    ///
    /// [`Destination::refused`]: crate::Destination::refused
    InPart,
}

/// Digests as hexadecimal text: JSON has no 128-bit numbers.
mod digest {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(digest: &u128, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&format!("{digest:032x}"))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u128, D::Error> {
        let text = String::deserialize(deserializer)?;
        u128::from_str_radix(&text, 16).map_err(D::Error::custom)
    }
}

//! One dead letter, as it stands in its file and in every answer about it.
//!
//! ```json
//! {"number":17,"stage":"transform","transform":"parse","plugin":"sha256:…","reason":"no closing quote","slice":1200,
//!  "offset":1217,"child":0,"arrival":1716000000000000000,"failed":1716000000050000000,"attempts":1,"payload":"…"}
//! ```
//!
//! `payload` is the record as text; bytes that are no UTF-8 stand as `payload_base64` instead. A letter of the
//! delivery stage has an `object` in their place: its file, and everything that the destination has to be told; or it is
//! a single `row` of a batch.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};
use wasmill_deliver::ObjectMeta;

/// Children from here on are rows that did not fit when their batch was sealed: which of its piece's records each came of is
/// not known any more. The store numbers them within their `slice`.
pub(crate) const SEALED_CHILD: u32 = 1 << 31;

/// See the head of this file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeadLetter {
    /// Names the letter within its stream; grows, and is never used again. The store gives it.
    pub number: u64,
    pub stage: Stage,
    /// Name of the transform in the stream, and digest of the plugin; empty but for the transform stage.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub transform: String,
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub plugin: String,
    /// Name of the output, but for the transform stage.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub output: Option<String>,
    pub reason: String,
    /// First offset of the outcome that the letter is from; for the delivery stage, of the batch.
    pub slice: u64,
    /// Of the record, -1 for a row that no record stands behind; of the batch's first record for the delivery stage.
    pub offset: i64,
    pub child: u32,
    /// Name of the source that the record came from, of several.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub source: Option<String>,
    /// When the record arrived, and when it became a letter: nanoseconds since the epoch.
    pub arrival: i64,
    pub failed: i64,
    pub attempts: u32,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub payload: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub payload_base64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub object: Option<KeptObject>,
    /// Of a row that its destination refused while it took others of the batch; its bytes are the payload.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub row: Option<LetterRow>,
}

/// Which row of which batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LetterRow {
    pub batch_id: String,
    pub row: u64,
}

impl LetterRow {
    /// Tells it from all others.
    pub(super) fn id(&self) -> String {
        format!("{}/{}", self.batch_id, self.row)
    }
}

/// An object that could not be delivered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KeptObject {
    /// Relative to the directory of the store.
    pub file: String,
    #[serde(flatten)]
    pub meta: ObjectMeta,
}

/// Where a dead letter comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    Transform,
    /// Behind the last transform: the record did not fit the format of its output.
    Encode,
    Delivery,
}

impl Stage {
    pub fn text(self) -> &'static str {
        match self {
            Stage::Transform => "transform",
            Stage::Encode => "encode",
            Stage::Delivery => "delivery",
        }
    }
}

impl std::str::FromStr for Stage {
    type Err = String;

    fn from_str(text: &str) -> Result<Stage, String> {
        [Stage::Transform, Stage::Encode, Stage::Delivery]
            .into_iter()
            .find(|stage| stage.text() == text)
            .ok_or_else(|| format!("there is no stage {text:?}, expected transform, encode or delivery"))
    }
}

/// What a replay does to the letters that it tried, by number.
pub type Changes = BTreeMap<u64, Change>;

/// What becomes of one letter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Change {
    /// It is done with.
    Removed,
    /// It failed again and stays: what its last attempt said, and how many there were.
    Again {
        stage: Stage,
        transform: String,
        plugin: String,
        output: Option<String>,
        reason: String,
        attempts: u32,
    },
}

impl DeadLetter {
    /// Sets the payload as text where it is UTF-8 and as base64 where it is not.
    #[must_use]
    pub fn with_payload(mut self, bytes: &[u8]) -> DeadLetter {
        match std::str::from_utf8(bytes) {
            Ok(text) => self.payload = Some(text.to_owned()),
            Err(_not_text) => self.payload_base64 = Some(BASE64.encode(bytes)),
        }
        self
    }

    /// The original bytes; of a letter that has none (or bad base64, which nobody here writes), nothing.
    pub fn payload_bytes(&self) -> Vec<u8> {
        match (&self.payload, &self.payload_base64) {
            (Some(text), _) => text.clone().into_bytes(),
            (None, Some(text)) => BASE64.decode(text).unwrap_or_default(),
            (None, None) => Vec::new(),
        }
    }

    /// What a letter of the delivery stage is known by.
    pub(super) fn delivery_id(&self) -> Option<String> {
        let object = self.object.as_ref().map(|object| object.meta.batch_id.clone());
        object.or_else(|| self.row.as_ref().map(LetterRow::id))
    }

    /// Whether it holds a row as plugins left it, or one that no record stands behind, in place of a record.
    pub(crate) fn is_row_of_plugins(&self) -> bool {
        self.stage != Stage::Delivery && (self.offset < 0 || self.child >= SEALED_CHILD)
    }

    /// Tells letters of records apart: what is not above the last one that was kept is there already.
    pub(super) fn key(&self) -> (u64, i64, u32) {
        // Rows of a batch come of whatever slices were before, and outcomes that only seal begin where the one before does: of
        // these, numbers grow, and offsets need not. They stand before those of the slice itself.
        let offset = if self.child < SEALED_CHILD { self.offset } else { i64::MIN };
        (self.slice, offset, self.child)
    }

    /// Whether it changed.
    pub(super) fn apply(&mut self, change: &Change) -> bool {
        let Change::Again { stage, transform, plugin, output, reason, attempts } = change else {
            return false;
        };
        if *attempts <= self.attempts {
            return false;
        }
        self.stage = *stage;
        self.transform.clone_from(transform);
        self.plugin.clone_from(plugin);
        self.output.clone_from(output);
        self.reason.clone_from(reason);
        self.attempts = *attempts;
        true
    }
}

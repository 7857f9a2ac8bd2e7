//! Test bodies: files in a temporary staging directory with metadata that fits them.

use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::xxh3_128;

use crate::object::ObjectMeta;

pub(crate) struct Staged {
    directory: tempfile::TempDir,
}

impl Staged {
    pub(crate) fn new() -> Staged {
        Staged { directory: tempfile::tempdir().unwrap() }
    }

    /// A body in this directory, for the object `name`.
    pub(crate) fn object(&self, name: &str, body: &[u8]) -> (ObjectMeta, PathBuf) {
        object_in(self.directory.path(), name, body)
    }
}

/// A body in `staging`, for the object `name`.
pub(crate) fn object_in(staging: &Path, name: &str, body: &[u8]) -> (ObjectMeta, PathBuf) {
    let path = staging.join(name.replace('/', "+"));
    std::fs::write(&path, body).unwrap();
    (meta(name, body), path)
}

pub(crate) fn meta(name: &str, body: &[u8]) -> ObjectMeta {
    ObjectMeta {
        name: name.to_owned(),
        content_type: "application/x-ndjson".to_owned(),
        content_encoding: None,
        batch_id: format!("batch-of-{}", name.replace('/', "-")),
        digest: xxh3_128(body),
        body_digest: xxh3_128(body),
        raw_bytes: body.len() as u64,
        bytes: body.len() as u64,
        records: 1,
        stream: "access".to_owned(),
        output: "default".to_owned(),
        arrival: 0,
        first_row: 0,
    }
}

/// Rows as the pipeline frames them, which arrived at the epoch.
pub(crate) fn framed(rows: &[&[u8]]) -> Vec<u8> {
    rows.iter().flat_map(|row| framed_at(row, 0)).collect()
}

/// A row that arrived then.
pub(crate) fn framed_at(row: &[u8], arrival: i64) -> Vec<u8> {
    let length = u32::try_from(row.len()).unwrap().to_le_bytes();
    [&length[..], &arrival.to_le_bytes(), row].concat()
}

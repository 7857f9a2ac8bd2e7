//! The dead letters of one stream: records that could not be transformed, with their original bytes.
//!
//! They lie in `DATA/dead-letters/<tenant>/<stream>/letters.ndjson`, one JSON object a line:
//!
//! ```json
//! {"offset":17,"child":0,"stage":"transform","transform":"parse","plugin":"sha256:…","reason":"…",
//!  "arrival":1716000000000000000,"attempts":1,"payload":"…"}
//! ```
//!
//! `payload` is the record as text; bytes that are no UTF-8 stand as `payload_base64` instead. Letters are
//! keyed by (offset, child, transform) and appended in the order of outcomes, so writing the letters of an
//! outcome again after a crash adds nothing. The store never evicts: when it is full it says so and the
//! stream waits. It knows nothing about outcomes or plugins.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};

/// A line of the store.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeadLetter {
    pub offset: i64,
    pub child: u32,
    pub stage: Stage,
    /// Name of the transform in the stream; empty for the encode stage, and output and batch for the delivery stage.
    pub transform: String,
    /// Digest of the plugin, empty but for the transform stage.
    pub plugin: String,
    /// Name of the output, for the encode stage.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub output: Option<String>,
    pub reason: String,
    /// Nanoseconds since the epoch.
    pub arrival: i64,
    pub attempts: u32,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub payload: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub payload_base64: Option<String>,
    /// For the delivery stage: the encoded object, relative to the store, and the name it was to get.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub object: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub object_name: Option<String>,
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
}

/// Why letters could not be kept.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("dead letters of {path} take {bytes} bytes, the bound is {max}")]
    Full { path: PathBuf, bytes: u64, max: u64 },
    #[error("write dead letters to {path}")]
    Io {
        path: PathBuf,
        #[source]
        error: io::Error,
    },
}

/// See the head of this file.
#[derive(Debug)]
pub struct Store {
    dir: PathBuf,
    path: PathBuf,
    file: File,
    bytes: u64,
    max_bytes: u64,
    count: u64,
    /// Keys at and above this offset may stand in the store already: they are checked before appending.
    recent: std::collections::HashSet<(i64, u32, String)>,
}

impl Store {
    /// Opens or creates the store, cutting a torn last line. Keys of letters at or above `from` are kept in
    /// memory, since the outcomes that hold them may be written again.
    pub fn open(dir: &Path, max_bytes: u64, from: u64) -> Result<Store, StoreError> {
        let path = dir.join("letters.ndjson");
        let at = |error| StoreError::Io { path: path.clone(), error };
        std::fs::create_dir_all(dir).map_err(at)?;
        let mut file =
            OpenOptions::new().create(true).truncate(false).read(true).write(true).open(&path).map_err(at)?;
        let mut recent = std::collections::HashSet::new();
        let mut bytes = 0;
        let mut count = 0;
        let mut line = Vec::new();
        let mut reader = BufReader::new(&file);
        loop {
            line.clear();
            let read = reader.read_until(b'\n', &mut line).map_err(at)?;
            if read == 0 || line.last() != Some(&b'\n') {
                break;
            }
            bytes += read as u64;
            count += 1;
            if let Ok(letter) = serde_json::from_slice::<DeadLetter>(&line)
                && u64::try_from(letter.offset).map_or(true, |offset| offset >= from)
            {
                recent.insert((letter.offset, letter.child, letter.transform));
            }
        }
        drop(reader);
        file.set_len(bytes).map_err(at)?;
        file.seek(SeekFrom::End(0)).map_err(at)?;
        Ok(Store { dir: dir.to_owned(), path, file, bytes, max_bytes, count, recent })
    }

    /// Whether the letter of a batch that was given up is here; only among those whose keys are in memory.
    pub fn has_batch(&self, first_offset: u64, transform: &str) -> bool {
        let offset = i64::try_from(first_offset).unwrap_or(i64::MAX);
        self.recent.contains(&(offset, 0, transform.to_owned()))
    }

    /// Appends what is not there yet and syncs. Returns the stages of those that were new.
    pub fn append(&mut self, letters: &[DeadLetter]) -> Result<Vec<Stage>, StoreError> {
        let mut new = Vec::new();
        let mut lines = Vec::new();
        let mut keys = Vec::new();
        for letter in letters {
            let key = (letter.offset, letter.child, letter.transform.clone());
            if self.recent.contains(&key) {
                continue;
            }
            serde_json::to_writer(&mut lines, letter)
                .map_err(|error| StoreError::Io { path: self.path.clone(), error: error.into() })?;
            lines.push(b'\n');
            keys.push(key);
            new.push(letter.stage);
        }
        if lines.is_empty() {
            return Ok(new);
        }
        if self.bytes + lines.len() as u64 > self.max_bytes {
            return Err(StoreError::Full { path: self.path.clone(), bytes: self.bytes, max: self.max_bytes });
        }
        let written = self.file.write_all(&lines).and_then(|()| self.file.sync_data());
        if let Err(error) = written {
            // Whatever part of the lines arrived is cut off, so that the next try starts on a whole line.
            let cut = self.file.set_len(self.bytes).and_then(|()| self.file.seek(SeekFrom::End(0)));
            if let Err(cut) = cut {
                tracing::warn!(error = %cut, path = %self.path.display(), "cannot cut a torn dead letter");
            }
            return Err(StoreError::Io { path: self.path.clone(), error });
        }
        self.bytes += lines.len() as u64;
        self.count += keys.len() as u64;
        self.recent.extend(keys);
        Ok(new)
    }

    /// Letters below this offset will not be appended again: their keys are forgotten.
    pub fn settle(&mut self, below: u64) {
        self.recent.retain(|(offset, _, _)| u64::try_from(*offset).map_or(true, |offset| offset >= below));
    }

    /// Takes over the object of a batch that could not be delivered; returns its name within the store.
    pub fn keep_object(&mut self, staged: &Path, batch_id: &str) -> Result<String, StoreError> {
        let at = |error| StoreError::Io { path: self.path.clone(), error };
        let objects = self.dir.join("objects");
        std::fs::create_dir_all(&objects).map_err(at)?;
        let kept = objects.join(batch_id);
        if !kept.exists() {
            // The staging directory may be on another filesystem than the data directory.
            let temporary = objects.join(format!(".{batch_id}"));
            std::fs::copy(staged, &temporary).map_err(at)?;
            File::open(&temporary).and_then(|file| file.sync_all()).map_err(at)?;
            std::fs::rename(&temporary, &kept).map_err(at)?;
            File::open(&objects).and_then(|dir| dir.sync_all()).map_err(at)?;
        }
        Ok(format!("objects/{batch_id}"))
    }

    pub fn count(&self) -> u64 {
        self.count
    }

    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter(offset: i64, payload: &[u8]) -> DeadLetter {
        DeadLetter {
            offset,
            child: 0,
            stage: Stage::Transform,
            transform: "parse".into(),
            plugin: "sha256:00".into(),
            output: None,
            reason: "no closing quote".into(),
            arrival: 1,
            attempts: 1,
            payload: None,
            payload_base64: None,
            object: None,
            object_name: None,
        }
        .with_payload(payload)
    }

    #[test]
    fn letters_appended_twice_are_kept_once() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(dir.path(), 1 << 20, 0).unwrap();
        assert_eq!(store.append(&[letter(1, b"a"), letter(2, b"\xff")]).unwrap().len(), 2);
        assert_eq!(store.append(&[letter(2, b"\xff"), letter(3, b"c")]).unwrap().len(), 1);
        drop(store);
        let mut store = Store::open(dir.path(), 1 << 20, 2).unwrap();
        assert_eq!(store.append(&[letter(2, b"\xff"), letter(3, b"c")]).unwrap().len(), 0);
        assert_eq!(store.count(), 3);
    }

    #[test]
    fn store_full_refuses_and_keeps_what_it_has() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(dir.path(), 300, 0).unwrap();
        store.append(&[letter(1, b"a")]).unwrap();
        let before = store.bytes();
        assert!(matches!(store.append(&[letter(2, &[b'x'; 400])]), Err(StoreError::Full { .. })));
        assert_eq!((store.count(), store.bytes()), (1, before));
        assert_eq!(std::fs::metadata(dir.path().join("letters.ndjson")).unwrap().len(), before);
    }

    #[test]
    fn store_with_a_torn_line_cuts_it() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(dir.path(), 1 << 20, 0).unwrap();
        store.append(&[letter(1, b"a")]).unwrap();
        let whole = store.bytes();
        drop(store);
        let path = dir.path().join("letters.ndjson");
        OpenOptions::new().append(true).open(&path).unwrap().write_all(b"{\"offset\":2").unwrap();
        let mut store = Store::open(dir.path(), 1 << 20, 0).unwrap();
        assert_eq!(store.bytes(), whole);
        store.append(&[letter(2, b"b")]).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text.lines().filter(|line| serde_json::from_str::<DeadLetter>(line).is_ok()).count(), 2);
    }
}

//! How far the letters of a stream have been delivered to a destination of their own, and the object that is on its way.
//!
//! | file in `delivery/` | what |
//! |---|---|
//! | `cursor.json` | the number of the last letter that was delivered; bounds, name and digests of the object on its way |
//! | `<batch id>` | that object |
//!
//! An object is whole and synced before the cursor names it, and the cursor names it before anything is visible outside. So
//! the same bytes leave under the same name however often the process ends, whatever becomes of the letters meanwhile.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use wasmill_deliver::ObjectMeta;

use super::error::StoreError;
use super::letter::KeptObject;
use super::lines;

const CURSOR: &str = "cursor.json";
const REMEDY: &str =
    "put back a copy of it, or move it away: then all letters that are in the store leave once more";
/// An object in the making.
const PART: &str = "object.part";

/// See the head of this file.
#[derive(Debug)]
pub(crate) struct Cursor {
    store: PathBuf,
    dir: PathBuf,
    state: State,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct State {
    delivered_to: u64,
    object: Option<Underway>,
}

/// An object of letters that is on its way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Underway {
    /// Numbers of its letters; some between them may be gone.
    pub(crate) first: u64,
    pub(crate) last: u64,
    /// When the first of them became a letter.
    pub(crate) failed: i64,
    pub(crate) meta: ObjectMeta,
    /// Objects of its letters of the delivery stage: they leave first, each under the name that it has here.
    #[serde(default)]
    pub(crate) objects: Vec<KeptObject>,
}

impl Cursor {
    /// Opens or makes the cursor of a store whose next letter gets `next_number`. Blocks.
    pub(crate) fn open(store: &Path, next_number: u64) -> Result<Cursor, StoreError> {
        let dir = store.join("delivery");
        let at = |error| StoreError::Io { path: dir.clone(), error };
        std::fs::create_dir_all(&dir).and_then(|()| lines::sync_directory(store)).map_err(at)?;
        let mut state: State = lines::read_whole(dir.join(CURSOR), REMEDY)?;
        if state.delivered_to >= next_number {
            tracing::warn!(
                dir = %dir.display(), delivered_to = state.delivered_to, next_number,
                "the letters are others than those that were delivered; delivery begins anew"
            );
            state = State::default();
        }
        if let Some(object) = &state.object {
            let found = std::fs::metadata(dir.join(&object.meta.batch_id)).map(|found| found.len());
            if !matches!(found, Ok(bytes) if bytes == object.meta.bytes) {
                tracing::warn!(
                    dir = %dir.display(), batch = object.meta.batch_id,
                    "an object of dead letters that was on its way is missing or damaged; it is made anew"
                );
                state.object = None;
            }
        }
        let keep = state.object.as_ref().map(|object| object.meta.batch_id.clone());
        for entry in std::fs::read_dir(&dir).map_err(at)? {
            let name = entry.map_err(at)?.file_name();
            if name != CURSOR && keep.as_deref().is_none_or(|keep| name != keep) {
                std::fs::remove_file(dir.join(name)).map_err(at)?;
            }
        }
        Ok(Cursor { store: store.to_owned(), dir, state })
    }

    /// Letters up to this number have been delivered, or were gone before.
    pub(crate) fn delivered_to(&self) -> u64 {
        self.state.delivered_to
    }

    pub(crate) fn underway(&self) -> Option<&Underway> {
        self.state.object.as_ref()
    }

    /// Where the object of a letter lies, for as long as the letter is there.
    pub(crate) fn kept(&self, object: &KeptObject) -> PathBuf {
        self.store.join(&object.file)
    }

    /// Where an object lies.
    pub(crate) fn body(&self, batch_id: &str) -> PathBuf {
        self.dir.join(batch_id)
    }

    /// Makes an object with `write`, which returns what it became, and decides, durably, that it is the next one to leave.
    pub(crate) fn decide(
        &mut self,
        write: impl FnOnce(&mut File) -> io::Result<Underway>,
    ) -> Result<(), StoreError> {
        self.try_decide(write).map_err(|error| StoreError::Io { path: self.dir.clone(), error })
    }

    fn try_decide(&mut self, write: impl FnOnce(&mut File) -> io::Result<Underway>) -> io::Result<()> {
        let part = self.dir.join(PART);
        let mut file = File::create(&part)?;
        let object = write(&mut file)?;
        file.sync_all()?;
        std::fs::rename(&part, self.body(&object.meta.batch_id))?;
        lines::sync_directory(&self.dir)?;
        self.save(State { object: Some(object), ..self.state.clone() })
    }

    /// The object that was on its way has arrived.
    pub(crate) fn arrived(&mut self) -> Result<(), StoreError> {
        let Some(object) = self.state.object.clone() else { return Ok(()) };
        self.save(State { delivered_to: object.last, object: None })
            .map_err(|error| StoreError::Io { path: self.dir.clone(), error })?;
        // A file that stays is removed at the next opening.
        if let Err(error) = std::fs::remove_file(self.body(&object.meta.batch_id)) {
            tracing::warn!(%error, batch = object.meta.batch_id, "cannot remove a delivered object of dead letters");
        }
        Ok(())
    }

    fn save(&mut self, state: State) -> io::Result<()> {
        lines::replace(&self.dir.join(CURSOR), &serde_json::to_vec(&state)?)?;
        self.state = state;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn underway(first: u64, last: u64, batch_id: &str) -> Underway {
        let meta = ObjectMeta {
            name: format!("{batch_id}.ndjson"),
            content_type: "application/x-ndjson".into(),
            content_encoding: None,
            batch_id: batch_id.into(),
            digest: 1,
            body_digest: u128::MAX,
            raw_bytes: 4,
            bytes: 4,
            records: 1,
            stream: "events".into(),
            output: "dead-letters".into(),
            arrival: 0,
            first_row: 0,
        };
        let file = "objects/kept".into();
        let objects = vec![KeptObject { file, meta: meta.clone() }];
        Underway { first, last, failed: 7, meta, objects }
    }

    fn decide(cursor: &mut Cursor, object: &Underway) {
        cursor.decide(|file| file.write_all(b"body").map(|()| object.clone())).unwrap();
    }

    #[test]
    fn object_that_was_decided_is_the_next_one_until_it_has_arrived() {
        let dir = tempfile::tempdir().unwrap();
        let mut cursor = Cursor::open(dir.path(), 10).unwrap();
        assert!(cursor.underway().is_none() && cursor.delivered_to() == 0);
        let failed = cursor.decide(|file| {
            file.write_all(b"half")?;
            Err(io::Error::other("no room"))
        });
        assert!(failed.is_err());
        let mut cursor = Cursor::open(dir.path(), 10).unwrap();
        assert!(cursor.underway().is_none());
        let object = underway(1, 5, "one");
        decide(&mut cursor, &object);
        let mut cursor = Cursor::open(dir.path(), 10).unwrap();
        assert_eq!((cursor.underway(), cursor.delivered_to()), (Some(&object), 0));
        assert_eq!(std::fs::read(cursor.body("one")).unwrap(), b"body");
        cursor.arrived().unwrap();
        let cursor = Cursor::open(dir.path(), 10).unwrap();
        assert_eq!((cursor.underway(), cursor.delivered_to()), (None, 5));
        let files: Vec<_> = std::fs::read_dir(dir.path().join("delivery")).unwrap().flatten().collect();
        assert_eq!(files.len(), 1, "{files:?}");
    }

    #[test]
    fn object_that_is_missing_or_cut_is_made_anew_and_what_nobody_names_goes() {
        let dir = tempfile::tempdir().unwrap();
        let mut cursor = Cursor::open(dir.path(), 10).unwrap();
        decide(&mut cursor, &underway(1, 5, "one"));
        std::fs::write(cursor.body("one"), "bod").unwrap();
        std::fs::write(cursor.body("stray"), "body").unwrap();
        let cursor = Cursor::open(dir.path(), 10).unwrap();
        assert!(cursor.underway().is_none() && cursor.delivered_to() == 0);
        assert!(!cursor.body("one").exists() && !cursor.body("stray").exists());
    }

    #[test]
    fn cursor_that_is_damaged_is_named_with_its_line_and_what_helps() {
        let dir = tempfile::tempdir().unwrap();
        Cursor::open(dir.path(), 10).unwrap();
        let cursor = dir.path().join("delivery/cursor.json");
        std::fs::write(&cursor, "{\"delivered_to\":x}").unwrap();
        let said = Cursor::open(dir.path(), 10).unwrap_err().to_string();
        assert!(said.starts_with(&format!("{} is damaged (expected value", cursor.display())), "{said}");
        assert!(said.contains("at line 1 column 17") && said.contains("move it away"), "{said}");
    }

    #[test]
    fn cursor_of_other_letters_begins_anew() {
        let dir = tempfile::tempdir().unwrap();
        let mut cursor = Cursor::open(dir.path(), 10).unwrap();
        decide(&mut cursor, &underway(1, 9, "one"));
        cursor.arrived().unwrap();
        assert_eq!(Cursor::open(dir.path(), 10).unwrap().delivered_to(), 9);
        assert_eq!(Cursor::open(dir.path(), 9).unwrap().delivered_to(), 0);
    }
}

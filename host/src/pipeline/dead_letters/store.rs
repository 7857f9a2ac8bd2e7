//! The files of a stream's dead letters: appended, taken out of, bounded, and the same after a restart.
//!
//! Letters are appended in the order of their outcomes, within an outcome in the order of (offset, child), and are
//! keyed (slice, offset, child); rows that did not fit when their batch was sealed are keyed by numbers of their own
//! ([`DeadLetter::key`]). So one key says which letters were ever kept: those up to it. Writing the letters of
//! an outcome again after a crash adds nothing, also when they were removed meanwhile: before the first letter goes,
//! `state.json` remembers that key, and the number that the next letter gets. Letters of the delivery stage are told by
//! their batch, and the last of those that went are remembered too. A stream that was made anew (another
//! incarnation) begins with offset 0 again; its letters are kept behind the old ones.
//!
//! A letter goes by a rewrite of its file (at most about 8 MiB), which is complete or does not happen. The store never
//! evicts: when it is full it says so and the stream waits. Letters that failed again may grow past the bound by
//! their new reason; a replay must not wait for room.

use std::collections::{HashSet, VecDeque};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::error::{Bound, StoreError};
use super::filter::Filter;
use super::letter::{Change, Changes, DeadLetter, SEALED_CHILD, Stage};
use super::lines::{self, LetterFile, Unreadable};

/// A file that has reached this size is followed by another one.
const FILE_BYTES: u64 = 8 << 20;
const FIRST: &str = "letters.ndjson";
/// What is lost with it is what only it knows of letters that went.
const STATE_REMEDY: &str = "put back a copy of it, or move it away: then the stream goes on with what its letters say, and a \
    number or letter that was removed may come again";
/// Far more batches than are given up between two checkpoints.
const GIVEN_UP_MAX: usize = 1_024;

/// What outlives the letters.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct State {
    incarnation: Option<String>,
    /// Number of the first letter that this incarnation may have.
    first_number: u64,
    next_number: u64,
    /// Key of the last letter of a record that was ever kept.
    kept_to: Option<(u64, i64, u32)>,
    /// Batch ids of the letters of the delivery stage that went last.
    given_up: VecDeque<String>,
}

/// What an append did.
#[derive(Debug, Default)]
pub struct Appended {
    /// Stages of the letters that are new.
    pub new: Vec<Stage>,
    /// Why the rest is not there yet: the same call goes on once there is room.
    pub full: Option<StoreError>,
}

/// What changes did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Applied {
    pub removed: u64,
    pub changed: u64,
}

/// See the head of this file.
#[derive(Debug)]
pub struct Store {
    dir: PathBuf,
    max_bytes: u64,
    /// What other streams of the tenant leave to this one.
    left_max: u64,
    /// In the order of their numbers; the last one is appended to. Never empty.
    files: VecDeque<LetterFile>,
    active: File,
    state: State,
    /// What of it is durable.
    saved: State,
    object_bytes: u64,
    /// Batch ids of the letters of the delivery stage that were there at the opening.
    batches: HashSet<String>,
    /// Of the letters of single rows: their batches and rows.
    rows: HashSet<String>,
}

/// One file of letters as it was at some moment. Whatever becomes of its name, these lines stay: none is passed over because
/// the file is written anew meanwhile.
#[derive(Debug)]
pub struct Snapshot {
    file: File,
    path: PathBuf,
    bytes: u64,
    /// No letter in it has a higher number.
    pub last_number: u64,
    /// It is the one that is appended to.
    pub last: bool,
}

impl Snapshot {
    /// Calls `each` with the letters above number `after`, as they stand and as their lines, until it says false.
    pub fn each(
        &self,
        after: u64,
        mut each: impl FnMut(&[u8], DeadLetter) -> bool,
    ) -> Result<(), StoreError> {
        let read = lines::read_lines(&self.file, self.bytes, |line, letter| {
            letter.filter(|letter| letter.number > after).is_none_or(|letter| each(line, letter))
        });
        read.map_err(|error| StoreError::Io { path: self.path.clone(), error })
    }
}

/// The letters as they were at some moment, to be read without holding up the store.
#[derive(Debug, Clone)]
pub struct View {
    dir: PathBuf,
    files: Vec<LetterFile>,
}

impl Store {
    /// Opens or creates the store of a stream of this incarnation; a tool that runs while no host does gives none.
    /// Cuts a torn last line and removes objects that no letter names.
    pub fn open(dir: &Path, max_bytes: u64, incarnation: Option<&str>) -> Result<Store, StoreError> {
        let at = |error| StoreError::Io { path: dir.to_owned(), error };
        std::fs::create_dir_all(dir).map_err(at)?;
        let saved: State = lines::read_whole(dir.join("state.json"), STATE_REMEDY)?;
        let mut state = State { next_number: saved.next_number.max(1), ..saved.clone() };
        // Without a state nothing but this incarnation was ever here.
        let anew =
            incarnation.is_some_and(|now| state.incarnation.as_deref().is_some_and(|then| then != now));
        if anew {
            state.kept_to = None;
        }
        let (mut batches, mut rows) = (HashSet::new(), HashSet::new());
        let mut files = VecDeque::new();
        for path in paths(dir).map_err(at)? {
            let whole = LetterFile { bytes: u64::MAX, ..LetterFile::empty(path.clone()) };
            let mut file = LetterFile::empty(path);
            let mut unreadable = Unreadable::default();
            whole
                .read(|line, letter| {
                    unreadable.note(letter.is_some());
                    match letter {
                        Some(letter) => {
                            file.note(&letter, line.len() as u64);
                            state.next_number = state.next_number.max(letter.number + 1);
                            if let Some(id) = letter.delivery_id() {
                                let known = if letter.row.is_some() { &mut rows } else { &mut batches };
                                known.insert(id);
                            } else if !anew && letter.number >= state.first_number {
                                state.kept_to = state.kept_to.max(Some(letter.key()));
                            }
                        }
                        None => {
                            file.bytes += line.len() as u64;
                        }
                    }
                    true
                })
                .map_err(|error| StoreError::Io { path: whole.path.clone(), error })?;
            unreadable.tell(&file.path);
            files.push_back(file);
        }
        if anew {
            state.first_number = state.next_number;
        }
        if let Some(incarnation) = incarnation {
            state.incarnation = Some(incarnation.to_owned());
        }
        if files.is_empty() {
            files.push_back(LetterFile::empty(dir.join(FIRST)));
        }
        let active =
            append_to(files.back().map_or(dir, |file| &file.path), files.back().map_or(0, |f| f.bytes));
        let mut store = Store {
            dir: dir.to_owned(),
            max_bytes,
            left_max: u64::MAX,
            active: active.map_err(at)?,
            files,
            state,
            saved,
            object_bytes: 0,
            batches,
            rows,
        };
        store.tidy_objects().map_err(at)?;
        store.save().map_err(at)?;
        Ok(store)
    }

    /// Bounds the store besides by what others leave to it.
    pub fn leave(&mut self, bytes: u64) {
        self.left_max = bytes;
    }

    /// Whether the letter of a batch that was given up was here at the opening, or went not long ago.
    pub fn had_batch(&self, batch_id: &str) -> bool {
        self.batches.contains(batch_id) || self.state.given_up.iter().any(|id| id == batch_id)
    }

    /// Nobody will ask about these any more.
    pub fn forget_batches(&mut self) {
        self.batches = HashSet::new();
    }

    /// Child of the first row that did not fit when its batch was sealed, of the next outcome that begins with `slice`.
    /// Letters of all outcomes before have been appended.
    pub fn next_sealed_child(&self, slice: u64) -> u32 {
        match self.state.kept_to {
            Some((last, i64::MIN, child)) if last == slice => child.saturating_add(1),
            _ => SEALED_CHILD,
        }
    }

    /// Appends what was never kept before, in this order, as far as there is room, and syncs. Gives the letters numbers.
    /// `now` is when they became letters.
    pub fn append(&mut self, letters: &[DeadLetter], now: i64) -> Result<Appended, StoreError> {
        let io = |dir: &Path, error| StoreError::Io { path: dir.to_owned(), error };
        let mut state = self.state.clone();
        let mut appended = Appended::default();
        let (mut text, mut rows) = (Vec::new(), Vec::new());
        if self.files.back().is_some_and(|file| file.bytes >= FILE_BYTES) {
            self.next_file().map_err(|error| io(&self.dir, error))?;
        }
        let Some(mut file) = self.files.back().cloned() else { return Ok(appended) };
        for letter in letters {
            // Keys within one call are told apart by whoever makes them.
            let row = letter.row.as_ref().and_then(|_| letter.delivery_id());
            let had = match &row {
                Some(row) => self.rows.contains(row) || self.state.given_up.contains(row),
                None => letter.object.is_none() && Some(letter.key()) <= self.state.kept_to,
            };
            if had {
                continue;
            }
            let numbered = DeadLetter { number: state.next_number, failed: now, ..letter.clone() };
            let line = lines::line(&numbered).map_err(|error| io(&self.dir, error))?;
            // However large it is, one letter fits into an empty store.
            if self.count() + appended.new.len() as u64 > 0
                && let Err(full) = self.room(text.len() as u64, line.len() as u64)
            {
                appended.full = Some(full);
                break;
            }
            if let Some(row) = row {
                rows.push(row);
            } else if letter.object.is_none() {
                state.kept_to = state.kept_to.max(Some(letter.key()));
            }
            state.next_number += 1;
            file.note(&numbered, line.len() as u64);
            text.extend_from_slice(&line);
            appended.new.push(letter.stage);
        }
        if text.is_empty() {
            return Ok(appended);
        }
        if let Err(error) = self.active.write_all(&text).and_then(|()| self.active.sync_data()) {
            // Whatever part of the lines arrived is cut off, so that the next try starts on a whole line.
            let whole = self.files.back().map_or(0, |file| file.bytes);
            if let Err(cut) = self.active.set_len(whole) {
                tracing::warn!(error = %cut, dir = %self.dir.display(), "cannot cut a torn dead letter");
            }
            return Err(io(&self.dir, error));
        }
        self.state = state;
        self.rows.extend(rows);
        if let Some(last) = self.files.back_mut() {
            *last = file;
        }
        Ok(appended)
    }

    /// Whether so many bytes fit, once others that are on their way are there.
    fn room(&self, on_the_way: u64, needs: u64) -> Result<(), StoreError> {
        let bytes = self.bytes() + on_the_way;
        let (max, bound) = match self.left_max < self.max_bytes {
            true => (self.left_max, Bound::Quota),
            false => (self.max_bytes, Bound::Own),
        };
        if bytes + needs > max {
            return Err(StoreError::Full { path: self.dir.clone(), needs, bytes, max, bound });
        }
        Ok(())
    }

    /// Takes over the object of a batch that could not be delivered; returns its name within the store.
    pub fn keep_object(&mut self, staged: &Path, batch_id: &str) -> Result<String, StoreError> {
        let at = |error| StoreError::Io { path: self.dir.clone(), error };
        let objects = self.dir.join("objects");
        let kept = objects.join(batch_id);
        if !kept.exists() {
            let bytes = std::fs::metadata(staged).map_err(at)?.len();
            if self.count() > 0 {
                self.room(0, bytes)?;
            }
            std::fs::create_dir_all(&objects).map_err(at)?;
            // The staging directory may be on another filesystem than the data directory.
            let temporary = objects.join(format!(".{batch_id}"));
            std::fs::copy(staged, &temporary).map_err(at)?;
            File::open(&temporary).and_then(|file| file.sync_all()).map_err(at)?;
            std::fs::rename(&temporary, &kept).map_err(at)?;
            lines::sync_directory(&objects).and_then(|()| lines::sync_directory(&self.dir)).map_err(at)?;
            self.object_bytes += bytes;
        }
        Ok(format!("objects/{batch_id}"))
    }

    /// Removes and changes letters, durably. Letters that are not there (any more) are passed over, so that doing it
    /// again does nothing.
    pub fn apply(&mut self, changes: &Changes) -> Result<Applied, StoreError> {
        let mut applied = Applied::default();
        let result = self.try_apply(changes, &mut applied);
        result.map(|()| applied).map_err(|error| StoreError::Io { path: self.dir.clone(), error })
    }

    fn try_apply(&mut self, changes: &Changes, applied: &mut Applied) -> io::Result<()> {
        if changes.is_empty() {
            return Ok(());
        }
        let touched = self.touched(changes);
        // Before any letter goes: what it told of numbers, keys and batches must not be forgotten.
        self.note_given_up(changes, &touched)?;
        self.save()?;
        for at in touched {
            let Some(file) = self.files.get(at).cloned() else { break };
            let mut objects = Vec::new();
            let (mut removed, mut changed) = (0, 0);
            let next = file.rewrite(|line, letter| {
                let Some(mut letter) = letter else { return Some(line.to_vec()) };
                match changes.get(&letter.number) {
                    Some(Change::Removed) => {
                        removed += 1;
                        objects.extend(letter.object.map(|object| (object.file, object.meta.bytes)));
                        None
                    }
                    Some(change) if letter.apply(change) => {
                        changed += 1;
                        // A letter that was read can be written.
                        lines::line(&letter).ok()
                    }
                    _ => Some(line.to_vec()),
                }
            })?;
            lines::sync_directory(&self.dir)?;
            self.files[at] = next;
            if at + 1 == self.files.len() {
                self.active = append_to(&self.files[at].path, self.files[at].bytes)?;
            }
            applied.removed += removed;
            applied.changed += changed;
            for (object, bytes) in objects {
                self.remove_object(&object, bytes);
            }
        }
        self.drop_empty()
    }

    /// The files that may have letters which change.
    fn touched(&self, changes: &Changes) -> Vec<usize> {
        let mut first = 0;
        let mut touched = Vec::new();
        for (at, file) in self.files.iter().enumerate() {
            let range = first + 1..=file.last_number;
            first = first.max(file.last_number);
            if !range.is_empty() && changes.range(range).next().is_some() {
                touched.push(at);
            }
        }
        touched
    }

    /// A batch whose letter goes is still one that was given up, although no checkpoint says so yet.
    fn note_given_up(&mut self, changes: &Changes, touched: &[usize]) -> io::Result<()> {
        if self.object_bytes == 0 && self.rows.is_empty() {
            return Ok(());
        }
        let (given_up, rows) = (&mut self.state.given_up, &mut self.rows);
        for file in touched.iter().filter_map(|at| self.files.get(*at)) {
            file.read(|_, letter| {
                let gone = letter.filter(|letter| changes.get(&letter.number) == Some(&Change::Removed));
                let id = gone.and_then(|letter| letter.delivery_id());
                id.iter().for_each(|id| _ = rows.remove(id));
                // Doing it again adds nothing.
                given_up.extend(id.filter(|id| !given_up.contains(id)));
                true
            })?;
        }
        given_up.drain(..given_up.len().saturating_sub(GIVEN_UP_MAX));
        Ok(())
    }

    /// Removes the letters up to a number that failed before this time. Returns how many.
    pub fn expire(&mut self, before: i64, up_to: u64) -> Result<u64, StoreError> {
        let mut removed = 0;
        while self.files.front().is_some_and(|file| file.first_failed < before) {
            let numbers = Some(vec![(0, up_to)]);
            let filter = Filter { failed_before: Some(before), numbers, ..Filter::default() };
            let view = View { dir: self.dir.clone(), files: self.files.iter().take(1).cloned().collect() };
            let changes: Changes =
                view.numbers(&filter)?.into_iter().map(|number| (number, Change::Removed)).collect();
            let gone = self.apply(&changes)?.removed;
            removed += gone;
            if gone == 0 {
                break;
            }
        }
        Ok(removed)
    }

    /// The file with the first letters above number `after`.
    pub fn snapshot(&self, after: u64) -> Result<Option<Snapshot>, StoreError> {
        let found =
            self.files.iter().enumerate().find(|(_, file)| file.count > 0 && file.last_number > after);
        let Some((at, found)) = found else { return Ok(None) };
        let file =
            File::open(&found.path).map_err(|error| StoreError::Io { path: found.path.clone(), error })?;
        Ok(Some(Snapshot {
            file,
            path: found.path.clone(),
            bytes: found.bytes,
            last_number: found.last_number,
            last: at + 1 == self.files.len(),
        }))
    }

    /// What the next letter gets; no letter ever had it.
    pub fn next_number(&self) -> u64 {
        self.state.next_number
    }

    pub fn view(&self) -> View {
        View { dir: self.dir.clone(), files: self.files.iter().cloned().collect() }
    }

    pub fn count(&self) -> u64 {
        self.files.iter().map(|file| file.count).sum()
    }

    /// Of letters and objects.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum::<u64>() + self.object_bytes
    }

    fn save(&mut self) -> io::Result<()> {
        if self.state != self.saved {
            lines::replace(&self.dir.join("state.json"), &serde_json::to_vec(&self.state)?)?;
            self.saved = self.state.clone();
        }
        Ok(())
    }

    fn next_file(&mut self) -> io::Result<()> {
        let path = self.dir.join(format!("letters-{:020}.ndjson", self.state.next_number));
        self.active = append_to(&path, 0)?;
        lines::sync_directory(&self.dir)?;
        self.files.push_back(LetterFile::empty(path));
        Ok(())
    }

    /// Removes files that have nothing any more, but for the one that is appended to.
    fn drop_empty(&mut self) -> io::Result<()> {
        let last = self.files.len().saturating_sub(1);
        for (at, file) in self.files.iter().enumerate() {
            if at < last && file.bytes == 0 {
                std::fs::remove_file(&file.path)?;
            }
        }
        let mut at = 0;
        self.files.retain(|file| {
            at += 1;
            at > last || file.bytes > 0
        });
        Ok(())
    }

    fn remove_object(&mut self, object: &str, bytes: u64) {
        self.object_bytes = self.object_bytes.saturating_sub(bytes);
        // A file that stays is removed at the next opening.
        if let Err(error) = std::fs::remove_file(self.dir.join(object))
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(%error, object, "cannot remove the object of a dead letter");
        }
    }

    fn tidy_objects(&mut self) -> io::Result<()> {
        let entries = match std::fs::read_dir(self.dir.join("objects")) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        for entry in entries {
            let entry = entry?;
            if entry.file_name().to_str().is_some_and(|name| self.batches.contains(name)) {
                self.object_bytes += entry.metadata()?.len();
            } else {
                std::fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }
}

impl View {
    pub fn object(&self, letter: &DeadLetter) -> Option<PathBuf> {
        letter.object.as_ref().map(|object| self.dir.join(&object.file))
    }

    /// Calls `each` with the letters above number `after` that match, until it says false.
    pub fn each(
        &self,
        after: u64,
        filter: &Filter,
        mut each: impl FnMut(DeadLetter) -> bool,
    ) -> Result<(), StoreError> {
        for file in self.files.iter().filter(|file| file.last_number > after) {
            let mut more = true;
            let read = file.read(|_, letter| {
                if let Some(letter) = letter.filter(|letter| letter.number > after && filter.matches(letter))
                {
                    more = each(letter);
                }
                more
            });
            read.map_err(|error| StoreError::Io { path: file.path.clone(), error })?;
            if !more {
                break;
            }
        }
        Ok(())
    }

    /// Numbers of the letters that match.
    pub fn numbers(&self, filter: &Filter) -> Result<Vec<u64>, StoreError> {
        let mut numbers = Vec::new();
        self.each(0, filter, |letter| {
            numbers.push(letter.number);
            true
        })?;
        Ok(numbers)
    }
}

/// Files of letters in the order of their numbers.
fn paths(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let name = entry?.file_name();
        let Some(name) = name.to_str() else { continue };
        if name == FIRST || (name.starts_with("letters-") && name.ends_with(".ndjson")) {
            names.push(name.to_owned());
        }
    }
    names.sort_by_key(|name| (name != FIRST, name.clone()));
    Ok(names.into_iter().map(|name| dir.join(name)).collect())
}

/// Opens for appending, cut to its whole lines.
fn append_to(path: &Path, bytes: u64) -> io::Result<File> {
    let file = OpenOptions::new().create(true).append(true).open(path)?;
    file.set_len(bytes)?;
    Ok(file)
}

#[cfg(test)]
mod tests;

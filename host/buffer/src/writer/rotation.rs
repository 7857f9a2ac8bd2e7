//! Journal files from their making to their freeing: rotation, spares, room for what frees space on a full disk.
//!
//! A file is complete up to its head, and synced, before it has its name. None is begun in a directory that is not ours
//! any more, by its lock.

use std::io::{self, IoSlice};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{Writer, count};
use crate::disk::write_full;
use crate::format::{Header, Kind};
use crate::frame::Body;
use crate::state::{Segment, State, Store};
use crate::{limits, mover, segment, snapshot};

impl Writer {
    /// Puts a new file in place, whose start voids everything from `self.end` on in the one before. The last spare
    /// is only for what frees space.
    pub(super) fn rotate(&mut self, need: u64, frees: bool) -> io::Result<()> {
        if let Some(old) = &self.file
            && self.durable < self.end
        {
            count(&self.shared.counters.syncs, 1);
            if let Err(error) = old.file.sync() {
                tracing::error!(error = %error, "sync of a full journal file failed");
                count(&self.shared.counters.failed_syncs, 1);
            }
        }
        self.durable = self.end;
        self.shared.check_lock()?;
        if let Err(error) = self.bound_journal()
            && !frees
        {
            return Err(error);
        }
        let least = self.shared.options.file_bytes;
        let mut head = self.head(least);
        let bytes = least.max((head.len() as u64 + need).next_multiple_of(4096));
        let dir = self.shared.journal_dir();
        let spare = if bytes == least { self.spare(frees)? } else { None };
        let path = spare.as_ref().map_or_else(|| dir.join("new.tmp"), |spare| spare.path.clone());
        let name = dir.join(format!("{:08}.wmj", self.number));
        let file = match &spare {
            Some(spare) => Ok(Arc::clone(&spare.file)),
            None => self.shared.disk.create(&path, bytes, false),
        };
        let placed = file.and_then(|file| {
            // Not every file system reserves space.
            let len = file.len()?;
            if len != least {
                head = self.head(len);
            }
            write_full(file.as_ref(), &mut [IoSlice::new(&head)], 0)?;
            file.sync()?;
            self.shared.disk.rename(&path, &name)?;
            Ok(file)
        });
        let file = match placed {
            Ok(file) => file,
            Err(error) => {
                self.shared.state().spares.extend(spare);
                return Err(error);
            }
        };
        self.number += 1;
        count(&self.shared.counters.syncs, 2);
        count(&self.shared.counters.bytes_written, head.len() as u64);
        let store = Store::new(name, file, self.end, bytes);
        // Listed whatever comes, so that it is freed in its turn.
        self.shared.state().files.push_back(Arc::clone(&store));
        self.file = None;
        self.shared.disk.sync_dir(&dir)?;
        self.end += head.len() as u64;
        self.durable = self.end;
        self.shared.state().end = self.end;
        self.file = Some(store);
        self.shared.gone.store(false, Ordering::Release);
        if let Err(error) = self.reserve() {
            tracing::debug!(error = %error, "no room for another journal file");
        }
        Ok(())
    }

    /// A spare to write next; `None` if a file is to be created.
    fn spare(&mut self, frees: bool) -> io::Result<Option<Arc<Store>>> {
        let mut state = self.shared.state();
        if state.spares.len() < 2 {
            drop(state);
            // Made now, so that there is still one left behind; if there is no room for it, the last one is kept.
            match self.create_spare() {
                Err(error) if !frees => return Err(error),
                _ => {}
            }
            state = self.shared.state();
        }
        // One that somebody removed is none.
        while let Some(spare) = state.spares.pop_front() {
            if matches!(spare.file.is_at(&spare.path), Ok(true)) {
                return Ok(Some(spare));
            }
        }
        Ok(None)
    }

    /// Sees to it that there is a spare.
    pub(super) fn reserve(&mut self) -> io::Result<()> {
        let result = if self.shared.state().spares.is_empty() { self.create_spare() } else { Ok(()) };
        self.lean = result.is_err();
        result
    }

    pub(super) fn create_spare(&self) -> io::Result<()> {
        let bytes = self.shared.options.file_bytes;
        let path = self.new_spare();
        match self.shared.disk.create(&path, bytes, false) {
            Ok(file) => {
                self.shared.state().spares.push_back(Store::new(path, file, 0, bytes));
                Ok(())
            }
            Err(error) => {
                // What was begun of it takes a name and perhaps space.
                if let Err(error) = self.shared.disk.remove(&path) {
                    tracing::debug!(error = %error, path = %path.display(), "cannot remove an unfinished file");
                }
                Err(error)
            }
        }
    }

    fn new_spare(&self) -> PathBuf {
        let mut state = self.shared.state();
        state.next_spare += 1;
        self.shared.journal_dir().join(format!("spare-{}", state.next_spare - 1))
    }

    /// Before the journal grows: has frames moved to segments, and waits for it if it is far too long.
    pub(super) fn bound_journal(&mut self) -> io::Result<()> {
        if !segment::is_due(&self.shared) {
            return Ok(());
        }
        let options = &self.shared.options;
        let most = options.max_journal_bytes.saturating_add(options.max_journal_bytes / 2);
        let bytes = self.shared.state().journal_bytes();
        let waits = bytes.saturating_sub(options.file_bytes) > most;
        let result = match (self.shared.threaded, waits) {
            (true, true) => self.shared.mover.wait().map_err(|error| io::Error::new(error.kind(), error)),
            (true, false) => {
                self.shared.mover.want();
                Ok(())
            }
            (false, _) => loop {
                match mover::once(&self.shared) {
                    Ok(true) => self.free_files(),
                    result => break result.map(|_| ()),
                }
            },
        };
        self.free_files();
        if waits { result } else { Ok(()) }
    }

    /// The first frames of a file of this length.
    fn head(&self, bytes: u64) -> Vec<u8> {
        let state = self.shared.state();
        let mut start = Header::new(Kind::FileStart);
        let content = snapshot::file_start(self.number, state.next_stream, state.streams.len(), bytes);
        let body = Body::of_content(&mut start, content.into());
        let frames = std::iter::once((start, body)).chain(state.streams.values().map(snapshot::of_stream));
        let mut out = Vec::new();
        for (mut header, body) in frames {
            header.journal = self.shared.journal_id;
            header.epoch = self.shared.epoch;
            header.position = self.end + out.len() as u64;
            header.durable = self.end;
            header.write(&mut out);
            out.extend_from_slice(&body.head);
            out.extend_from_slice(&body.payload);
            out.extend_from_slice(&body.tail);
        }
        out
    }

    /// Recycles or removes the oldest journal files while nothing in them is needed, and segments of which nothing
    /// is needed. A failure leaves files behind for the next open to find.
    pub(super) fn free_files(&mut self) {
        let is_free = |store: &Arc<Store>| Arc::strong_count(store) == 1;
        let any = |state: &State| {
            (state.files.len() > 1 && state.files.front().is_some_and(is_free))
                || state.segments.iter().any(|segment| is_free(&segment.store))
        };
        if !any(&self.shared.state()) {
            return;
        }
        // The checkpoint that released them must be durable first.
        if self.durable < self.end {
            let Some(current) = &self.file else { return };
            count(&self.shared.counters.syncs, 1);
            if let Err(error) = current.file.sync() {
                tracing::warn!(error = %error, "cannot sync the journal; its old files are kept");
                return;
            }
            self.durable = self.end;
        }
        let mut recycled = false;
        loop {
            let mut state = self.shared.state();
            if state.files.len() < 2 || !state.files.front().is_some_and(is_free) {
                break;
            }
            let Some(old) = state.files.pop_front() else { break };
            let keep = old.bytes == self.shared.options.file_bytes && state.spares.len() < limits::SPARES_MAX;
            drop(state);
            let done = if keep {
                let path = self.new_spare();
                self.shared.disk.rename(&old.path, &path).map(|()| {
                    let spare = Store::new(path, Arc::clone(&old.file), 0, old.bytes);
                    self.shared.state().spares.push_back(spare);
                })
            } else {
                self.shared.disk.remove(&old.path)
            };
            recycled |= keep;
            if let Err(error) = done {
                tracing::warn!(error = %error, path = %old.path.display(), "cannot free a journal file");
            }
        }
        // Its new name must be durable before it is overwritten, or it would be found under the old one.
        if recycled && let Err(error) = self.shared.disk.sync_dir(&self.shared.journal_dir()) {
            tracing::warn!(error = %error, "cannot sync the journal's directory");
            self.shared.state().spares.clear();
        }
        let free: Vec<Segment> =
            self.shared.state().segments.extract_if(.., |segment| is_free(&segment.store)).collect();
        for segment in free {
            let path = &segment.store.path;
            if let Err(error) = self.shared.disk.remove(path) {
                tracing::warn!(error = %error, path = %path.display(), "cannot remove a segment");
            }
        }
    }
}

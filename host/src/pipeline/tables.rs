//! The state of one running stream, as the API and the command line ask for it: its tables, their entries, and an end of some.
//!
//! What is told is what was applied: moments behind what slices see. A table is emptied by an outcome of its
//! own (`replay/emptying.rs`), behind those of all slices that ran before, so that nothing brings any of it back.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Serialize;
use tokio::sync::{mpsc, oneshot, watch};
use wasmill_state::{SCAN_BYTES_MAX, Scan, SliceState, StateError, TableId, TableUse, View};

use super::context::StreamContext;
use super::plan::ChainVersion;
use super::replay::{self, Emptying, Ran, ReplayError};
use super::state::StateTrouble;
use super::stats::TableStats;

/// Entries of one page.
pub const PAGE_ENTRIES_MAX: usize = 10_000;

/// See the head of this file.
pub(crate) struct StateDesk {
    pub(crate) context: Arc<StreamContext>,
    pub(crate) chains: watch::Receiver<Arc<ChainVersion>>,
    pub(crate) replays: mpsc::Sender<replay::Request>,
}

/// What is asked of a stream's state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StateRequest {
    /// Which tables there are.
    Tables,
    /// Entries of one.
    Entries(EntriesWanted),
    /// Nothing is to be left of this table, or of all.
    Drop(Option<TableName>),
}

/// A transform's table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableName {
    pub transform: String,
    pub table: String,
}

impl TableName {
    /// Whether it is this table, or the part of it that a strand has.
    pub(super) fn is(&self, id: &TableId) -> bool {
        id.transform() == self.transform && id.table() == self.table
    }
}

/// Which entries of a table are wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntriesWanted {
    pub of: TableName,
    /// Of this key only, whatever its group.
    pub key: Option<Vec<u8>>,
    /// Keys that begin so.
    pub prefix: Vec<u8>,
    /// Behind this place.
    pub after: Option<PlaceOf>,
    pub limit: usize,
}

/// Where an entry is: strand (0 where there are none), group and key.
pub type PlaceOf = (u8, u8, Vec<u8>);

/// An entry, for people and programs: texts where bytes are some, sums where they may be one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EntryShown {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub strand: Option<u8>,
    pub group: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    pub key_base64: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    pub value_base64: String,
    /// Of eight bytes, as `add` keeps them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sum: Option<i64>,
}

/// Some entries, and behind which place the next page begins, if there is one.
#[derive(Debug, Default, Serialize)]
pub struct EntriesPage {
    pub entries: Vec<EntryShown>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// Why a request about state is refused.
#[derive(Debug, thiserror::Error)]
pub enum StateDeskError {
    #[error("there is no stream {stream:?}")]
    NoStream { stream: String },
    #[error("stream {stream:?} keeps no table {table:?} of a transform {transform:?}")]
    NoTable { stream: String, transform: String, table: String },
    #[error("{reason}")]
    Failed { reason: String },
    #[error(transparent)]
    Drop(#[from] ReplayError),
}

/// What `next` of a page is, for the one behind it.
pub fn read_cursor(text: &str) -> Option<PlaceOf> {
    let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(text).ok()?;
    let ([strand, group], key) = bytes.split_first_chunk::<2>()?;
    Some((*strand, *group, key.to_vec()))
}

fn cursor((strand, group, key): &PlaceOf) -> String {
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode([&[*strand, *group][..], key].concat())
}

/// Text that can be shown as it is.
fn text(bytes: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(bytes).ok()?;
    (!text.chars().any(char::is_control)).then(|| text.to_owned())
}

impl StateDesk {
    /// What is stored, by table.
    pub(crate) fn tables(&self) -> Vec<TableStats> {
        self.context.stats.kept()
    }

    fn no_table(&self, of: &TableName) -> StateDeskError {
        let TableName { transform, table } = of.clone();
        StateDeskError::NoTable { stream: self.context.name.clone(), transform, table }
    }

    pub(crate) async fn entries(&self, wanted: EntriesWanted) -> Result<EntriesPage, StateDeskError> {
        let context = Arc::clone(&self.context);
        let (of, job) = (wanted.of.clone(), move || page(&context, &wanted));
        let read = tokio::task::spawn_blocking(job).await;
        let failed = |reason: String| StateDeskError::Failed { reason };
        let read = read.map_err(|error| failed(error.to_string()))?;
        read.map_err(failed)?.ok_or_else(|| self.no_table(&of))
    }

    /// Empties a table, or all. Returns how many entries were in them, of everything that ran before.
    pub(crate) async fn empty(&self, of: Option<TableName>) -> Result<u64, StateDeskError> {
        let (reply, done) = oneshot::channel();
        let version = self.chains.borrow().clone();
        let clear = Some(Emptying { of: of.clone() });
        let request = replay::Request { letters: Vec::new(), version, clear, tell: None, reply };
        self.replays.send(request).await.map_err(|_ended| ReplayError::Ended)?;
        let Ran { emptied, .. } = done.await.map_err(|_ended| ReplayError::Ended)??;
        let entries = match (emptied, &of) {
            (None, Some(of)) => return Err(self.no_table(of)),
            (entries, _) => entries.unwrap_or(0),
        };
        tracing::info!(
            stream = %self.context.label(), entries, transform = of.as_ref().map(|of| of.transform.as_str()),
            table = of.as_ref().map(|of| of.table.as_str()), "state dropped"
        );
        Ok(entries)
    }
}

/// Blocks. `None`: there is no such table.
fn page(context: &StreamContext, wanted: &EntriesWanted) -> Result<Option<EntriesPage>, String> {
    let shown = |error: StateTrouble| super::sources::with_causes(&error);
    let Some(store) = context.state.existing().map_err(shown)? else { return Ok(None) };
    let mut tables = store.tables();
    tables.retain(|table| wanted.of.is(&table.id));
    if tables.is_empty() {
        return Ok(None);
    }
    let mut state = SliceState::new(View::new([], Arc::new(store)), i64::MIN, None);
    let (from, to) = match &wanted.key {
        Some(key) => (key.clone(), [&key[..], &[0]].concat()),
        None => (wanted.prefix.clone(), above(&wanted.prefix)),
    };
    let limit = wanted.limit.clamp(1, PAGE_ENTRIES_MAX);
    let (mut entries, mut bytes, mut after) = (Vec::new(), 0, wanted.after.clone());
    // Strand by strand, in the order of their numbers.
    for TableUse { id, spec, .. } in &tables {
        let strand = id.strand().map(|strand| strand.number);
        let place = strand.unwrap_or(0);
        if after.as_ref().is_some_and(|(before, ..)| place < *before) {
            continue;
        }
        let number = state.table(id, *spec);
        while entries.len() < limit && bytes < SCAN_BYTES_MAX {
            let of_strand = after.as_ref().filter(|(before, ..)| *before == place);
            let scan = Scan {
                from: &from,
                to: &to,
                after: of_strand.map(|(_, group, key)| (*group, key.as_slice())),
                limit: limit - entries.len(),
            };
            let found = state.scan(number, scan, || true);
            let found = found.map_err(|error: StateError| super::sources::with_causes(&error))?;
            // One that is short for its bytes is none that was the last.
            let Some((group, key)) = found.groups.last().zip(found.keys.last()) else { break };
            after = Some((place, *group, key.to_vec()));
            let pairs = found.groups.iter().zip(&found.keys).zip(&found.values);
            for ((group, key), value) in pairs {
                bytes += key.len() + value.len();
                entries.push(EntryShown {
                    strand,
                    group: *group,
                    key: text(key),
                    key_base64: BASE64.encode(key),
                    value: text(value),
                    value_base64: BASE64.encode(value),
                    sum: value[..].try_into().ok().map(i64::from_le_bytes),
                });
            }
        }
    }
    // None only where there are no more.
    let next = after.filter(|_| !entries.is_empty()).as_ref().map(cursor);
    Ok(Some(EntriesPage { entries, next }))
}

/// The first key behind all that begin so; empty where there is none.
fn above(prefix: &[u8]) -> Vec<u8> {
    let mut above = prefix.to_vec();
    while let Some(last) = above.pop() {
        if last < u8::MAX {
            above.push(last + 1);
            break;
        }
    }
    above
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursor_is_read_back_and_what_is_none_is_not() {
        for place in [(3, 7, b"a key".to_vec()), (0, 0, Vec::new())] {
            assert_eq!(read_cursor(&cursor(&place)), Some(place));
        }
        assert_eq!((read_cursor(""), read_cursor("Bw")), (None, None));
        assert_eq!(read_cursor("#"), None);
    }

    #[test]
    fn keys_that_begin_so_end_before_the_first_that_does_not() {
        assert_eq!(above(b"ab"), b"ac");
        assert_eq!(above(b"a\xff"), b"b");
        assert_eq!(above(b""), b"");
        assert_eq!(above(b"\xff"), b"");
    }

    #[test]
    fn bytes_are_shown_as_text_only_where_they_are_plain() {
        assert_eq!(text("grün".as_bytes()).as_deref(), Some("grün"));
        assert_eq!(text(b"\x01"), None);
        assert_eq!(text(b"\xff"), None);
    }
}

//! Entries of a stream: bodies that the journal keeps for it beside its records, until its checkpoint needs them no more.

use std::ops::Range;

use bytes::Bytes;

use crate::early::Voided;
use crate::error::{AppendError, ReadError};
use crate::format::Kind;
use crate::frame::content;
use crate::limits;
use crate::queue::Work;
use crate::state::FrameRef;
use crate::stream::{Position, Stream, send};

/// What an entry is for; its body is opaque.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryKind {
    Outcome,
    Mark,
}

/// One durable entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub position: Position,
    pub kind: EntryKind,
    /// The records that it speaks of.
    pub input: Range<u64>,
}

impl Stream {
    /// Makes an entry durable. Entries are never refused for want of room: what frees room depends on them.
    pub async fn entry(
        &self,
        kind: EntryKind,
        input: Range<u64>,
        body: impl Into<Bytes>,
    ) -> Result<Position, AppendError> {
        self.entry_over(kind, input, body, None).await
    }

    /// The same of an entry that may speak of records that are readable and not durable yet, if no more than was `seen` is void
    /// when it is written, else [`AppendError::Void`]. It lies behind these records, and is durable only if they are.
    pub async fn entry_over(
        &self,
        kind: EntryKind,
        input: Range<u64>,
        body: impl Into<Bytes>,
        seen: Option<Voided>,
    ) -> Result<Position, AppendError> {
        self.alive()?;
        if input.end.max(input.start) > limits::PLACE_MAX {
            return Err(AppendError::Invalid { what: "an input range beyond all offsets" });
        }
        let kind = match kind {
            EntryKind::Outcome => Kind::Outcome,
            EntryKind::Mark => Kind::Mark,
        };
        let range = (input.start, input.end);
        let receipt =
            send(&self.shared, Some(&self.core), kind, range, body.into(), Work::Entry(seen)).await?;
        Ok(Position(receipt.position))
    }

    pub fn read_entry(&self, position: Position) -> Result<Bytes, ReadError> {
        let place = {
            let state = self.shared.state();
            let stream = state.streams.get(&self.core.id).ok_or(ReadError::Deleted)?;
            let index = stream.entries.binary_search_by_key(&position.0, |entry| entry.position);
            let entry = index.ok().and_then(|index| stream.entries.get(index));
            entry.cloned().ok_or(ReadError::NoEntry { position: position.0 })?
        };
        let (header, body) = self.load(&place)?.ok_or(ReadError::Corrupt { position: position.0 })?;
        Ok(content(&header, &body))
    }

    /// Every entry from the checkpoint's `entries_needed_from` on, in order.
    pub fn entries(&self) -> Vec<Entry> {
        let state = self.shared.state();
        let entries = state.streams.get(&self.core.id).map(|stream| {
            let entry = |frame: &FrameRef| Entry {
                position: Position(frame.position),
                kind: if frame.kind == Kind::Mark { EntryKind::Mark } else { EntryKind::Outcome },
                input: frame.base..frame.until,
            };
            stream.entries.iter().map(entry).collect()
        });
        entries.unwrap_or_default()
    }

    /// Whether the journal keeps an entry of the stream: one that no checkpoint has said is needed no more.
    pub fn has_entries(&self) -> bool {
        self.shared.state().streams.get(&self.core.id).is_some_and(|stream| !stream.entries.is_empty())
    }
}

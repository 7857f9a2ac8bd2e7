//! How records of a source that has a name are known: by what is stored with them, and by an attribute.
//!
//! A stream's only source, which has no name, stores `files` or `shards` with its positions, and nothing where it keeps none.
//! What one of several brings has `NAME/files`, `NAME/shards` or `NAME/`: no source reads the positions of one of another type
//! that had its name before. Records know their source for as long as their frame is there, whatever becomes of the
//! configuration, and dead letters take it along.

use wasmill_chunk::{Cells, CellsRef, Column, state};

/// What plugins read.
pub(crate) const ATTRIBUTE: &str = "wasmill.source";

/// What stands with records of a source, `positions` being the name of what it keeps.
pub(crate) fn stored(name: Option<&str>, positions: &str) -> String {
    name.map_or_else(|| positions.to_owned(), |name| format!("{name}/{positions}"))
}

/// The name of the source, if it has one.
pub(crate) fn of_stored(stored: &str) -> Option<&str> {
    stored.split_once('/').map(|(name, _positions)| name)
}

/// The attribute of the rows of several inputs, where their source has a name.
pub(crate) struct SourceColumns(Vec<Option<Cells>>);

impl SourceColumns {
    /// By input: its source, and how many rows it has.
    pub(crate) fn of<'a>(inputs: impl Iterator<Item = (Option<&'a str>, usize)>) -> SourceColumns {
        let cells = |(name, rows): (Option<&str>, usize)| {
            let name = name?;
            // Names are short, and a frame has fewer rows than would fill this.
            let end = |row: usize| u32::try_from(row * name.len()).unwrap_or(u32::MAX);
            let values = Column { data: name.repeat(rows).into_bytes(), ends: (1..=rows).map(end).collect() };
            Some(Cells { state: vec![state::VALUE; rows], values })
        };
        SourceColumns(inputs.map(cells).collect())
    }

    /// By input.
    pub(crate) fn attributes(&self) -> Vec<Vec<(String, CellsRef<'_>)>> {
        let inputs = self.0.iter().map(Option::as_ref);
        inputs
            .map(|cells| cells.into_iter().map(|cells| (ATTRIBUTE.to_owned(), cells.as_ref())).collect())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_is_found_in_what_is_stored_and_a_single_source_has_none() {
        for positions in ["files", "shards", ""] {
            assert_eq!(of_stored(&stored(Some("logs-1"), positions)), Some("logs-1"));
            assert_eq!(stored(None, positions), positions);
            assert_eq!(of_stored(positions), None);
        }
    }

    #[test]
    fn every_row_of_a_named_source_has_it_and_others_have_no_attribute() {
        let columns = SourceColumns::of([(Some("web"), 3), (None, 2), (Some("a"), 1)].into_iter());
        let attributes = columns.attributes();
        let rows = |input: usize| -> Vec<Option<&[u8]>> {
            let (name, cells) = &attributes[input][0];
            assert_eq!(name, ATTRIBUTE);
            (0..cells.state.len()).map(|row| cells.get(row)).collect()
        };
        assert_eq!(rows(0), [Some(&b"web"[..]); 3]);
        assert_eq!(rows(2), [Some(&b"a"[..])]);
        assert!(attributes[1].is_empty());
    }
}

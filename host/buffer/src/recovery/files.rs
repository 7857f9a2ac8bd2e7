//! The files of a data directory before their frames are read: which is which, and which are in order.

use std::sync::Arc;

use bytes::Bytes;

use crate::disk::{DiskFile, read_full};
use crate::format::{Header, Kind};
use crate::frame::content;
use crate::journal::Damage;
use crate::snapshot::FileStart;
use crate::state::Store;
use crate::{limits, snapshot};

/// A journal file that is to be read.
pub(super) struct Input {
    pub(super) number: u64,
    pub(super) store: Arc<Store>,
    /// Its own start is sound, and has the number that its name has.
    pub(super) named: bool,
    /// How long the file was made, if it says so.
    pub(super) made: Option<u64>,
}

impl Input {
    /// What was cut off the file from outside.
    pub(super) fn cut(&self) -> u64 {
        self.made.map_or(0, |made| made.saturating_sub(self.store.bytes))
    }

    pub(super) fn damage(&self) -> Damage {
        if self.cut() > 0 { Damage::Cut } else { Damage::Content }
    }
}

/// Journal files by number, and those among them that begin before the one before them: each is where it does not belong,
/// and what it holds is elsewhere too or from another time. One that begins with the next holds nothing: its head was torn. A file that says itself what its number is counts
/// more than one whose start is damaged.
pub(super) fn in_order(inputs: Vec<Input>) -> (Vec<Input>, Vec<Input>) {
    let (mut kept, mut misplaced): (Vec<Input>, Vec<Input>) = (Vec::new(), Vec::new());
    for input in inputs {
        let behind = |last: &mut Input| last.store.start <= input.store.start;
        if input.named {
            while let Some(last) = kept.pop_if(|last| !last.named && !behind(last)) {
                misplaced.push(last);
            }
        }
        if kept.last_mut().is_none_or(behind) { kept.push(input) } else { misplaced.push(input) }
    }
    (kept, misplaced)
}

/// The number in a file's name. It is written in one way, with at least `width` digits, so that no two files have the same.
/// What is written otherwise, and a greater one than there can be, is no number: the file is none of ours.
pub(super) fn number_of(name: &str, width: usize) -> Option<u64> {
    let number = name.parse().ok().filter(|number| *number <= limits::PLACE_MAX)?;
    (name == format!("{number:0width$}")).then_some(number)
}

/// Whether a spare was a journal file of a journal that had more than one.
pub(super) fn was_used(file: &dyn DiskFile) -> bool {
    let Ok(data) = read_from(file, limits::HEADER_BYTES_MAX as u64 * 2) else { return false };
    let Ok(header) = Header::read(&data) else { return false };
    header.kind == Kind::FileStart && file_start(&header, &data).is_some_and(|start| start.number > 1)
}

/// Whether a spare begins with a frame of a place that the journal has not reached.
pub(super) fn is_ahead(file: &dyn DiskFile, end: u64) -> bool {
    let Ok(data) = read_from(file, limits::HEADER_BYTES_MAX as u64 * 2) else { return false };
    Header::read(&data).is_ok_and(|header| header.position >= end)
}

/// The content of a file's first frame.
pub(super) fn file_start(first: &Header, data: &Bytes) -> Option<FileStart> {
    let end = first.header_len() + usize::try_from(first.body_len).unwrap_or(0);
    let body = data.slice(first.header_len().min(data.len())..end.min(data.len()));
    snapshot::read_file_start(&content(first, &body))
}

/// Where the journal was closed in order, if every header up to there is sound: nothing can follow in this file.
pub(super) fn closed_at(file: &dyn DiskFile, start: u64, journal: u64) -> std::io::Result<Option<u64>> {
    let mut window = vec![0; limits::HEADER_BYTES_MAX * 4];
    let (mut from, mut filled) = (0, 0);
    let mut at = 0;
    loop {
        if at + limits::HEADER_BYTES_MAX as u64 > from + filled {
            from = at;
            filled = read_full(file, &mut window, from)? as u64;
        }
        let range = usize::try_from(at - from).unwrap_or(usize::MAX)..usize::try_from(filled).unwrap_or(0);
        let Some(Ok(header)) = window.get(range).map(Header::read) else { return Ok(None) };
        if header.journal != journal || header.position != start + at {
            return Ok(None);
        }
        at += header.frame_len();
        if header.kind == Kind::Closed {
            return Ok(Some(at));
        }
    }
}

/// At most `most` bytes from the start of a file.
pub(super) fn read_from(file: &dyn DiskFile, most: u64) -> std::io::Result<Bytes> {
    let mut data = vec![0; usize::try_from(file.len()?.min(most)).unwrap_or(usize::MAX)];
    let len = read_full(file, &mut data, 0)?;
    data.truncate(len);
    Ok(data.into())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::disk::Disk;
    use crate::testing::FaultyDisk;

    /// Numbers of the files that are kept, of such with these starts and whether they are named.
    fn kept(files: &[(u64, bool)]) -> Vec<u64> {
        let disk = FaultyDisk::new(0);
        disk.create_dir(Path::new("/data")).unwrap();
        let input = |(number, (start, named)): (usize, &(u64, bool))| {
            let path = Path::new("/data").join(number.to_string());
            let file = disk.create(&path, 0, false).unwrap();
            Input {
                number: number as u64,
                store: Store::new(path, file, *start, 0),
                named: *named,
                made: None,
            }
        };
        let (kept, misplaced) = in_order(files.iter().enumerate().map(input).collect());
        assert_eq!(kept.len() + misplaced.len(), files.len());
        kept.iter().map(|input| input.number).collect()
    }

    #[test]
    fn files_in_order_are_kept_whether_their_starts_are_sound_or_not() {
        assert_eq!(kept(&[(0, true), (64, false), (128, true), (192, false)]), [0, 1, 2, 3]);
        assert!(kept(&[]).is_empty());
    }

    #[test]
    fn file_that_begins_before_another_gives_way_to_one_with_a_name() {
        assert_eq!(kept(&[(64, true), (128, true), (64, false)]), [0, 1], "a copy behind");
        assert_eq!(kept(&[(128, false), (64, true), (128, true)]), [1, 2], "a copy before");
        assert_eq!(kept(&[(256, false), (320, false), (64, true)]), [2], "two before");
        assert_eq!(kept(&[(64, false), (0, false)]), [0], "nobody knows");
    }

    #[test]
    fn file_that_begins_with_the_next_is_kept_before_it() {
        assert_eq!(kept(&[(0, true), (64, true), (64, true)]), [0, 1, 2]);
    }

    #[test]
    fn number_is_one_that_a_file_can_have() {
        assert_eq!(number_of("00000007", 8), Some(7));
        assert_eq!(number_of("123456789", 8), Some(123_456_789));
        assert_eq!((number_of("0", 1), number_of("10", 1)), (Some(0), Some(10)));
        assert_eq!(number_of(&limits::PLACE_MAX.to_string(), 8), Some(limits::PLACE_MAX));
        for name in ["", "x", "-1", "18446744073709551615", "18446744073709551616"] {
            assert_eq!((number_of(name, 8), number_of(name, 1)), (None, None), "{name}");
        }
    }

    #[test]
    fn number_that_is_written_in_another_way_is_none() {
        for name in ["7", "+7", "0000007", "000000007", "+0000007", " 0000007", "0123456789"] {
            assert_eq!(number_of(name, 8), None, "{name}");
        }
        for name in ["07", "+7", "00000007"] {
            assert_eq!(number_of(name, 1), None, "{name}");
        }
    }
}

//! The files of one tenant's usage: what was counted is appended every ten seconds, and added up when its hour is over.
//!
//! | file | rows |
//! |---|---|
//! | `HOUR.part.ndjson` | of the hour at hand: what was counted since the row before |
//! | `HOUR.ndjson` | of an hour that is over: by minute |
//! | `DAY.ndjson` | of a day that is over for three days: by hour |
//!
//! HOUR and DAY are hours and days since 1970, so that names tell which file follows. A file that is made of others names
//! them in its first line, and is put in place as a whole before they are removed: whatever happens in between, none
//! counts twice and none is lost. Days are kept for 400 days.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::row::{Row, Rows};

const HOUR_S: u64 = 3600;
const DAY_S: u64 = 24 * HOUR_S;
/// Hours that stay by minute.
const MINUTES_KEPT_H: u64 = 72;
const DAYS_KEPT: u64 = 400;
/// Longest file that is read; a tenant with a thousand streams makes a tenth of it in an hour.
const BYTES_MAX: u64 = 1 << 30;

/// How often files are listed anew because one of them is gone; each time something was added up meanwhile.
const LISTS_MAX: usize = 10;

/// The first line of a file that is made of others.
#[derive(Debug, Default, Deserialize, Serialize)]
struct Head {
    made_of: BTreeSet<String>,
}

/// The first line of one that is appended to: a number that no other one has.
#[derive(Debug, Deserialize, Serialize)]
struct PartHead {
    part: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Day,
    Hour,
    Part,
}

/// A file, by what its name says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Name {
    from: u64,
    kind: Kind,
}

impl Name {
    fn parse(text: &str) -> Option<Name> {
        let stem = text.strip_suffix(".ndjson")?;
        let number = |text: &str, unit: &str| -> Option<u64> { text.strip_prefix(unit)?.parse().ok() };
        if let Some(stem) = stem.strip_suffix(".part") {
            return Some(Name { from: number(stem, "hour-")? * HOUR_S, kind: Kind::Part });
        }
        let hour = number(stem, "hour-").map(|hour| Name { from: hour * HOUR_S, kind: Kind::Hour });
        hour.or_else(|| Some(Name { from: number(stem, "day-")? * DAY_S, kind: Kind::Day }))
    }

    fn text(self) -> String {
        match self.kind {
            Kind::Part => format!("hour-{}.part.ndjson", self.from / HOUR_S),
            Kind::Hour => format!("hour-{}.ndjson", self.from / HOUR_S),
            Kind::Day => format!("day-{}.ndjson", self.from / DAY_S),
        }
    }

    fn to(self) -> u64 {
        self.from + if self.kind == Kind::Day { DAY_S } else { HOUR_S }
    }
}

/// See the head of this file. Everything blocks on the disk.
#[derive(Debug)]
pub(super) struct Store {
    dir: PathBuf,
}

/// What is in a file.
struct Read1 {
    head: Head,
    part: Option<u64>,
    rows: Vec<Row>,
}

impl Store {
    pub(super) fn new(dir: PathBuf) -> Store {
        Store { dir }
    }

    fn path(&self, name: Name) -> PathBuf {
        self.dir.join(name.text())
    }

    fn names(&self) -> io::Result<Vec<Name>> {
        let entries = match fs::read_dir(&self.dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut names = Vec::new();
        for entry in entries {
            names.extend(entry?.file_name().to_str().and_then(Name::parse));
        }
        names.sort();
        Ok(names)
    }

    /// Appends rows of one hour. What a failure has left of them is cut off, so that they can be appended again.
    pub(super) fn append(&self, hour_from: u64, rows: &[Row], draw: impl FnOnce() -> u64) -> io::Result<()> {
        // Not those above: a data directory that was taken away is not made anew.
        for dir in self.dir.parent().into_iter().chain([self.dir.as_path()]) {
            match DirBuilder::new().mode(0o700).create(dir) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                _ => {}
            }
        }
        let path = self.path(Name { from: hour_from / HOUR_S * HOUR_S, kind: Kind::Part });
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        let end = whole_lines(&mut file)?;
        let mut text = Vec::new();
        if end == 0 {
            line(&mut text, &PartHead { part: draw() })?;
        }
        for row in rows {
            line(&mut text, row)?;
        }
        file.seek(SeekFrom::Start(end))?;
        file.write_all(&text).inspect_err(|_failed| {
            // If that fails too, the next append finds a torn line and cuts it.
            drop(file.set_len(end));
        })
    }

    /// Adds up what is over at this moment.
    pub(super) fn roll(&self, now: u64) -> io::Result<()> {
        let this_hour = now / HOUR_S * HOUR_S;
        let names = self.names()?;
        for name in names.iter().filter(|name| name.kind == Kind::Part && name.from < this_hour) {
            self.make(Name { kind: Kind::Hour, ..*name }, &[*name], 60)?;
        }
        let minutes_from = this_hour.saturating_sub(MINUTES_KEPT_H * HOUR_S) / DAY_S * DAY_S;
        let names = self.names()?;
        let old: Vec<Name> = names
            .iter()
            .filter(|name| name.kind == Kind::Hour && name.from < minutes_from)
            .copied()
            .collect();
        for of_day in old.chunk_by(|one, other| one.from / DAY_S == other.from / DAY_S) {
            let Some(first) = of_day.first() else { continue };
            self.make(Name { from: first.from / DAY_S * DAY_S, kind: Kind::Day }, of_day, HOUR_S)?;
        }
        let days_from = now.saturating_sub(DAYS_KEPT * DAY_S);
        for name in names.iter().filter(|name| name.kind == Kind::Day && name.to() <= days_from) {
            fs::remove_file(self.path(*name))?;
        }
        Ok(())
    }

    /// Makes a file of others, in spans of so many seconds, and removes them.
    fn make(&self, name: Name, of: &[Name], seconds: u64) -> io::Result<()> {
        let mut head = Head::default();
        let mut rows = Rows::default();
        if let Some(there) = self.read(name)? {
            head = there.head;
            there.rows.into_iter().for_each(|row| rows.add(row.from, row.of, &row.counts));
        }
        let mut more = false;
        for one in of {
            let Some(read) = self.read(*one)? else { continue };
            let known = read.part.map_or_else(|| one.text(), |part| format!("{part:016x}"));
            if head.made_of.insert(known) {
                more = true;
                for row in read.rows {
                    rows.add(row.from / seconds * seconds, row.of, &row.counts);
                }
            }
        }
        if more {
            let mut text = Vec::new();
            line(&mut text, &head)?;
            for row in rows.into_rows() {
                line(&mut text, &row)?;
            }
            let (path, beside) = (self.path(name), self.dir.join(format!(".{}", name.text())));
            let mut file =
                OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
            file.write_all(&text)?;
            file.sync_all()?;
            fs::rename(&beside, &path)?;
            File::open(&self.dir)?.sync_all()?;
        }
        of.iter().try_for_each(|one| fs::remove_file(self.path(*one)))
    }

    /// What is no line, or no row, is left out.
    fn read(&self, name: Name) -> io::Result<Option<Read1>> {
        let file = match File::open(self.path(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        let mut text = Vec::new();
        file.take(BYTES_MAX).read_to_end(&mut text)?;
        // What stands behind the last line feed is torn, even where it looks whole: the next append cuts it off.
        text.truncate(text.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1));
        let mut read = Read1 { head: Head::default(), part: None, rows: Vec::new() };
        for (number, line) in text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).enumerate() {
            if number == 0 {
                if let Ok(head) = serde_json::from_slice::<Head>(line) {
                    read.head = head;
                    continue;
                }
                if let Ok(PartHead { part }) = serde_json::from_slice(line) {
                    read.part = Some(part);
                    continue;
                }
            }
            read.rows.extend(serde_json::from_slice::<Row>(line));
        }
        Ok(Some(read))
    }

    /// Calls `each` with the rows between two moments, a span of at least an hour at a time, in order; until it says false.
    pub(super) fn each(&self, from: u64, to: u64, mut each: impl FnMut(Vec<Row>) -> bool) -> io::Result<()> {
        let mut from = from;
        for _ in 0..LISTS_MAX {
            let Some(gone) = self.each_listed(from, to, &mut each)? else { return Ok(()) };
            // It is in another file now. Not so if all was put aside: that is not the end of what there is.
            self.dir.metadata()?;
            from = from.max(gone);
        }
        Err(io::Error::other("its files change faster than they are read"))
    }

    /// `Some`: the beginning of a span of which a file is gone, of which nothing was told.
    fn each_listed(
        &self,
        from: u64,
        to: u64,
        each: &mut impl FnMut(Vec<Row>) -> bool,
    ) -> io::Result<Option<u64>> {
        let names = self.names()?;
        // Of a day that is being made, its hours are there too; and so on.
        let days: Vec<Name> = names.iter().filter(|name| name.kind == Kind::Day).copied().collect();
        let within = |name: &&Name| name.from < to && name.to() > from;
        let mut spans: Vec<(u64, Vec<Name>)> = Vec::new();
        for name in names.iter().filter(within) {
            let day = days.iter().find(|day| (day.from..day.to()).contains(&name.from));
            let span = day.map_or(name.from, |day| day.from);
            match spans.iter_mut().find(|(from, _)| *from == span) {
                Some((_, together)) => together.push(*name),
                None => spans.push((span, vec![*name])),
            }
        }
        spans.sort();
        for (span, together) in spans {
            let mut made_of = BTreeSet::new();
            let mut rows = Vec::new();
            // Days before hours before parts: what one is made of is not read again.
            let mut together = together;
            together.sort_by_key(|name| (name.kind, name.from));
            for name in together {
                let Some(read) = self.read(name)? else { return Ok(Some(span)) };
                let known = read.part.map_or_else(|| name.text(), |part| format!("{part:016x}"));
                if made_of.contains(&known) {
                    continue;
                }
                made_of.extend(read.head.made_of);
                rows.extend(read.rows.into_iter().filter(|row| (from..to).contains(&row.from)));
            }
            if !each(rows) {
                break;
            }
        }
        Ok(None)
    }
}

fn line(text: &mut Vec<u8>, value: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut *text, value).map_err(io::Error::other)?;
    text.push(b'\n');
    Ok(())
}

/// Cuts off what stands behind the last line feed; the length that is left.
fn whole_lines(file: &mut File) -> io::Result<u64> {
    const LOOK_BYTES: u64 = 64 << 10;
    let length = file.metadata()?.len();
    let mut end = length;
    let mut piece = Vec::new();
    while end > 0 {
        let start = end.saturating_sub(LOOK_BYTES);
        file.seek(SeekFrom::Start(start))?;
        piece.clear();
        Read::by_ref(file).take(end - start).read_to_end(&mut piece)?;
        if let Some(at) = piece.iter().rposition(|byte| *byte == b'\n') {
            end = start + at as u64 + 1;
            break;
        }
        end = start;
    }
    if end < length {
        file.set_len(end)?;
    }
    Ok(end)
}

/// The tenants that have files below a directory.
pub(super) fn tenants(dir: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut names = Vec::new();
    for entry in entries {
        names.extend(entry?.file_name().into_string());
    }
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::super::row::{Counts, Of};
    use super::*;

    fn row(from: u64, stream: &str, records_in: u64) -> Row {
        let of = Of { stream: stream.to_owned(), ..Of::default() };
        Row { from, of, counts: Counts { records_in, memory_bytes_max: from, ..Counts::default() } }
    }

    fn all(store: &Store) -> Vec<(u64, u64)> {
        let mut found = Vec::new();
        store
            .each(0, u64::MAX, |rows| {
                found.extend(rows.iter().map(|row| (row.from, row.counts.records_in)));
                true
            })
            .unwrap();
        found
    }

    fn sum(store: &Store) -> u64 {
        all(store).iter().map(|(_, records)| records).sum()
    }

    #[test]
    fn rows_are_added_up_by_minute_and_then_by_hour_and_none_is_lost_or_counts_twice() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::new(dir.path().join("team"));
        let mut numbers = 0;
        for hour in 0..48u64 {
            for at in [0, 10, 60, 3540] {
                let from = (hour * HOUR_S + at) / 60 * 60;
                numbers += 1;
                store.append(from, &[row(from, "s", 1), row(from, "t", 10)], || numbers).unwrap();
            }
            store.roll(hour * HOUR_S + 3599).unwrap();
            assert_eq!(sum(&store), 11 * 4 * (hour + 1));
        }
        assert_eq!(all(&store)[..3], [(0, 2), (0, 20), (60, 1)], "by minute");
        store.roll(5 * DAY_S).unwrap();
        assert_eq!((sum(&store), all(&store)[0]), (11 * 4 * 48, (0, 4)), "by hour");
        assert_eq!(store.names().unwrap().len(), 2, "{:?}", store.names());
        store.roll(401 * DAY_S).unwrap();
        assert_eq!(sum(&store), 11 * 4 * 24);
        store.roll(402 * DAY_S).unwrap();
        assert!(store.names().unwrap().is_empty());
    }

    #[test]
    fn what_is_added_up_while_it_is_read_is_told_once() {
        for rolled_at in [3 * HOUR_S, 9 * DAY_S] {
            let dir = tempfile::tempdir().unwrap();
            let store = Store::new(dir.path().join("team"));
            for hour in 0..30 {
                store.append(hour * HOUR_S, &[row(hour * HOUR_S + 60, "s", 1 << hour)], || hour).unwrap();
            }
            let mut found = 0;
            let mut calls = 0;
            store
                .each(0, u64::MAX, |rows| {
                    found += rows.iter().map(|row| row.counts.records_in).sum::<u64>();
                    calls += 1;
                    if calls == 2 {
                        store.roll(rolled_at).unwrap();
                    }
                    true
                })
                .unwrap();
            assert_eq!(found, (1 << 30) - 1, "{found:b}");
        }
        // All is put aside, which is no end of it.
        let dir = tempfile::tempdir().unwrap();
        let store = Store::new(dir.path().join("team"));
        (0..3).for_each(|hour| store.append(hour * HOUR_S, &[row(hour * HOUR_S, "s", 1)], || hour).unwrap());
        let moved =
            store.each(0, u64::MAX, |_| fs::rename(dir.path().join("team"), dir.path().join("gone")).is_ok());
        assert_eq!(moved.unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    /// As the directory may be at any moment: the new file in place, and those that it is made of still there.
    #[test]
    fn crash_between_the_new_file_and_the_removal_of_the_old_ones_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::new(dir.path().to_owned());
        store.append(0, &[row(0, "s", 1)], || 1).unwrap();
        let part = dir.path().join("hour-0.part.ndjson");
        let kept = fs::read(&part).unwrap();
        store.roll(HOUR_S).unwrap();
        fs::write(&part, &kept).unwrap();
        assert_eq!(sum(&store), 1);
        store.roll(HOUR_S).unwrap();
        assert!(!part.exists() && sum(&store) == 1);
        // The clock went back: another part of the same hour is another one.
        store.append(0, &[row(0, "s", 5)], || 2).unwrap();
        assert_eq!(sum(&store), 6);
        store.roll(HOUR_S).unwrap();
        assert_eq!(all(&store), [(0, 6)]);
        let hour = fs::read(dir.path().join("hour-0.ndjson")).unwrap();
        store.roll(9 * DAY_S).unwrap();
        fs::write(dir.path().join("hour-0.ndjson"), hour).unwrap();
        assert_eq!(sum(&store), 6);
        store.roll(9 * DAY_S).unwrap();
        assert_eq!(store.names().unwrap(), [Name { from: 0, kind: Kind::Day }]);
    }

    #[test]
    fn torn_line_is_cut_before_the_next_one_and_left_out_by_who_reads() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::new(dir.path().to_owned());
        store.append(0, &[row(0, "s", 1)], || 1).unwrap();
        let part = dir.path().join("hour-0.part.ndjson");
        let whole = fs::read(&part).unwrap();
        for torn in 1..whole.len() {
            fs::write(&part, [&whole[..], &whole[..torn]].concat()).unwrap();
            assert_eq!(sum(&store), 1, "{torn} bytes");
            store.append(0, &[row(0, "s", 1)], || 2).unwrap();
            let text = fs::read_to_string(&part).unwrap();
            assert!(text.lines().all(|line| line.starts_with('{') && line.ends_with('}')), "{text}");
        }
        // Nothing but a torn first line: it begins anew.
        fs::write(&part, &whole[..5]).unwrap();
        store.append(0, &[row(0, "s", 7)], || 3).unwrap();
        assert_eq!(all(&store), [(0, 7)]);
    }

    #[test]
    fn question_is_answered_from_the_files_of_its_time_alone() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::new(dir.path().to_owned());
        for hour in 0..5u64 {
            store.append(hour * HOUR_S, &[row(hour * HOUR_S, "s", hour)], || hour).unwrap();
        }
        let mut calls = 0;
        store
            .each(HOUR_S, 4 * HOUR_S, |rows| {
                calls += 1;
                assert_eq!(rows[0].counts.records_in, calls);
                calls < 2
            })
            .unwrap();
        assert_eq!(calls, 2);
        assert!(tenants(&dir.path().join("nothing")).unwrap().is_empty());
    }
}

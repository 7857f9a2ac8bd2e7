//! The audit log: who changed or was refused what, when, from where, and how it ended. One log a tenant, of lines that
//! are only ever appended.
//!
//! Changes and refusals are in files of their own, so that whoever is refused often cannot push out what was changed:
//! `SEQ-changes.ndjson` and `SEQ-refused.ndjson`, named after their first entry. A file is closed at 1 MiB; the last 16
//! files of changes and 4 of refusals are kept (20 MiB a tenant, some 60,000 changes). Of refusals at most 20 at once and
//! one a second after that are written, and how many were not is in the next. A change is on disk before it is answered.

use std::collections::HashMap;
use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use wasmill_tenant::{Moment, TenantName};

use crate::error::StoreError;
use crate::file;

const FILE_BYTES_MAX: u64 = 1 << 20;
/// Of one tenant; of more the oldest go.
const CHANGES_FILES_MAX: usize = 16;
const REFUSED_FILES_MAX: usize = 4;
const REFUSALS_BURST: f64 = 20.0;
const REFUSALS_PER_SECOND: f64 = 1.0;
/// Entries of one page at most.
pub const PAGE_ENTRIES_MAX: usize = 1000;
/// Longest text in an entry that comes from outside, in characters.
const TEXT_MAX: usize = 300;

/// Who did it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Actor {
    /// Id of the key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Of a token or a client certificate: what it says of whom it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// Whose key it is, where an operator acts for another tenant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<TenantName>,
    pub address: String,
}

/// What is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewEntry {
    pub at_ms: Moment,
    pub who: Actor,
    pub method: String,
    /// The pattern of the path.
    pub route: String,
    /// The path.
    pub target: String,
    pub status: u16,
    /// The code of the error.
    pub code: Option<String>,
    /// What the client is not told.
    pub reason: Option<String>,
}

/// What is read.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Entry {
    /// Counts from 1 in the tenant's log.
    pub seq: u64,
    pub at_ms: Moment,
    pub who: Actor,
    pub method: String,
    pub route: String,
    pub target: String,
    pub status: u16,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Refusals before this one that were not written, because there were too many.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub not_written: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// Entries of a log, in order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AuditPage {
    pub entries: Vec<Entry>,
    /// Where the next page begins, if there is one.
    pub next: Option<u64>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Changes,
    Refused,
}

impl Kind {
    const BOTH: [Kind; 2] = [Kind::Changes, Kind::Refused];

    fn ending(self) -> &'static str {
        match self {
            Kind::Changes => "-changes.ndjson",
            Kind::Refused => "-refused.ndjson",
        }
    }

    fn files_max(self) -> usize {
        match self {
            Kind::Changes => CHANGES_FILES_MAX,
            Kind::Refused => REFUSED_FILES_MAX,
        }
    }
}

/// See the head of this file. Every function blocks on the disk.
pub struct AuditLog {
    dir: PathBuf,
    logs: Mutex<HashMap<TenantName, Log>>,
}

/// What is known of one log.
struct Log {
    next: u64,
    tokens: f64,
    at: Moment,
    not_written: u64,
}

impl AuditLog {
    /// `data_dir` is the host's; nothing is read or written yet.
    pub fn new(data_dir: &Path) -> AuditLog {
        AuditLog { dir: data_dir.join("audit"), logs: Mutex::new(HashMap::new()) }
    }

    fn logs(&self) -> MutexGuard<'_, HashMap<TenantName, Log>> {
        self.logs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn dir(&self, tenant: &TenantName) -> PathBuf {
        self.dir.join(tenant.as_str())
    }

    /// Writes what was changed, or tried and not changed; it is on disk afterwards.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn changed(&self, tenant: &TenantName, entry: NewEntry) -> Result<(), StoreError> {
        self.append(tenant, Kind::Changes, entry, 0)
    }

    /// Writes that somebody was refused, unless there were too many.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn refused(&self, tenant: &TenantName, entry: NewEntry) -> Result<(), StoreError> {
        let not_written = {
            let mut logs = self.logs();
            let log = self.log(&mut logs, tenant)?;
            let seconds = entry.at_ms.saturating_sub(log.at) as f64 / 1000.0;
            log.tokens = (log.tokens + seconds * REFUSALS_PER_SECOND).min(REFUSALS_BURST);
            log.at = log.at.max(entry.at_ms);
            if log.tokens < 1.0 {
                log.not_written += 1;
                return Ok(());
            }
            log.tokens -= 1.0;
            std::mem::take(&mut log.not_written)
        };
        self.append(tenant, Kind::Refused, entry, not_written)
    }

    fn log<'a>(
        &self,
        logs: &'a mut HashMap<TenantName, Log>,
        tenant: &TenantName,
    ) -> Result<&'a mut Log, StoreError> {
        if !logs.contains_key(tenant) {
            let mut last = 0;
            for kind in Kind::BOTH {
                if let Some((first, path)) = self.files(tenant, kind)?.last() {
                    let read = read(path)?;
                    last = last.max(read.last().map_or(first.saturating_sub(1), |entry| entry.seq));
                }
            }
            let log = Log { next: last + 1, tokens: REFUSALS_BURST, at: 0, not_written: 0 };
            logs.insert(tenant.clone(), log);
        }
        Ok(logs.entry(tenant.clone()).or_insert(Log { next: 1, tokens: 0.0, at: 0, not_written: 0 }))
    }

    fn append(
        &self,
        tenant: &TenantName,
        kind: Kind,
        entry: NewEntry,
        not_written: u64,
    ) -> Result<(), StoreError> {
        // Held while it is written: entries are in the order of their numbers.
        let mut logs = self.logs();
        let log = self.log(&mut logs, tenant)?;
        let NewEntry { at_ms, who, method, route, target, status, code, reason } = entry;
        let cut = |text: String| text.chars().take(TEXT_MAX).collect::<String>();
        let who = Actor { subject: who.subject.map(cut), ..who };
        let (target, reason) = (cut(target), reason.map(cut));
        let entry =
            Entry { seq: log.next, at_ms, who, method, route, target, status, code, reason, not_written };
        let dir = self.dir(tenant);
        file::make_directory(&dir)?;
        let files = self.files(tenant, kind)?;
        let current = files
            .last()
            .filter(|(_, path)| fs::metadata(path).is_ok_and(|metadata| metadata.len() < FILE_BYTES_MAX));
        let path = match current {
            Some((_, path)) => path.clone(),
            None => dir.join(format!("{:020}{}", entry.seq, kind.ending())),
        };
        write(&path, &entry, kind == Kind::Changes)?;
        log.next += 1;
        if current.is_none() {
            file::sync_directory(&dir)?;
            let over = (files.len() + 1).saturating_sub(kind.files_max());
            for (_, old) in files.iter().take(over) {
                file::remove(old)?;
            }
        }
        Ok(())
    }

    /// Files of one kind with the number of their first entry, the oldest first.
    fn files(&self, tenant: &TenantName, kind: Kind) -> Result<Vec<(u64, PathBuf)>, StoreError> {
        let dir = self.dir(tenant);
        let entries = match fs::read_dir(&dir) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(StoreError::io("list", &dir))?,
        };
        let mut found = Vec::new();
        for entry in entries {
            let path = entry.map_err(StoreError::io("list", &dir))?.path();
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            let first = name.strip_suffix(kind.ending()).and_then(|first| first.parse().ok());
            found.extend(first.map(|first: u64| (first, path)));
        }
        found.sort();
        Ok(found)
    }

    /// Up to `limit` entries after number `after`.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn page(&self, tenant: &TenantName, after: u64, limit: usize) -> Result<AuditPage, StoreError> {
        let limit = limit.clamp(1, PAGE_ENTRIES_MAX);
        let mut entries = Vec::new();
        for kind in Kind::BOTH {
            let files = self.files(tenant, kind)?;
            let begin = files.iter().rposition(|(first, _)| *first <= after.saturating_add(1)).unwrap_or(0);
            let mut found = Vec::new();
            for (_, path) in files.iter().skip(begin) {
                found.extend(read(path)?.into_iter().filter(|entry| entry.seq > after));
                if found.len() > limit {
                    break;
                }
            }
            found.truncate(limit + 1);
            entries.extend(found);
        }
        entries.sort_by_key(|entry: &Entry| entry.seq);
        let more = entries.len() > limit;
        entries.truncate(limit);
        let next = entries.last().filter(|_| more).map(|last| last.seq);
        Ok(AuditPage { entries, next })
    }

    /// Puts a log aside under a name that no tenant can have: whoever gets the name next has a log of his own.
    ///
    /// # Errors
    /// The directory cannot be renamed.
    pub fn put_aside(&self, tenant: &TenantName, now: Moment) -> Result<(), StoreError> {
        let mut logs = self.logs();
        let dir = self.dir(tenant);
        let aside = self.dir.join(format!("{tenant}@{now}"));
        match fs::rename(&dir, &aside) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            renamed => {
                renamed.map_err(StoreError::io("put aside", &dir))?;
                file::sync_directory(&self.dir)?;
            }
        }
        logs.remove(tenant);
        Ok(())
    }
}

fn write(path: &Path, entry: &Entry, sync: bool) -> Result<(), StoreError> {
    let append = || {
        let mut line = serde_json::to_vec(entry)?;
        line.push(b'\n');
        let mut file = OpenOptions::new().append(true).read(true).create(true).mode(0o600).open(path)?;
        if !ends_with_line(&file)? {
            // A write broke off there. What is left of it stays, on a line of its own.
            line.insert(0, b'\n');
        }
        file.write_all(&line)?;
        if sync { file.sync_data() } else { Ok(()) }
    };
    append().map_err(StoreError::io("write", path))
}

fn ends_with_line(file: &fs::File) -> std::io::Result<bool> {
    use std::os::unix::fs::FileExt;
    let length = file.metadata()?.len();
    let mut last = [b'\n'];
    if length > 0 {
        file.read_exact_at(&mut last, length - 1)?;
    }
    Ok(last == [b'\n'])
}

/// The entries of a file. What is left of one that broke off is none.
fn read(path: &Path) -> Result<Vec<Entry>, StoreError> {
    let text = match fs::read(path) {
        // Its time was over, meanwhile.
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        text => text.map_err(StoreError::io("read", path))?,
    };
    Ok(text.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(at_ms: Moment, target: &str) -> NewEntry {
        NewEntry {
            at_ms,
            who: Actor { key: Some("k".to_owned()), address: "127.0.0.1".to_owned(), ..Actor::default() },
            method: "POST".to_owned(),
            route: "/v1/keys".to_owned(),
            target: target.to_owned(),
            status: 201,
            code: None,
            reason: None,
        }
    }

    fn team() -> TenantName {
        TenantName::new("team").unwrap()
    }

    fn targets(page: &AuditPage) -> Vec<(u64, &str)> {
        page.entries.iter().map(|entry| (entry.seq, entry.target.as_str())).collect()
    }

    #[test]
    fn entries_are_read_in_order_by_page_and_go_on_after_the_next_start() {
        let dir = tempfile::tempdir().unwrap();
        let log = AuditLog::new(dir.path());
        log.changed(&team(), entry(1, "a")).unwrap();
        log.refused(&team(), entry(2, "b")).unwrap();
        let log = AuditLog::new(dir.path());
        log.changed(&team(), entry(3, "c")).unwrap();
        let page = log.page(&team(), 0, 2).unwrap();
        assert_eq!((targets(&page), page.next), (vec![(1, "a"), (2, "b")], Some(2)));
        let page = log.page(&team(), 2, 2).unwrap();
        assert_eq!((targets(&page), page.next), (vec![(3, "c")], None));
        assert_eq!(log.page(&TenantName::default_tenant(), 0, 9).unwrap().entries, []);
    }

    #[test]
    fn entry_that_broke_off_spoils_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let log = AuditLog::new(dir.path());
        log.changed(&team(), entry(1, "a")).unwrap();
        let file = dir.path().join("audit/team/00000000000000000001-changes.ndjson");
        let mut text = fs::read(&file).unwrap();
        text.extend_from_slice(b"{\"seq\":2,\"at");
        fs::write(&file, &text).unwrap();
        let log = AuditLog::new(dir.path());
        log.changed(&team(), entry(3, "c")).unwrap();
        assert_eq!(targets(&log.page(&team(), 0, 9).unwrap()), [(1, "a"), (2, "c")]);
        assert!(fs::read(&file).unwrap().starts_with(&text), "something was taken away");
    }

    #[test]
    fn refusals_are_bounded_and_the_next_one_says_how_many_there_were() {
        let dir = tempfile::tempdir().unwrap();
        let log = AuditLog::new(dir.path());
        for _ in 0..1000 {
            log.refused(&team(), entry(5000, "x")).unwrap();
        }
        log.refused(&team(), entry(6000, "y")).unwrap();
        let page = log.page(&team(), 0, PAGE_ENTRIES_MAX).unwrap();
        let last = page.entries.last().unwrap();
        assert_eq!((page.entries.len(), last.not_written, last.target.as_str()), (21, 980, "y"));
    }

    #[test]
    fn old_files_go_and_refusals_push_out_no_change() {
        let dir = tempfile::tempdir().unwrap();
        let log = AuditLog::new(dir.path());
        log.changed(&team(), entry(1, "first")).unwrap();
        let long = "x".repeat(2000);
        // Files of 1 MiB would take long to fill: each is made as long from outside.
        for n in 0..10 {
            log.refused(&team(), entry(n * 1000, &long)).unwrap();
            let (_, last) = log.files(&team(), Kind::Refused).unwrap().pop().unwrap();
            OpenOptions::new().write(true).open(last).unwrap().set_len(FILE_BYTES_MAX).unwrap();
        }
        assert_eq!(log.files(&team(), Kind::Refused).unwrap().len(), 4);
        let page = log.page(&team(), 0, 100).unwrap();
        let seen: Vec<u64> = page.entries.iter().map(|entry| entry.seq).collect();
        assert_eq!(seen, [1, 8, 9, 10, 11]);
        assert_eq!(page.entries[1].target.len(), TEXT_MAX);
    }

    #[test]
    fn log_that_was_put_aside_is_nobodys() {
        let dir = tempfile::tempdir().unwrap();
        let log = AuditLog::new(dir.path());
        log.changed(&team(), entry(1, "a")).unwrap();
        log.put_aside(&team(), 77).unwrap();
        assert!(log.page(&team(), 0, 9).unwrap().entries.is_empty());
        log.changed(&team(), entry(2, "b")).unwrap();
        assert_eq!(targets(&log.page(&team(), 0, 9).unwrap()), [(1, "b")]);
        assert!(dir.path().join("audit/team@77").is_dir());
    }
}

//! Copies of what a stream's transforms were granted and ran last: one of each content, and a note for each place.
//!
//! A running chain holds its files, but not what its models were read from: the copy of a model to which the stream may have to go
//! back stays until it need not any more.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use wasmill_catalog::Catalog;
use wasmill_config::Transform;
use wasmill_transform::{Chain, GrantedFile};

use super::{Grant, Kind};
use crate::pipeline::moment_text;

/// How notes end: of what ran last, and of what ran before that.
const LAST: &str = "last";
const BEFORE: &str = "before";

impl Kind {
    const ALL: [Kind; 2] = [Kind::File, Kind::Model];

    /// Where copies are, below the data directory.
    fn directory(self) -> &'static str {
        match self {
            Kind::File => "files",
            Kind::Model => "models",
        }
    }

    /// How their names end.
    fn ending(self) -> &'static str {
        match self {
            Kind::File => "file",
            Kind::Model => "onnx",
        }
    }
}

/// See the head of this file.
#[derive(Clone)]
pub(crate) struct Kept {
    data_dir: PathBuf,
    stream: String,
}

impl Kept {
    pub(in crate::pipeline) fn of(catalog: &Catalog, stream: &str) -> Kept {
        Kept { data_dir: catalog.data_dir().to_owned(), stream: stream.to_owned() }
    }

    fn directory(&self, kind: Kind) -> PathBuf {
        self.data_dir.join(kind.directory())
    }

    /// Of what ran last. Names have no `+`.
    fn note(&self, grant: &Grant<'_>) -> PathBuf {
        let name = format!("{}+{}+{}.{LAST}", self.stream, grant.transform.name, grant.name);
        self.directory(grant.kind).join(name)
    }

    /// Of the one before.
    fn note_before(&self, grant: &Grant<'_>) -> PathBuf {
        self.note(grant).with_extension(BEFORE)
    }

    fn copy(&self, kind: Kind, digest: &str) -> PathBuf {
        self.directory(kind).join(format!("{}.{}", digest.replace(':', "-"), kind.ending()))
    }

    /// What this place ran last, whole.
    pub(super) fn find(&self, grant: &Grant<'_>) -> Option<GrantedFile> {
        let note = fs::read_to_string(self.note(grant)).ok()?;
        let (digest, place) = noted(&note);
        // Of another file, somebody else's is no help.
        if place.is_some_and(|place| place != grant.place()) {
            return None;
        }
        let content = GrantedFile::read(&self.copy(grant.kind, digest), grant.kind.bytes_max()).ok()?;
        (content.digest.to_string() == digest).then_some(content)
    }

    /// What a start would have of it in the place of what is there now.
    pub(in crate::pipeline) fn instead(&self, transform: &Transform) -> Vec<String> {
        let grants = Grant::files(transform, &self.data_dir).chain(Grant::models(transform));
        let told = grants.filter_map(|grant| {
            let kept = self.find(&grant)?;
            if grant.content().is_ok_and(|there| there.digest == kept.digest) {
                return None;
            }
            let copy = fs::metadata(self.copy(grant.kind, &kept.digest.to_string()));
            let since = copy.and_then(|copy| copy.modified()).ok()?.duration_since(UNIX_EPOCH).ok()?;
            let since = moment_text(i64::try_from(since.as_nanos()).unwrap_or(i64::MAX));
            let kind = match grant.kind {
                Kind::File => "file",
                Kind::Model => "model",
            };
            Some(format!("the {kind} {:?} as kept since {since} ({})", grant.name, kept.digest))
        });
        told.collect()
    }

    /// Keeps what a chain of these transforms runs, and nothing else of the stream but the models of the chain `before`, to which it may
    /// go back. A model that has changed again by now is kept with the next chain.
    pub(in crate::pipeline) fn keep(
        &self,
        transforms: &[Transform],
        chain: &Chain,
        before: Option<&Chain>,
    ) -> io::Result<()> {
        let grants = Grant::all(transforms, &self.data_dir);
        let files = chain.files().map(|(_, _, file)| (file.digest, Some(file.clone())));
        // A chain does not hold what its models were read from.
        let ran = files.chain(chain.models().map(|(_, digest)| (digest, None)));
        for (grant, (ran, held)) in grants.iter().zip(ran) {
            let digest = ran.to_string();
            let copy = self.copy(grant.kind, &digest);
            if !copy.exists() {
                let content = held.or_else(|| grant.content().ok().filter(|content| content.digest == ran));
                let Some(content) = content else { continue };
                fs::create_dir_all(self.directory(grant.kind))?;
                write(&copy, &content.bytes)?;
            }
            write(&self.note(grant), format!("{digest}\n{}", grant.place()).as_bytes())?;
        }
        let mut notes: BTreeSet<PathBuf> = grants.iter().map(|grant| self.note(grant)).collect();
        let models = grants.iter().filter(|grant| grant.kind == Kind::Model);
        for (grant, (_, digest)) in models.zip(before.into_iter().flat_map(|before| before.models())) {
            let digest = digest.to_string();
            if self.copy(grant.kind, &digest).exists() {
                let note = self.note_before(grant);
                write(&note, digest.as_bytes())?;
                notes.insert(note);
            }
        }
        self.retain(|note| notes.contains(note))
    }

    /// A stream of this name is removed.
    pub(in crate::pipeline) fn forget(&self) -> io::Result<()> {
        self.retain(|_| false)
    }

    /// Removes other notes of the stream, copies that no note names, and what a crash left half-written: nobody else writes here.
    fn retain(&self, wanted: impl Fn(&Path) -> bool) -> io::Result<()> {
        let prefix = format!("{}+", self.stream);
        for kind in Kind::ALL {
            let ends = |file: &Path, ending: &str| file.extension().is_some_and(|found| found == ending);
            let mut named = BTreeSet::new();
            let files = self.in_directory(kind)?;
            for note in files.iter().filter(|file| ends(file, LAST) || ends(file, BEFORE)) {
                let own = note.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&prefix));
                if own && !wanted(note) {
                    fs::remove_file(note)?;
                } else {
                    let note = fs::read_to_string(note).unwrap_or_default();
                    named.insert(self.copy(kind, noted(&note).0));
                }
            }
            let is_over =
                |file: &&PathBuf| ends(file, "part") || (ends(file, kind.ending()) && !named.contains(*file));
            for file in files.iter().filter(is_over) {
                fs::remove_file(file)?;
            }
        }
        Ok(())
    }

    fn in_directory(&self, kind: Kind) -> io::Result<Vec<PathBuf>> {
        match fs::read_dir(self.directory(kind)) {
            Ok(entries) => entries.map(|entry| Ok(entry?.path())).collect(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }
}

/// Digest and place, which notes of earlier versions do not have.
fn noted(note: &str) -> (&str, Option<&str>) {
    match note.split_once('\n') {
        Some((digest, place)) => (digest, Some(place)),
        None => (note, None),
    }
}

/// Whole or not at all, also after a crash; for nobody else to read.
pub(super) fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let part = path.with_extension("part");
    let mut file = create(&part)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(part, path)
}

/// What a granted file has may be meant for few.
pub(super) fn create(path: &Path) -> io::Result<fs::File> {
    fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_note_names_and_what_a_crash_left_half_written_goes_and_copies_of_other_streams_stay() {
        let dir = tempfile::tempdir().unwrap();
        let kept = Kept { data_dir: dir.path().to_owned(), stream: "events".to_owned() };
        let files = dir.path().join("files");
        fs::create_dir(&files).unwrap();
        let put = |name: &str, text: &str| fs::write(files.join(name), text).unwrap();
        for copy in ["sha256-a.file", "sha256-b.file", "sha256-c.file", "sha256-d.part"] {
            put(copy, "x");
        }
        put("events+join+table.last", "sha256:a\n/srv/a.csv");
        put("others+join+table.last", "sha256:b\n/srv/b.csv");
        kept.forget().unwrap();
        let there: Vec<_> = kept.in_directory(Kind::File).unwrap();
        let there: BTreeSet<_> =
            there.iter().map(|path| path.file_name().unwrap().to_str().unwrap()).collect();
        assert_eq!(there, BTreeSet::from(["others+join+table.last", "sha256-b.file"]));
    }
}

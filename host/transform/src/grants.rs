//! What a transform is handed at `configure`, files by content and secrets, both by name; the network; state; and models.
//!
//! Owns nothing on disk: a granted file is read once, whole and bounded, and shared by all instances. Secrets never show
//! in `Debug`.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{Mode, OFlags, ResolveFlags};

use crate::http::HttpGrant;
use crate::models::GrantedModel;
use crate::plugin::Digest;

/// Times that a file is read which changes meanwhile.
const READS_MAX: usize = 3;

/// A granted file, by content. Cheap to clone.
#[derive(Clone)]
pub struct GrantedFile {
    pub bytes: Arc<[u8]>,
    pub digest: Digest,
}

/// Why a file could not be granted.
#[derive(Debug, thiserror::Error)]
pub enum GrantError {
    #[error("read {path}")]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{path} is over the limit of {max} bytes")]
    TooLarge { path: PathBuf, max: u64 },
    #[error("{path} is no regular file")]
    NotAFile { path: PathBuf },
    #[error("{path} is not below {root}")]
    Outside { path: PathBuf, root: PathBuf },
    #[error("{path} was changed each of the {READS_MAX} times that it was read")]
    Changing { path: PathBuf },
}

/// Which state of which file: of another content, something of it is another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileState {
    pub device: u64,
    pub inode: u64,
    pub bytes: u64,
    /// Seconds and nanoseconds since 1970.
    pub modified: (i64, i64),
    /// The same of the last change to the file or to its names, as the kernel has it.
    pub changed: (i64, i64),
}

impl FileState {
    /// Of what a path leads to.
    pub fn of(path: &Path) -> std::io::Result<FileState> {
        std::fs::metadata(path).map(|metadata| FileState::from(&metadata))
    }
}

impl From<&std::fs::Metadata> for FileState {
    fn from(metadata: &std::fs::Metadata) -> FileState {
        FileState {
            device: metadata.dev(),
            inode: metadata.ino(),
            bytes: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// A file that may be granted, before it is read.
#[derive(Debug)]
pub struct OpenFile {
    file: File,
    path: PathBuf,
}

impl OpenFile {
    /// Follows links.
    pub fn open(path: &Path) -> Result<OpenFile, GrantError> {
        OpenFile::opened(path, rustix::fs::open(path, flags(), Mode::empty()))
    }

    /// A file below `root` out of which no symbolic link leads, whatever changes meanwhile.
    pub fn open_below(root: &Path, path: &Path) -> Result<OpenFile, GrantError> {
        let outside = || GrantError::Outside { path: path.to_owned(), root: root.to_owned() };
        let relative = path.strip_prefix(root).map_err(|_| outside())?;
        // An empty path is the working directory.
        let root_path = if root.as_os_str().is_empty() { Path::new(".") } else { root };
        let read =
            |source: rustix::io::Errno| GrantError::Read { path: root.to_owned(), source: source.into() };
        let below =
            rustix::fs::open(root_path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
        let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        match rustix::fs::openat2(below.map_err(read)?, relative, flags(), Mode::empty(), beneath) {
            Err(rustix::io::Errno::XDEV) => Err(outside()),
            opened => OpenFile::opened(path, opened),
        }
    }

    fn opened(path: &Path, opened: rustix::io::Result<std::os::fd::OwnedFd>) -> Result<OpenFile, GrantError> {
        let source =
            |errno: rustix::io::Errno| GrantError::Read { path: path.to_owned(), source: errno.into() };
        let file = OpenFile { file: File::from(opened.map_err(source)?), path: path.to_owned() };
        match file.metadata()?.is_file() {
            true => Ok(file),
            false => Err(GrantError::NotAFile { path: path.to_owned() }),
        }
    }

    fn metadata(&self) -> Result<std::fs::Metadata, GrantError> {
        self.file.metadata().map_err(|source| self.unread(source))
    }

    fn unread(&self, source: std::io::Error) -> GrantError {
        GrantError::Read { path: self.path.clone(), source }
    }

    /// As it is now.
    pub fn state(&self) -> Result<FileState, GrantError> {
        Ok(FileState::from(&self.metadata()?))
    }

    /// All of it, at most `max` bytes: of one state, which is told. Two changes within a tick of the kernel's clock (some
    /// milliseconds) are one to it: whoever cares lets a file rest before.
    pub fn read(&mut self, max: u64) -> Result<(GrantedFile, FileState), GrantError> {
        for _ in 0..READS_MAX {
            let before = self.state()?;
            if before.bytes > max {
                return Err(GrantError::TooLarge { path: self.path.clone(), max });
            }
            let read = self.read_once(max);
            let after = self.state()?;
            if before == after {
                return Ok((read?, after));
            }
        }
        Err(GrantError::Changing { path: self.path.clone() })
    }

    fn read_once(&mut self, max: u64) -> Result<GrantedFile, GrantError> {
        let mut bytes = Vec::new();
        let read = self
            .file
            .seek(SeekFrom::Start(0))
            .and_then(|_start| (&self.file).take(max.saturating_add(1)).read_to_end(&mut bytes));
        read.map_err(|source| self.unread(source))?;
        if bytes.len() as u64 > max {
            return Err(GrantError::TooLarge { path: self.path.clone(), max });
        }
        Ok(GrantedFile::from_bytes(bytes))
    }
}

impl GrantedFile {
    /// A file that is in memory already.
    pub fn from_bytes(bytes: Vec<u8>) -> GrantedFile {
        GrantedFile { digest: Digest::of(&bytes), bytes: bytes.into() }
    }

    /// Reads a whole file of at most `max` bytes.
    pub fn read(path: &Path, max: u64) -> Result<GrantedFile, GrantError> {
        OpenFile::open(path)?.read(max).map(|(file, _)| file)
    }

    /// As [`GrantedFile::read`], of a file below `root`: see [`OpenFile::open_below`].
    pub fn read_below(root: &Path, path: &Path, max: u64) -> Result<GrantedFile, GrantError> {
        OpenFile::open_below(root, path)?.read(max).map(|(file, _)| file)
    }
}

impl fmt::Debug for GrantedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GrantedFile").field("bytes", &self.bytes.len()).field("digest", &self.digest).finish()
    }
}

/// A pipe in the place of a file must not hold up the thread.
fn flags() -> OFlags {
    OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK
}

/// All that one transform is granted.
#[derive(Default)]
pub(crate) struct GrantSet {
    pub(crate) files: BTreeMap<String, GrantedFile>,
    pub(crate) secrets: BTreeMap<String, String>,
    /// The network, as far as there is one for it.
    pub(crate) http: Option<HttpGrant>,
    pub(crate) state: StateGrant,
    pub(crate) models: BTreeMap<String, GrantedModel>,
    /// The stream has event time.
    pub(crate) event_time: bool,
    /// As in [`crate::ChainOptions`].
    pub(crate) sources: Option<Arc<[String]>>,
}

/// What a transform may do with state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StateGrant {
    /// Paths of the fields whose values say in which key group a record is.
    pub key: Vec<Vec<String>>,
    /// Why its plugin may keep none; `None`: it may, if its manifest asks for it.
    pub denied: Option<String>,
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn file_below_a_root_is_read_and_none_outside_of_it_by_whatever_way() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("root");
        std::fs::create_dir_all(root.join("deep")).unwrap();
        std::fs::write(root.join("deep/table"), "inside").unwrap();
        std::fs::write(directory.path().join("outside"), "outside").unwrap();
        symlink("deep/table", root.join("link-inside")).unwrap();
        symlink("../outside", root.join("link-outside")).unwrap();
        symlink(directory.path().join("outside"), root.join("link-absolute")).unwrap();
        symlink("..", root.join("up")).unwrap();
        symlink("/proc/self/root", root.join("magic")).unwrap();
        let read = |name: &str| GrantedFile::read_below(&root, &root.join(name), 100);
        for name in ["deep/table", "link-inside"] {
            assert_eq!(&*read(name).unwrap().bytes, b"inside", "{name}");
        }
        for name in ["link-outside", "link-absolute", "up/outside", "magic/etc/hostname", "../outside"] {
            assert!(matches!(read(name), Err(GrantError::Outside { .. })), "{name}: {:?}", read(name));
        }
        let elsewhere = GrantedFile::read_below(&root, &directory.path().join("outside"), 100);
        assert!(matches!(elsewhere, Err(GrantError::Outside { .. })));
        assert!(matches!(read("deep"), Err(GrantError::NotAFile { .. })));
        assert!(matches!(read("nothing"), Err(GrantError::Read { .. })));
        assert!(matches!(
            GrantedFile::read_below(&root, &root.join("deep/table"), 5),
            Err(GrantError::TooLarge { .. })
        ));
    }

    #[test]
    fn pipe_in_the_place_of_a_file_is_refused_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pipe");
        rustix::fs::mkfifoat(rustix::fs::CWD, &path, 0o600.into()).unwrap();
        assert!(matches!(GrantedFile::read(&path, 100), Err(GrantError::NotAFile { .. })));
    }
}

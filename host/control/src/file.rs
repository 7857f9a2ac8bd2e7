//! Files of JSON that are replaced as a whole: written beside, synced, renamed, and the directory synced.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::error::StoreError;

/// Longest file that is read.
const BYTES_MAX: u64 = 64 << 20;
/// Ends the name of a file that is not whole yet.
const UNFINISHED: &str = ".new";

/// Makes a directory that nobody else may look into, with those above it.
pub(crate) fn make_directory(path: &Path) -> Result<(), StoreError> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(StoreError::io("make", path))
}

pub(crate) fn sync_directory(path: &Path) -> Result<(), StoreError> {
    File::open(path).and_then(|dir| dir.sync_all()).map_err(StoreError::io("sync", path))
}

/// Writes `{"format": format, …value}`.
pub(crate) fn write(path: &Path, format: u64, value: &impl Serialize) -> Result<(), StoreError> {
    let unreadable = |error: serde_json::Error| StoreError::Unreadable {
        path: path.to_owned(),
        reason: format!("it cannot be written as JSON: {error}"),
    };
    let mut value = serde_json::to_value(value).map_err(unreadable)?;
    if let Value::Object(object) = &mut value {
        object.insert("format".to_owned(), format.into());
    }
    let text = serde_json::to_vec(&value).map_err(unreadable)?;
    let beside = unfinished(path);
    let write = |beside: &Path| {
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(beside)?;
        file.write_all(&text)?;
        file.sync_all()
    };
    write(&beside).map_err(StoreError::io("write", &beside))?;
    fs::rename(&beside, path).map_err(StoreError::io("put in place", path))?;
    path.parent().map_or(Ok(()), sync_directory)
}

fn unfinished(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(UNFINISHED);
    path.with_file_name(name)
}

/// Reads what [`write`] wrote; `None` without a file.
pub(crate) fn read<T: DeserializeOwned>(path: &Path, format: u64) -> Result<Option<T>, StoreError> {
    let unreadable = |reason: String| StoreError::Unreadable { path: path.to_owned(), reason };
    let length = match fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        metadata => metadata.map_err(StoreError::io("read", path))?.len(),
    };
    if length > BYTES_MAX {
        return Err(unreadable(format!("it has {length} bytes")));
    }
    let text = fs::read(path).map_err(StoreError::io("read", path))?;
    let mut value: Value = serde_json::from_slice(&text).map_err(|error| unreadable(error.to_string()))?;
    let object = value.as_object_mut().ok_or_else(|| unreadable("it is no JSON object".to_owned()))?;
    match object.remove("format").as_ref().and_then(Value::as_u64) {
        Some(found) if found > format => {
            return Err(StoreError::Newer { path: path.to_owned(), found, known: format });
        }
        Some(1..) => {}
        _ => return Err(unreadable("it says no format".to_owned())),
    }
    serde_json::from_value(value).map(Some).map_err(|error| unreadable(error.to_string()))
}

pub(crate) fn remove(path: &Path) -> Result<(), StoreError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        removed => removed.map_err(StoreError::io("remove", path))?,
    }
    path.parent().map_or(Ok(()), sync_directory)
}

/// Files that end in `.json`, and what a crash left of unfinished ones is removed.
pub(crate) fn list(dir: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let mut found = entries(dir)?;
    let ends =
        |path: &Path, with: &str| path.file_name().is_some_and(|name| name.to_string_lossy().ends_with(with));
    found
        .iter()
        .filter(|path| ends(path, &format!(".json{UNFINISHED}")))
        .try_for_each(|path| remove(path))?;
    found.retain(|path| ends(path, ".json"));
    Ok(found)
}

/// Directories in a directory.
pub(crate) fn directories(dir: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let mut found = entries(dir)?;
    found.retain(|path| path.is_dir());
    Ok(found)
}

/// What is in a directory, in order; nothing if it is not there.
fn entries(dir: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(StoreError::io("list", dir))?,
    };
    let found = entries.map(|entry| Ok(entry.map_err(StoreError::io("list", dir))?.path()));
    let mut found = found.collect::<Result<Vec<_>, StoreError>>()?;
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_is_replaced_as_a_whole_and_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.json");
        assert_eq!(read::<Value>(&path, 1).unwrap(), None);
        write(&path, 1, &serde_json::json!({"n": 1})).unwrap();
        write(&path, 1, &serde_json::json!({"n": 2})).unwrap();
        fs::write(dir.path().join("b.json.new"), "{").unwrap();
        assert_eq!(list(dir.path()).unwrap(), std::slice::from_ref(&path));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "what was not finished is still there");
        assert_eq!(read::<Value>(&path, 1).unwrap(), Some(serde_json::json!({"n": 2})));
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn file_that_cannot_be_read_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.json");
        for (text, says) in [
            ("", "EOF"),
            ("{\"format\":1,", "EOF"),
            ("[]", "no JSON object"),
            ("{\"n\":1}", "says no format"),
            ("{\"format\":2,\"n\":1}", "a newer version wrote it"),
        ] {
            fs::write(&path, text).unwrap();
            let error = read::<Value>(&path, 1).unwrap_err().to_string();
            assert!(error.contains(says) && error.contains("a.json"), "{error}");
        }
    }
}

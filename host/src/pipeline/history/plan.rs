//! What a replay is to do, and the directory that it fills.
//!
//! The plan stands in the directory as `replay.json`, written before anything else: it says what the directory holds, it
//! proves that whoever names the directory to a host may write into it, and with it the same replay can go on after a
//! crash. It refuses a directory that holds anything else.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// The plan's file in an output directory.
const PLAN_NAME: &str = "replay.json";
/// Longest plan that is read.
const PLAN_BYTES_MAX: u64 = 1 << 20;

/// See the head of this file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReplayPlan {
    /// 32 hexadecimal digits: the incarnation in the batch ids of its objects.
    pub id: String,
    pub stream: String,
    /// Arrivals: the first that counts, and the first that counts no more. RFC 3339.
    pub from: String,
    pub to: String,
    /// `name@sha256:…` in place of the versions that the stream runs.
    #[serde(default)]
    pub plugins: Vec<String>,
    /// The directory that takes the objects, absolute; or else
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<PathBuf>,
    /// the output of the stream whose destination does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination: Option<String>,
    /// First offset and the one behind the last, once they are known: records that are appended later and arrived
    /// before are not part of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offsets: Option<(u64, u64)>,
}

/// Why a directory cannot take the objects.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    #[error("{action} {path}")]
    Io {
        action: &'static str,
        path: PathBuf,
        #[source]
        error: io::Error,
    },
    #[error(
        "output directory {path} is not empty; give another one, or --id {id} to go on with the replay that is in it"
    )]
    Holds { path: PathBuf, id: String },
    #[error("output directory {path} is not empty and holds no replay; give another one")]
    NotEmpty { path: PathBuf },
    #[error("output directory {path} holds replay {id} with another {what}: {theirs}")]
    Another { path: PathBuf, id: String, what: &'static str, theirs: String },
    #[error("output directory {path} has no {PLAN_NAME} of replay {id}; `wasmill replay` writes it")]
    NoPlan { path: PathBuf, id: String },
}

/// The 128 bits of an id.
pub fn parse_id(text: &str) -> Option<[u8; 16]> {
    let digits = text.len() == 32 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let id = digits.then(|| u128::from_str_radix(text, 16).ok())??;
    Some(id.to_be_bytes())
}

impl ReplayPlan {
    /// Makes the directory where it is missing and writes the plan into it; a plan of the same replay that is there
    /// stays. `true` if nothing was there.
    ///
    /// # Errors
    /// The directory holds something else, or cannot be written.
    pub fn prepare(&self, dir: &Path, go_on: bool) -> Result<bool, PlanError> {
        let failed = |action| move |error| PlanError::Io { action, path: dir.to_owned(), error };
        std::fs::create_dir_all(dir).map_err(failed("make"))?;
        let mut names = std::fs::read_dir(dir).map_err(failed("list"))?;
        if names.next().is_none() {
            self.write(dir)?;
            return Ok(true);
        }
        let path = dir.to_owned();
        let Some(there) = read(dir)? else { return Err(PlanError::NotEmpty { path }) };
        if !go_on || there.id != self.id {
            return Err(PlanError::Holds { path, id: there.id });
        }
        let other = |what, theirs: String| PlanError::Another {
            path: dir.to_owned(),
            id: there.id.clone(),
            what,
            theirs,
        };
        if there.stream != self.stream {
            return Err(other("stream", there.stream.clone()));
        }
        if (&there.from, &there.to) != (&self.from, &self.to) {
            return Err(other("span", format!("--from {} --to {}", there.from, there.to)));
        }
        if there.plugins != self.plugins {
            return Err(other("set of plugins", there.plugins.join(", ")));
        }
        Ok(false)
    }

    /// The plan of this replay that stands in its directory.
    pub(super) fn in_directory(&self, dir: &Path) -> Result<ReplayPlan, PlanError> {
        match read(dir)? {
            Some(plan) if plan.id == self.id => Ok(plan),
            _ => Err(PlanError::NoPlan { path: dir.to_owned(), id: self.id.clone() }),
        }
    }

    /// Puts the plan into its directory, whole.
    pub(super) fn write(&self, dir: &Path) -> Result<(), PlanError> {
        let path = dir.join(PLAN_NAME);
        let part = dir.join(".replay.json.part");
        let write = || -> io::Result<()> {
            let mut file = std::fs::File::create(&part)?;
            file.write_all(&serde_json::to_vec_pretty(self)?)?;
            file.write_all(b"\n")?;
            file.sync_all()?;
            std::fs::rename(&part, &path)?;
            std::fs::File::open(dir)?.sync_all()
        };
        write().map_err(|error| PlanError::Io { action: "write", path: path.clone(), error })
    }

    /// Takes back what `prepare` made, where nothing has come of it.
    pub fn forget(dir: &Path) {
        // What does not go is said by the next who finds it.
        let _left = std::fs::remove_file(dir.join(PLAN_NAME));
        let _left = std::fs::remove_dir(dir);
    }
}

fn read(dir: &Path) -> Result<Option<ReplayPlan>, PlanError> {
    let path = dir.join(PLAN_NAME);
    match std::fs::metadata(&path) {
        Ok(metadata) if metadata.len() > PLAN_BYTES_MAX => return Ok(None),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        _ => {}
    }
    let text = std::fs::read(&path).map_err(|error| PlanError::Io { action: "read", path, error })?;
    Ok(serde_json::from_slice(&text).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(id: &str) -> ReplayPlan {
        ReplayPlan {
            id: id.repeat(32),
            stream: "access".into(),
            from: "2026-01-01T00:00:00Z".into(),
            to: "2026-01-02T00:00:00Z".into(),
            plugins: vec![],
            output: None,
            destination: None,
            offsets: None,
        }
    }

    #[test]
    fn directory_is_for_one_replay_which_may_go_on() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("a/out");
        assert!(plan("a").prepare(&out, false).unwrap());
        assert!(matches!(plan("a").prepare(&out, false), Err(PlanError::Holds { .. })));
        assert!(matches!(plan("b").prepare(&out, true), Err(PlanError::Holds { .. })));
        assert!(!plan("a").prepare(&out, true).unwrap());
        let later = ReplayPlan { to: "2026-01-03T00:00:00Z".into(), ..plan("a") };
        assert!(matches!(later.prepare(&out, true), Err(PlanError::Another { what: "span", .. })));
        assert!(plan("a").in_directory(&out).is_ok() && plan("b").in_directory(&out).is_err());
        ReplayPlan::forget(&out);
        assert!(!out.exists());
    }

    #[test]
    fn directory_with_something_else_is_refused_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("mine"), "x").unwrap();
        assert!(matches!(plan("a").prepare(dir.path(), true), Err(PlanError::NotEmpty { .. })));
        ReplayPlan::forget(dir.path());
        assert!(dir.path().join("mine").exists());
    }

    #[test]
    fn id_is_32_digits() {
        assert_eq!(parse_id(&"0f".repeat(16)), Some([0x0f; 16]));
        for wrong in ["", "0f", &"0F".repeat(16), &"0g".repeat(16), &"+f".repeat(16)] {
            assert_eq!(parse_id(wrong), None);
        }
    }
}

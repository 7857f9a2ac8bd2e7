//! A temporary directory with a configuration, plugins, data and destinations in it.
#![expect(
    clippy::expect_used,
    reason = "support of tests: what cannot be set up fails the test that wanted it"
)]

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::guest::Guest;

/// A free port, and small files.
const TABLES: &str = "[http]\nlisten = \"127.0.0.1:0\"\n[buffer]\njournal_file = \"1MiB\"\n";

/// The same configuration with plugins in processes of their own.
pub fn apart(text: &str) -> String {
    // A key of the top comes before any table.
    format!("#whole\nisolation = \"process\"\n{TABLES}{text}")
}

/// See the head of this file; removed when dropped.
pub struct Scratch {
    dir: tempfile::TempDir,
}

impl Scratch {
    /// With `text` as its configuration and an empty plugin directory. A `[http]` and a `[buffer]` table in front of
    /// it ask for a free port and small files; pass `text` that begins with `#whole` to have none.
    pub fn new(text: &str) -> Scratch {
        let scratch = Scratch { dir: tempfile::tempdir().expect("a temporary directory") };
        fs::create_dir(scratch.plugins()).expect("a plugin directory");
        scratch.configure(text);
        scratch
    }

    /// Writes another configuration.
    pub fn configure(&self, text: &str) {
        let tables = if text.starts_with("#whole") { "" } else { TABLES };
        fs::write(self.config(), format!("{tables}{text}")).expect("a configuration");
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub fn config(&self) -> PathBuf {
        self.path("wasmill.toml")
    }

    pub fn plugins(&self) -> PathBuf {
        self.path("plugins")
    }

    /// Objects of a destination whose path is `out`.
    pub fn out(&self) -> PathBuf {
        self.path("out")
    }

    /// Puts a plugin into the directory as a deployment does: written elsewhere, then renamed. Returns its digest.
    pub fn deploy(&self, name: &str, guest: &Guest) -> String {
        let wasm = guest.wasm();
        self.deploy_bytes(name, &wasm);
        wasmill_transform::Digest::of(&wasm).to_string()
    }

    /// The same with any bytes.
    pub fn deploy_bytes(&self, name: &str, bytes: &[u8]) {
        let part = self.plugins().join(format!(".{name}.part"));
        fs::write(&part, bytes).expect("a plugin file");
        fs::rename(&part, self.plugins().join(format!("{name}.wasm"))).expect("a plugin file");
    }

    /// Dead letters of a stream, in the order in which they were kept.
    pub fn letters(&self, stream: &str) -> Vec<Value> {
        let texts = letters(&self.path("data"), stream).into_iter().flat_map(fs::read_to_string);
        // A host that runs may be in the middle of its last line.
        let whole = |text: String| text.rfind('\n').map_or(String::new(), |end| text[..end].to_owned());
        let lines = texts.flat_map(|text| whole(text).lines().map(str::to_owned).collect::<Vec<_>>());
        lines.map(|line| serde_json::from_str(&line).expect("a letter")).collect()
    }
}

/// The files with the dead letters of a stream in a data directory, in their order; a letter a line.
pub fn letters(data: &Path, stream: &str) -> Vec<PathBuf> {
    let mut found = crate::objects::files(&data.join("dead-letters/default").join(stream));
    let name = |file: &PathBuf| file.file_name().map(|name| name.to_string_lossy().into_owned());
    found.retain(|file| {
        name(file).is_some_and(|name| name.starts_with("letters") && name.ends_with(".ndjson"))
    });
    // `letters.ndjson` before those with numbers.
    found.sort_by_key(|file| (file.as_os_str().len(), file.clone()));
    found
}

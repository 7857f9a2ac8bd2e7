//! Every example runs through the real program and comes to what its `expected.json` says.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking, and says why it skips"
)]

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        // What a person's own run of the example left is not part of it.
        if entry.file_type().unwrap().is_file() {
            std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

/// Lines of all objects below a directory.
fn delivered(dir: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            lines.extend(delivered(&path));
        } else {
            let bytes = std::fs::read(&path).unwrap();
            let mut text = Vec::new();
            wasmill_encode::decompress(wasmill_encode::Encoding::Zstd, &bytes, 1 << 30, &mut text).unwrap();
            lines.extend(String::from_utf8(text).unwrap().lines().map(str::to_owned));
        }
    }
    lines
}

#[test]
fn examples_run_to_what_they_promise() {
    let (Some(program), Some(plugins)) =
        (std::env::var_os("WASMILL_BIN"), std::env::var_os("WASMILL_PLUGINS"))
    else {
        println!("skipped: WASMILL_BIN and WASMILL_PLUGINS are not set; `cargo xtask test` sets both");
        return;
    };
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("examples");
    let mut found: Vec<PathBuf> = std::fs::read_dir(examples).unwrap().map(|e| e.unwrap().path()).collect();
    found.retain(|path| path.is_dir());
    assert!(!found.is_empty());
    for example in found {
        let name = example.file_name().unwrap().to_string_lossy().into_owned();
        assert!(example.join("README.md").is_file(), "{name} has no README.md");
        let expected = std::fs::read_to_string(example.join("expected.json"));
        let expected: Value = serde_json::from_str(&expected.expect(&name)).unwrap();
        let dir = tempfile::tempdir().unwrap();
        copy(&example, dir.path());
        copy(Path::new(&plugins), &dir.path().join("plugins"));
        // The second run finds everything read already.
        for _ in 0..2 {
            let ran =
                Command::new(&program).arg("run").arg(dir.path().join("wasmill.toml")).output().unwrap();
            assert!(ran.status.success(), "{name}: {}", String::from_utf8_lossy(&ran.stderr));
            let lines = delivered(&dir.path().join("out"));
            let rows: Vec<Value> = lines.iter().map(|line| serde_json::from_str(line).expect(line)).collect();
            let bots = rows.iter().filter(|row| row["class"] == "bot").count();
            let letters =
                dir.path().join("data/dead-letters/default").join(only_stream(&dir.path().join("out")));
            let letters = std::fs::read_to_string(letters.join("letters.ndjson")).unwrap_or_default();
            let records = std::fs::read_to_string(dir.path().join("access.log")).unwrap().lines().count();
            let letters = letters.lines().count();
            let seen = serde_json::json!({
                "records": records, "delivered": rows.len(), "dropped": records - rows.len() - letters,
                "dead_letters": letters, "bots": bots,
            });
            assert_eq!(seen, expected, "{name}");
        }
    }
}

fn only_stream(out: &Path) -> String {
    let names =
        std::fs::read_dir(out).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.into_iter().find(|name| !name.starts_with('.')).unwrap()
}

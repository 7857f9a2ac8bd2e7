//! The C SDK's own tests, compiled for this machine as an author's unit tests are: the semantics vectors through its
//! in-memory chunk, and what it does beyond them. With sanitizers where the compiler has them.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

use std::path::{Path, PathBuf};
use std::process::Command;

fn sdk() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../plugins/sdk/c")
}

fn sources(part: &str) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = std::fs::read_dir(sdk().join(part))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "c"))
        .collect();
    found.sort();
    assert!(!found.is_empty(), "no sources in {part}");
    found
}

fn compiler() -> Command {
    let mut command = Command::new(std::env::var_os("CC").unwrap_or_else(|| "cc".into()));
    command.args(["-std=gnu11", "-g", "-O1", "-Wall", "-Wextra", "-Werror"]);
    command
}

const SANITIZERS: [&str; 2] = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"];

/// Not every compiler has them.
fn has_sanitizers(dir: &Path) -> bool {
    let source = dir.join("probe.c");
    std::fs::write(&source, "int main(void) { return 0; }\n").unwrap();
    let built = compiler().args(SANITIZERS).arg(&source).arg("-o").arg(dir.join("probe")).output().unwrap();
    built.status.success()
}

fn run(test: &str, arguments: &[PathBuf]) -> String {
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("test");
    let mut command = compiler();
    if has_sanitizers(dir.path()) {
        command.args(SANITIZERS);
    }
    command.arg("-I").arg(sdk().join("include")).arg(sdk().join("tests").join(test));
    command.args(sources("src")).args(sources("test")).arg("-lm").arg("-o").arg(&program);
    let built = command.output().unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    let ran = Command::new(&program).args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&ran.stdout).into_owned();
    assert!(ran.status.success(), "{said}{}", String::from_utf8_lossy(&ran.stderr));
    said
}

#[test]
fn in_memory_chunk_of_c_does_what_the_vectors_say() {
    let vectors = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../wit/vectors.json");
    let parsed: serde_json::Value = serde_json::from_slice(&std::fs::read(&vectors).unwrap()).unwrap();
    let cases = parsed["cases"].as_array().unwrap().len();
    let said = run("vectors.c", &[vectors]);
    assert!(said.starts_with(&format!("{cases} cases, ")), "{said}");
}

#[test]
fn records_configs_numbers_and_memory_of_c_hold() {
    run("sdk.c", &[]);
}

#[test]
fn case_folders_of_c_mean_what_the_format_says() {
    run("cases.c", &[sdk().join("../conformance/format")]);
}

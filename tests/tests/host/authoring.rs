//! What authors type: `wasmill plugin pack`, `test` and `bench` over the real binary, on guests that need no toolchain.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use wasmill_tests::guest::Guest;
use wasmill_tests::program::binary;

/// A project with a manifest and cases, and no sources.
struct Author {
    dir: tempfile::TempDir,
    wasmill: PathBuf,
}

impl Author {
    fn new() -> Option<Author> {
        let author = Author { dir: tempfile::tempdir().unwrap(), wasmill: binary()? };
        author.write("p/manifest.json", r#"{"name":"p","version":"1.0.0","wit":"0.1.0"}"#);
        Some(author)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn case(&self, name: &str, files: &[(&str, &str)]) {
        self.write(&format!("p/cases/{name}/config.json"), "{}");
        files.iter().for_each(|(file, text)| self.write(&format!("p/cases/{name}/{file}"), text));
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(&self.wasmill);
        command.current_dir(self.dir.path()).arg("plugin").args(arguments).output().unwrap()
    }

    /// The component of a guest with the project's manifest.
    fn packed(&self, guest: &Guest) {
        self.write("bare.wasm", guest.wasm());
        drop(fs::remove_file(self.path("p.wasm")));
        let output = self.run(&["pack", "bare.wasm", "--project", "p", "--out", "p.wasm"]);
        assert!(output.status.success(), "{}", said(&output));
    }

    fn test(&self, more: &[&str]) -> (bool, String) {
        let output = self.run(&[&["test", "p", "--component", "p.wasm"], more].concat());
        (output.status.success(), said(&output))
    }
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap()
}

#[test]
fn cases_run_through_a_packed_component_and_one_that_is_broken_stops_no_other() {
    let Some(author) = Author::new() else { return };
    author.packed(&Guest::picky());
    author.case(
        "good",
        &[
            ("input.txt", "a\nd\ne\n"),
            ("expected.ndjson", "a\n"),
            ("dead-letters.ndjson", r#"{"offset":2,"reason_contains":"please"}"#),
        ],
    );
    author.case("wrong", &[("input.txt", "a\nx\n"), ("expected.ndjson", "a\nx\n")]);
    author.case("broken", &[("input.txt", ""), ("input.ndjson", ""), ("dead-leters.ndjson", "")]);
    let (good, text) = author.test(&[]);
    assert!(!good && text.contains("3 cases, 2 failed"), "{text}");
    assert!(text.contains("good") && text.contains("ok, 3 records, "), "{text}");
    assert!(text.contains("- x\n") && text.contains("  at "), "no difference, or no backtrace: {text}");
    assert!(text.contains("has input.ndjson and input.txt"), "{text}");
    let note = "note: \"dead-leters.ndjson\" means nothing in a case; did you mean \"dead-letters.ndjson\"?";
    assert!(text.contains(note), "{text}");
    let (good, text) = author.test(&["--case", "good"]);
    assert!(good && text.contains("1 case, 0 failed"), "{text}");
    let (good, text) = author.test(&["--case", "zzz"]);
    assert!(!good && text.contains("broken, good, wrong"), "{text}");
    let output = author.run(&["test", "p", "--component", "p.wasm", "--json"]);
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (json["failed"].as_u64(), json["cases"]["good"]["failure"].is_null()),
        (Some(2), true),
        "{json}"
    );
}

#[test]
fn blessing_writes_what_came_and_never_that_a_plugin_cannot_run() {
    let Some(author) = Author::new() else { return };
    author.packed(&Guest::picky());
    author.case("new", &[("input.txt", "a\ne\n")]);
    let part = "{\"offset\":0,\"reason_contains\":\"please\"}\n";
    author.case("part", &[("input.txt", "e\n"), ("dead-letters.ndjson", part)]);
    let (good, text) = author.test(&["--bless"]);
    assert!(good && text.contains("blessed"), "{text}");
    let cases = author.path("p/cases");
    assert_eq!(read(&cases.join("new/expected.ndjson")), "a\n");
    assert_eq!(read(&cases.join("new/dead-letters.ndjson")), "{\"offset\":1,\"reason\":\"no e, please\"}\n");
    assert_eq!(read(&cases.join("part/dead-letters.ndjson")), part, "what fitted was written anew");
    let fuel: Value = serde_json::from_str(&read(&cases.join("fuel.json"))).unwrap();
    assert!(fuel["new"].as_u64().unwrap() > 0 && fuel["part"].as_u64().unwrap() > 0, "{fuel}");
    assert!(author.test(&[]).0);
    // It traps on the empty chunk that every new version gets.
    author.packed(&Guest::trap_at_once());
    let (good, text) = author.test(&["--bless"]);
    assert!(!good && text.contains("no refusal of the config") && text.contains("  at "), "{text}");
    assert!(!cases.join("new/error.txt").exists() && cases.join("new/expected.ndjson").exists());
    // A refusal is one.
    author.packed(&Guest::unconfigurable());
    let (good, text) = author.test(&["--bless", "--case", "new"]);
    assert!(good, "{text}");
    assert_eq!(read(&cases.join("new/error.txt")), "I have had none\n");
    assert!(!cases.join("new/expected.ndjson").exists());
}

#[test]
fn bench_measures_what_passes_and_refuses_what_fails_every_record() {
    let Some(author) = Author::new() else { return };
    author.case("a", &[("input.txt", "a\nb\n"), ("expected.ndjson", "a\nb\n")]);
    author.packed(&Guest::pass(1));
    fs::copy(author.path("p.wasm"), author.path("before.wasm")).unwrap();
    author.packed(&Guest::picky());
    let bench = |more: &[&str]| {
        author.run(
            &[&["bench", "p", "--component", "p.wasm", "--records", "2000", "--rounds", "2"], more].concat(),
        )
    };
    let output = bench(&["--against", "before.wasm", "--json"]);
    let json: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", said(&output)));
    let fuel = |at: usize| json["versions"][at]["fuel_per_record"].as_u64().unwrap();
    assert!(fuel(0) > fuel(1), "{json}");
    assert_eq!((json["versions"][0]["passed"].as_u64(), json["records"].as_u64()), (Some(2000), Some(2000)));
    // Lines that are no objects have no field for the column face.
    let faces = json["faces"].as_array().unwrap();
    assert_eq!((faces.len(), faces[0]["face"].as_str()), (1, Some("bytes")), "{json}");
    assert!(faces[0]["ns_per_record"].as_f64().unwrap() > 0.0, "{json}");
    assert!(json["versions"][0]["times_byte_face"].as_f64().unwrap() > 0.0, "{json}");
    assert!(json["versions"][0]["times_column_face"].is_null(), "{json}");
    author.case("b", &[("input.ndjson", "{\"k\":1,\"n\":2}\n[]\n"), ("expected.ndjson", "")]);
    let text = said(&bench(&["--case", "b"]));
    for part in ["bare byte face: ", "bare column face, field \"k\": ", " times the bare column face"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    author.write("junk.wasm", "junk");
    let text = said(&bench(&["--against", "junk.wasm"]));
    assert!(text.contains("junk.wasm"), "{text}");
    author.packed(&Guest::reject_all());
    let output = bench(&["--case", "a"]);
    assert!(
        !output.status.success() && said(&output).contains("fails every record of case a"),
        "{}",
        said(&output)
    );
}

#[test]
fn manifest_that_a_host_would_not_take_is_refused_at_its_place_and_nothing_is_written() {
    let Some(author) = Author::new() else { return };
    author.write("bare.wasm", Guest::pass(1).wasm());
    for (manifest, wanted) in [
        ("{\n  \"name\": \"p\",\n  \"versoin\": \"1.0.0\"\n}", "line 3 column 11"),
        (r#"{"name":"../p","version":"1.0.0"}"#, "../p"),
        (r#"{"name":"p","name":"q","version":"1.0.0"}"#, "duplicate field"),
        (r#"{"name":"p","version":"one"}"#, "no semantic version"),
        (r#"{"name":"p","version":"1.0.0","wit":"9.9.9"}"#, "this host has 0.1.3"),
        (r#"{"name":"p","version":"1.0.0","config_schema":5}"#, "JSON Schema"),
        (
            r#"{"name":"p","version":"1.0.0","config_schema":{"type":"objekt"}}"#,
            "at /type: \"objekt\" is not",
        ),
        (r#"{"name":"p","version":"1.0.0","config_schema":"none.json"}"#, "none.json"),
        (r#"{"name":"p","version":"1.0.0","limits":{"output_bytes":0}}"#, "limits.output_bytes is 0"),
    ] {
        author.write("p/manifest.json", manifest);
        let output = author.run(&["pack", "bare.wasm", "--project", "p", "--out", "p.wasm"]);
        let text = said(&output);
        assert!(!output.status.success() && text.contains(wanted), "{manifest}: {text}");
        assert!(!author.path("p.wasm").exists(), "{manifest}");
    }
    author.write("p/manifest.json", r#"{"name":"p","version":"1.0.0"}"#);
    author.packed(&Guest::pass(1));
    fs::rename(author.path("p.wasm"), author.path("bare.wasm")).unwrap();
    let text = said(&author.run(&["pack", "bare.wasm", "--project", "p", "--out", "p.wasm"]));
    assert!(text.contains("has a manifest already"), "{text}");
    let text = said(&author.run(&["test", "nowhere"]));
    assert!(text.contains("is no directory"), "{text}");
    let text = said(&author.run(&["build", "p"]));
    assert!(text.contains("no sources of a language"), "{text}");
}

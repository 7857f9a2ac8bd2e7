//! Rules of the project that a compiler does not check: headers, lengths, which stage knows which, and that what the
//! prose names is there.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Most lines of a source file.
const LINES_MAX: usize = 600;
/// Files that are longer today. Take one out when it is cut; put none in.
const LONG_FILES: [&str; 0] = [];
/// Nobody reads these; a test of their own keeps them true.
const GENERATED: [&str; 2] =
    ["plugins/sdk/rust/src/bindings.rs", "plugins/sdk/rust/src/watermark_bindings.rs"];

/// What a stage may know of the others. The program itself, `host`, wires them and may know all.
const STAGES: [(&str, &[&str]); 15] = [
    ("author", &[]),
    ("buffer", &[]),
    ("cases", &["wasmill-chunk", "wasmill-transform"]),
    ("catalog", &["wasmill-transform"]),
    ("chunk", &[]),
    ("columnar", &[]),
    ("config", &[]),
    ("control", &["wasmill-tenant"]),
    ("deliver", &["wasmill-firehose"]),
    ("encode", &[]),
    ("firehose", &[]),
    ("ingest", &[]),
    ("state", &[]),
    ("tenant", &[]),
    ("transform", &["wasmill-chunk", "wasmill-state"]),
];

/// What a module of the program may know of the stages; `pipeline` may know all.
const MODULES: [(&str, &[&str]); 3] = [
    ("api", &["wasmill_control", "wasmill_encode", "wasmill_firehose", "wasmill_ingest", "wasmill_tenant"]),
    (
        "cli",
        &[
            "wasmill_access_log",
            "wasmill_author",
            "wasmill_cases",
            "wasmill_catalog",
            "wasmill_config",
            "wasmill_encode",
            "wasmill_tenant",
            "wasmill_transform",
        ],
    ),
    ("telemetry", &["wasmill_buffer", "wasmill_catalog", "wasmill_config", "wasmill_transform"]),
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// Files of the project whose name ends so, relative to its root; what is built or hidden is left out.
fn files(ending: &str) -> Vec<PathBuf> {
    fn walk(dir: &Path, ending: &str, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if name.starts_with('.') || name == "target" {
                continue;
            }
            if path.is_dir() {
                walk(&path, ending, found);
            } else if name.ends_with(ending) {
                found.push(path.strip_prefix(root()).unwrap().to_owned());
            }
        }
    }
    let mut found = Vec::new();
    walk(root(), ending, &mut found);
    found.sort();
    assert!(!found.is_empty(), "no {ending} below {}", root().display());
    found
}

fn read(file: &Path) -> String {
    fs::read_to_string(root().join(file)).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

/// Fails with every line of `wrong`.
fn none(what: &str, wrong: &[String]) {
    assert!(wrong.is_empty(), "{what}:\n{}", wrong.join("\n"));
}

#[test]
fn every_source_file_says_what_it_owns() {
    let headless = |file: &PathBuf| !read(file).starts_with("//!");
    let wrong: Vec<String> =
        files(".rs").iter().filter(|file| headless(file)).map(|file| file.display().to_string()).collect();
    none("files that do not begin with //!", &wrong);
}

#[test]
fn no_source_file_is_too_long() {
    let mut long = BTreeMap::new();
    for file in files(".rs") {
        let lines = read(&file).lines().count();
        if lines > LINES_MAX && !GENERATED.iter().any(|generated| file.ends_with(generated)) {
            long.insert(file.display().to_string(), lines);
        }
    }
    let wrong: Vec<String> = long
        .iter()
        .filter(|(file, _)| !LONG_FILES.contains(&file.as_str()))
        .map(|(file, lines)| format!("{file}: {lines} lines, the limit is {LINES_MAX}"))
        .collect();
    none("files to cut", &wrong);
    let shorter: Vec<String> =
        LONG_FILES.iter().filter(|file| !long.contains_key(**file)).map(|file| (*file).to_owned()).collect();
    none("files that are no longer too long: take them out of LONG_FILES", &shorter);
}

/// The keys of a table of a manifest.
fn keys(manifest: &str, table: &str) -> Vec<String> {
    let mut inside = false;
    let mut found = Vec::new();
    for line in manifest.lines() {
        let line = line.trim();
        if line.starts_with('[') {
            inside = line == format!("[{table}]");
        } else if inside && let Some(end) = line.find(['.', ' ', '=']) {
            found.push(line[..end].to_owned());
        }
    }
    found
}

#[test]
fn stages_know_no_other_stage() {
    let mut wrong = Vec::new();
    for (stage, allowed) in STAGES {
        let file = PathBuf::from("host").join(stage).join("Cargo.toml");
        let known = keys(&read(&file), "dependencies");
        assert!(!known.is_empty(), "{} has no dependencies?", file.display());
        for other in known.iter().filter(|name| name.starts_with("wasmill")) {
            if !allowed.contains(&other.as_str()) {
                wrong.push(format!("{stage} knows {other}"));
            }
        }
    }
    none("stages that know another", &wrong);
    let stages: Vec<String> = files("Cargo.toml")
        .iter()
        .filter_map(|file| file.strip_prefix("host").ok()?.parent()?.to_str().map(str::to_owned))
        .filter(|stage| !stage.is_empty())
        .collect();
    let listed: Vec<&str> = STAGES.iter().map(|(stage, _)| *stage).collect();
    assert_eq!(stages, listed, "a stage is not listed here");
}

/// `wasmill_*` crates that a file names.
fn crates(text: &str) -> Vec<&str> {
    let names = text.match_indices("wasmill_").map(|(at, _)| &text[at..]);
    let names = names.filter_map(|rest| rest.find("::").map(|end| &rest[..end]));
    names.filter(|name| name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')).collect()
}

#[test]
fn only_the_pipeline_wires_stages() {
    let mut wrong = Vec::new();
    for (module, allowed) in MODULES {
        let within = PathBuf::from("host/src").join(module);
        let sources: Vec<PathBuf> =
            files(".rs").into_iter().filter(|file| file.starts_with(&within)).collect();
        assert!(!sources.is_empty(), "no module {module}");
        for file in sources {
            let text = read(&file);
            let unknown = crates(&text).into_iter().filter(|name| !allowed.contains(name));
            wrong.extend(unknown.map(|name| format!("{}: {name}", file.display())));
        }
    }
    none("modules that reach into a stage", &wrong);
}

/// What is in `[text](target)` of a text, without anchors and places elsewhere.
fn links(text: &str) -> Vec<&str> {
    let targets = text.match_indices("](").filter_map(|(at, _)| text[at + 2..].split(')').next());
    let local = targets.filter(|target| !target.contains("://") && !target.starts_with('#'));
    local.map(|target| target.split('#').next().unwrap_or(target)).collect()
}

/// Paths that stand in backquotes and begin with a directory of the project.
fn paths(text: &str) -> Vec<&str> {
    let quoted = text.split('`').skip(1).step_by(2);
    let path = |text: &&str| {
        let known = ["fuzz/", "host/", "plugins/", "tests/", "wit/", "examples/", "docs/", "xtask/"];
        known.iter().any(|known| text.starts_with(known)) && !text.contains([' ', '*', '<', '{', '\n'])
    };
    quoted.filter(path).collect()
}

#[test]
fn what_the_prose_names_is_there() {
    let mut wrong = Vec::new();
    for file in files(".md") {
        let text = read(&file);
        let beside = root().join(&file).parent().unwrap().to_owned();
        for link in links(&text) {
            if !beside.join(link).exists() {
                wrong.push(format!("{}: the link {link} leads nowhere", file.display()));
            }
        }
        let top = ["README.md", "ARCHITECTURE.md"].contains(&file.to_string_lossy().as_ref());
        for path in paths(&text).into_iter().filter(|_| top) {
            if !root().join(path.trim_end_matches('/')).exists() {
                wrong.push(format!("{}: there is no {path}", file.display()));
            }
        }
    }
    none("names without a thing", &wrong);
}

/// Names of the tests in a source.
fn tests(text: &str) -> Vec<&str> {
    let mut lines = text.lines().map(str::trim);
    let mut found = Vec::new();
    while let Some(line) = lines.next() {
        if line == "#[test]" || line.starts_with("#[tokio::test") {
            let function = lines.by_ref().find_map(|line| line.split_once("fn ").map(|(_, rest)| rest));
            found.extend(function.and_then(|rest| rest.split(['(', '<']).next()));
        }
    }
    found
}

/// The cells of the rows of all tables of a text.
fn rows(text: &str) -> Vec<Vec<&str>> {
    let inside = text.lines().filter_map(|line| line.strip_prefix('|')?.strip_suffix('|'));
    inside.map(|row| row.split('|').map(str::trim).collect()).collect()
}

#[test]
fn every_cell_of_the_fault_matrix_has_its_row_and_tests_that_are_there() {
    let text = read(Path::new("docs/faults.md"));
    let sources: Vec<String> = files(".rs").iter().map(|file| read(file)).collect();
    let known: Vec<&str> = sources.iter().flat_map(|source| tests(source)).collect();
    let (mut cells, mut told, mut wrong) = (Vec::new(), Vec::new(), Vec::new());
    for row in rows(&text) {
        match row.as_slice() {
            [number, _, shown] if number.parse::<u32>().is_ok() => {
                told.push((*number).to_owned());
                let named: Vec<&str> = shown.split('`').skip(1).step_by(2).collect();
                if named.is_empty() && !["not yet", "nothing to show"].contains(shown) {
                    wrong.push(format!("{number}: {shown:?} names no test"));
                }
                let missing = named.iter().filter(|name| !known.contains(name));
                wrong.extend(missing.map(|name| format!("{number}: there is no test {name}")));
            }
            [_, stages @ ..] if stages.len() == 8 => {
                let numbers = stages.iter().filter(|cell| cell.parse::<u32>().is_ok());
                cells.extend(numbers.map(|cell| (*cell).to_owned()));
            }
            _ => {}
        }
    }
    assert!(cells.len() > 50 && told.len() > 30, "the tables are not found");
    wrong.extend(cells.iter().filter(|cell| !told.contains(cell)).map(|cell| format!("{cell} has no row")));
    wrong.extend(told.iter().filter(|row| !cells.contains(row)).map(|row| format!("{row} has no cell")));
    none("the fault matrix", &wrong);
}

#[test]
fn rules_of_this_file_find_what_they_look_for() {
    assert_eq!(
        keys(
            "[dependencies]\na.workspace = true\nb = { x = 1 }\n[dev-dependencies]\nc = 1\n",
            "dependencies"
        ),
        ["a", "b"]
    );
    assert_eq!(crates("use wasmill_buffer::Journal; \"wasmill_stream_total\""), ["wasmill_buffer"]);
    assert_eq!(links("[a](b.md#c) [d](https://e) [f](#g)"), ["b.md"]);
    assert_eq!(tests("#[test]\nfn a() {\n}\nfn b() {}\n#[tokio::test]\n    async fn c() {"), ["a", "c"]);
    assert_eq!(rows("a\n| b | c |\n"), [["b", "c"]]);
    assert_eq!(paths("`host/src` and `cargo run` and `tests/*`"), ["host/src"]);
}

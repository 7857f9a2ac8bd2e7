//! Files and objects that transforms are granted change while records flow: the tables of `join`, `enrich` and `sql`.
//!
//! Each record has the version of the table that it met, as the field `v`.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use wasmill::pipeline::StartError;
use wasmill_config::Settings;
use wasmill_tests::program::{Program, binary};
use wasmill_tests::running::Running;
use wasmill_tests::scratch::{Scratch, apart};
use wasmill_tests::servers::S3Server;
use wasmill_tests::wait::wait_until;
use wasmill_tests::{client, objects};
use wasmill_transform::Digest;

use crate::COMPILER;
use crate::s3::with_credentials;

const JOIN: &str = r#"
        plugin = "join"
        config = { table = { on = { k = "id" }, file = "table", into = "row" } }"#;
const ENRICH: &str = r#"
        plugin = "enrich"
        config = { lookups = [{ field = "k", table = { file = "table" }, copy = ["v"], otherwise = "fail" }] }"#;
const SQL: &str = r#"
        plugin = "sql"
        [streams.events.transforms.config]
        query = "SELECT b.n, t.v FROM batch AS b JOIN t ON t.id = b.k"
        columns = { n = "bigint", k = "text" }
        tables = { t = { file = "table", key = ["id"] } }"#;

const FILE: &str = r#"{ table = "tables/table.csv" }"#;

fn stream(files: &str, transform: &str) -> String {
    format!(
        r#"
        [streams.events]
        source = {{ type = "http" }}
        outputs = [{{ type = "directory", path = "out", interval = "50ms" }}]
        [[streams.events.transforms]]
        files = {files}
        {transform}
        "#
    )
}

fn scratch(config: &str) -> Option<Scratch> {
    let Some(plugins) = std::env::var_os("WASMILL_PLUGINS").map(PathBuf::from) else {
        println!("skipped: WASMILL_PLUGINS is not set; `cargo xtask test` sets it");
        return None;
    };
    let scratch = Scratch::new(config);
    for plugin in ["join.wasm", "enrich.wasm", "sql.wasm"] {
        // That of SQLite is not built where there is no clang.
        if plugins.join(plugin).exists() || plugin != "sql.wasm" {
            fs::copy(plugins.join(plugin), scratch.plugins().join(plugin)).unwrap();
        }
    }
    fs::create_dir(scratch.path("tables")).unwrap();
    Some(scratch)
}

/// A table whose rows all have this version, and how outcomes name it.
fn table(version: u64) -> (String, String) {
    let rows: String = (0..1000).map(|row| format!("{row},{version}\n")).collect();
    let text = format!("id,v\n{rows}");
    let named = format!("table={}", Digest::of(text.as_bytes()));
    (text, named)
}

/// As a deployment does: written elsewhere, then renamed.
fn deploy(scratch: &Scratch, text: &str) {
    fs::write(scratch.path("tables/part"), text).unwrap();
    fs::rename(scratch.path("tables/part"), scratch.path("tables/table.csv")).unwrap();
}

fn record(n: u64) -> String {
    format!("{{\"n\":{n},\"k\":\"{}\"}}\n", n % 1000)
}

/// Number of each record and version of its table, in order.
fn versions(out: &Path) -> Vec<(u64, u64)> {
    let lines = objects::lines(out);
    let mut found: Vec<(u64, u64)> = lines
        .iter()
        .map(|line| {
            let row: Value = serde_json::from_str(line).unwrap();
            let version = row.pointer("/row/v").unwrap_or(&row["v"]);
            (row["n"].as_u64().unwrap(), version.as_str().unwrap().parse().unwrap())
        })
        .collect();
    found.sort_unstable();
    found
}

/// Where records go in, and what came out of them.
struct Events<'a> {
    scratch: &'a Scratch,
    program: &'a Program,
    pushed: u64,
}

impl Events<'_> {
    fn push(&mut self) {
        self.push_some(10);
    }

    fn push_some(&mut self, count: u64) {
        let body: String = (self.pushed..self.pushed + count).map(record).collect();
        assert_eq!(client::push(self.program.address(), "events", &body).unwrap().status, 200);
        self.pushed += count;
    }

    fn delivered(&self) -> Vec<(u64, u64)> {
        wait_until("everything is delivered", || {
            objects::lines(&self.scratch.out()).len() as u64 == self.pushed
        });
        versions(&self.scratch.out())
    }

    /// Pushes until records have this version.
    fn until(&mut self, version: u64) {
        wait_until("the table is taken", || {
            self.push();
            versions(&self.scratch.out()).last().is_some_and(|(_, found)| *found == version)
        });
    }
}

/// What is said of the stream over HTTP.
fn asked(program: &Program) -> Value {
    client::get(program.address(), "/v1/streams").unwrap().json()[0].clone()
}

fn told(program: &Program, parts: &[&str]) {
    wait_until(parts[0], || program.log().iter().any(|line| parts.iter().all(|part| line.contains(part))));
}

#[test]
fn table_of_join_that_changes_takes_over_between_two_slices_and_outcomes_name_it() {
    table_takes_over(&stream(FILE, JOIN));
}

#[test]
fn table_of_enrich_that_changes_takes_over_between_two_slices_and_outcomes_name_it() {
    table_takes_over(&stream(FILE, ENRICH));
}

#[test]
fn table_of_sql_that_changes_takes_over_between_two_slices_and_outcomes_name_it() {
    let config = stream(FILE, SQL);
    let there = scratch(&config).is_none_or(|scratch| scratch.plugins().join("sql.wasm").exists());
    if there {
        table_takes_over(&config);
    }
}

#[test]
fn table_in_a_process_of_its_own_takes_over_between_two_slices() {
    table_takes_over(&apart(&stream(FILE, JOIN)));
}

fn table_takes_over(config: &str) {
    let (Some(binary), Some(scratch)) = (binary(), scratch(config)) else { return };
    let ((first, first_named), (second, second_named)) = (table(1), table(2));
    deploy(&scratch, &first);
    let program = Program::start(&binary, &scratch.config());
    let mut events = Events { scratch: &scratch, program: &program, pushed: 0 };
    for _ in 0..10 {
        events.push();
    }
    // What is stored may not have gone through yet; the new table would have it, too.
    events.delivered();
    deploy(&scratch, &second);
    while !program.says("plugins reloaded") {
        events.push();
    }
    for _ in 0..10 {
        events.push();
    }
    let found = events.delivered();
    let reloaded: Value = serde_json::from_str(&program.wait_for_log("plugins reloaded")).unwrap();
    let fields = reloaded.get("fields").unwrap_or(&reloaded);
    assert!(fields["plugins"].as_str().unwrap().contains(&second_named), "{reloaded}");
    let from = fields["from"].as_u64().unwrap();
    assert!((100..events.pushed).contains(&from), "{from} of {}", events.pushed);
    for (n, version) in found {
        assert_eq!(version, if n < from { 1 } else { 2 }, "record {n}, taken over from {from}");
    }
    let asked = asked(&program);
    let runs = asked["transforms"][0]["files"]["table"].as_str().unwrap_or_default().to_owned();
    assert_eq!(format!("table={runs}"), second_named, "{asked}");
    program.stop();
    for digest in [first_named, second_named] {
        assert!(objects::have(&scratch.path("data"), &digest), "no outcome has {digest}");
    }
}

#[test]
fn bad_table_is_refused_with_its_reason_and_a_mended_one_is_taken_wherever_it_comes_from() {
    let (Some(binary), Some(scratch)) = (binary(), scratch(&stream(FILE, JOIN))) else { return };
    deploy(&scratch, &table(1).0);
    let program = Program::start(&binary, &scratch.config());
    let mut events = Events { scratch: &scratch, program: &program, pushed: 0 };
    events.until(1);
    let refused = "changed file or model refused";
    deploy(&scratch, "id,v\n1,\"no end\n");
    told(&program, &[refused, "the quote is never closed"]);
    events.push();
    deploy(&scratch, "key,v\n1,2\n");
    told(&program, &[refused, "`id`"]);
    events.push();
    fs::remove_file(scratch.path("tables/table.csv")).unwrap();
    told(&program, &[refused, "No such file"]);
    events.push();
    assert!(events.delivered().iter().all(|(_, version)| *version == 1));
    assert_eq!(asked(&program)["reloads_refused"], 3);
    deploy(&scratch, &table(2).0);
    events.until(2);
    // The same once more is told once more.
    deploy(&scratch, "key,v\n1,2\n");
    wait_until("it is refused again", || asked(&program)["reloads_refused"] == 4);
    // In place, and bit by bit: it is read when it has rested.
    fs::write(scratch.path("tables/table.csv"), table(3).0).unwrap();
    events.until(3);
    // What was watched is gone with its name.
    fs::remove_dir_all(scratch.path("tables")).unwrap();
    fs::create_dir(scratch.path("tables")).unwrap();
    deploy(&scratch, &table(4).0);
    events.until(4);
    deploy(&scratch, &table(5).0);
    events.until(5);
    fs::rename(scratch.path("tables"), scratch.path("before")).unwrap();
    fs::create_dir(scratch.path("tables")).unwrap();
    deploy(&scratch, &table(6).0);
    events.until(6);
    events.delivered();
    assert!(scratch.letters("events").is_empty());
    program.stop();
}

#[test]
fn start_without_the_table_goes_on_with_the_one_that_ran_last() {
    let (Some(binary), Some(scratch)) = (binary(), scratch(&stream(FILE, JOIN))) else { return };
    let start = || Program::start(&binary, &scratch.config());
    let mut pushed = 0;
    for version in [1, 2] {
        deploy(&scratch, &table(version).0);
        let program = start();
        let mut events = Events { scratch: &scratch, program: &program, pushed };
        events.until(version);
        pushed = events.pushed;
        program.kill();
    }
    let kept = objects::files(&scratch.path("data/files"));
    assert_eq!(kept.len(), 2, "a copy of what runs, and a note: {kept:?}");
    for file in kept.iter().filter(|file| file.extension().is_some_and(|ending| ending == "file")) {
        let mode = fs::metadata(file).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{}: {mode:o}", file.display());
    }
    // Missing, and bad.
    for (version, bad) in [(3, None), (4, Some("id\n\""))] {
        fs::remove_file(scratch.path("tables/table.csv")).unwrap();
        bad.inspect(|text| deploy(&scratch, text));
        let program = start();
        program.wait_for_log("a granted file or model is bad or missing");
        let mut events = Events { scratch: &scratch, program: &program, pushed };
        events.push();
        let last = events.delivered().split_off(usize::try_from(pushed).unwrap());
        assert!(last.iter().all(|(_, found)| *found == version - 1), "{last:?}");
        // A good one is taken without a start.
        deploy(&scratch, &table(version).0);
        events.until(version);
        pushed = events.pushed;
        program.kill();
    }
    // Of another file, what ran last is no help.
    fs::remove_file(scratch.path("tables/table.csv")).unwrap();
    scratch.configure(&stream(r#"{ table = "tables/other.csv" }"#, JOIN));
    let told = unfit(&scratch);
    assert!(told.contains("granted file \"table\"") && told.contains("other.csv"), "{told}");
}

#[test]
fn check_tells_what_is_bad_and_with_which_kept_table_a_start_would_go_on() {
    let (Some(binary), Some(scratch)) = (binary(), scratch(&stream(FILE, JOIN))) else { return };
    let check = || {
        let mut command = Command::new(&binary);
        let done = command.arg("check").arg(scratch.config()).current_dir(scratch.dir()).output().unwrap();
        (done.status.code(), String::from_utf8_lossy(&done.stderr).into_owned())
    };
    // What never ran is kept nowhere.
    let (code, told) = check();
    assert!(code == Some(2) && told.contains("No such file") && !told.contains("would start"), "{told}");
    let (text, named) = table(1);
    deploy(&scratch, &text);
    let program = Program::start(&binary, &scratch.config());
    Events { scratch: &scratch, program: &program, pushed: 0 }.until(1);
    program.kill();
    assert_eq!(check().0, Some(0));
    let digest = named.strip_prefix("table=").unwrap();
    fs::remove_file(scratch.path("tables/table.csv")).unwrap();
    for (reason, bad) in [("No such file", None), ("the quote is never closed", Some("id,v\n1,\"no end\n"))] {
        bad.inspect(|text| deploy(&scratch, text));
        let (code, told) = check();
        assert_eq!(code, Some(2), "{told}");
        let instead = "`wasmill run` would start with what ran last, the file \"table\" as kept since 2";
        for part in [reason, instead, digest] {
            assert!(told.contains(part), "{part}: {told}");
        }
    }
    // Where a start would not go on either, nothing is promised.
    let broken = JOIN.replace("k = \"id\"", "k = \"none\"");
    scratch.configure(&stream(FILE, &broken));
    let (code, told) = check();
    assert!(code == Some(2) && !told.contains("would start"), "{told}");
}

#[test]
fn table_that_made_too_many_records_fail_is_not_what_a_start_falls_back_to() {
    let (Some(binary), Some(scratch)) = (binary(), scratch(&stream(FILE, ENRICH))) else { return };
    let (text, named) = table(1);
    deploy(&scratch, &text);
    let program = Program::start(&binary, &scratch.config());
    let mut events = Events { scratch: &scratch, program: &program, pushed: 0 };
    events.until(1);
    // Whole, and without a row for anybody.
    deploy(&scratch, "id,v\nnobody,9\n");
    program.wait_for_log("plugins reloaded");
    // At once: what failed before it was judged would stay failed.
    events.push_some(2000);
    assert!(events.delivered().iter().all(|(_, version)| *version == 1));
    let digest = named.strip_prefix("table=").unwrap();
    wait_until("it is noted", || ran_last(&scratch.path("data/files")) == digest);
    let pushed = events.pushed;
    program.kill();
    fs::remove_file(scratch.path("tables/table.csv")).unwrap();
    let program = Program::start(&binary, &scratch.config());
    program.wait_for_log("a granted file or model is bad or missing");
    let mut events = Events { scratch: &scratch, program: &program, pushed };
    events.push();
    assert!(events.delivered().iter().all(|(_, version)| *version == 1));
    program.stop();
}

/// What the one note of a data directory says of what ran last.
pub(crate) fn ran_last(directory: &Path) -> String {
    let notes = objects::files(directory);
    let note = notes.iter().find(|file| file.extension().is_some_and(|ending| ending == "last"));
    let text = note.and_then(|note| fs::read_to_string(note).ok()).unwrap_or_default();
    text.lines().next().unwrap_or_default().to_owned()
}

/// Why the host does not start.
fn unfit(scratch: &Scratch) -> String {
    match Running::try_start(&scratch.config(), COMPILER) {
        Err(StartError::Invalid(problems)) => {
            problems.iter().map(|problem| problem.message.as_str()).collect::<Vec<_>>().join("\n")
        }
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("it started"),
    }
}

/// A bucket `lake` with the table in it.
struct Lake {
    _dir: tempfile::TempDir,
    root: PathBuf,
}

impl Lake {
    fn new() -> Lake {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("s3");
        fs::create_dir_all(root.join("lake/tables")).unwrap();
        Lake { _dir: dir, root }
    }

    fn put(&self, version: u64) {
        let part = self.root.join("lake/.part");
        fs::write(&part, table(version).0).unwrap();
        fs::rename(part, self.root.join("lake/tables/users.csv")).unwrap();
    }
}

fn object(endpoint: &str) -> String {
    format!(
        r#"{{ table = {{ bucket = "lake", key = "tables/users.csv", endpoint = "{endpoint}", region = "us-east-1", path_style = true, every = "1s" }} }}"#
    )
}

#[test]
fn object_that_changes_is_taken_and_one_that_is_away_leaves_the_last() {
    with_credentials("granted::object_that_changes_is_taken_and_one_that_is_away_leaves_the_last", || {
        let lake = Lake::new();
        let server = S3Server::start(&lake.root);
        let (address, endpoint) = (server.address(), server.endpoint());
        let config = stream(&object(&endpoint), JOIN);
        let (Some(binary), Some(scratch)) = (binary(), scratch(&config)) else { return };
        // Of an object that was never there, what S3 says.
        let told = unfit(&scratch);
        for part in ["granted file \"table\"", "s3://lake/tables/users.csv", "there is no such object"] {
            assert!(told.contains(part), "{part}: {told}");
        }
        lake.put(1);
        let program = Program::start(&binary, &scratch.config());
        let mut events = Events { scratch: &scratch, program: &program, pushed: 0 };
        events.until(1);
        lake.put(2);
        events.until(2);
        assert_eq!(program.log().iter().filter(|line| line.contains("plugins reloaded")).count(), 1);
        drop(server);
        self::told(&program, &["granted object cannot be read", "s3://lake/tables/users.csv"]);
        events.push();
        assert_eq!(events.delivered().last().unwrap().1, 2);
        let pushed = events.pushed;
        program.kill();
        // And nothing of it is there at a start, either.
        let program = Program::start(&binary, &scratch.config());
        let mut events = Events { scratch: &scratch, program: &program, pushed };
        events.push();
        assert_eq!(events.delivered().last().unwrap().1, 2);
        lake.put(3);
        let _server = S3Server::start_at(&lake.root, address);
        events.until(3);
        program.wait_for_log("granted object can be read again");
        assert_eq!(objects::files(&scratch.path("data/objects")).len(), 1, "one copy, and no part");
        program.stop();
    });
}

#[test]
fn object_of_a_tenant_is_one_that_its_policy_names() {
    with_credentials("granted::object_of_a_tenant_is_one_that_its_policy_names", || {
        let lake = Lake::new();
        let server = S3Server::start(&lake.root);
        lake.put(1);
        let named = object(&server.endpoint());
        let config = |grants: &str, files: &str| {
            let streams = stream(files, JOIN).replace("streams.events", "tenants.acme.streams.events");
            format!("[tenants.acme.grants]\n{grants}\n{streams}")
        };
        let Some(scratch) = scratch(&config("", &named)) else { return };
        fs::create_dir(scratch.plugins().join("acme")).unwrap();
        fs::copy(scratch.plugins().join("join.wasm"), scratch.plugins().join("acme/join.wasm")).unwrap();
        for files in [named.as_str(), r#"{ table = "s3://lake/tables/users.csv" }"#, r#"{ table = "users" }"#]
        {
            scratch.configure(&config("", files));
            let told = Settings::load(&scratch.config()).unwrap_err().to_string();
            assert!(told.contains("not granted") && told.contains("grants none"), "{files}: {told}");
        }
        let mut granted = config(&format!("state = true\nfiles = {named}"), r#"{ table = "table" }"#);
        granted = granted.replace(r#"type = "http""#, r#"type = "file", paths = ["in.ndjson"]"#);
        scratch.configure(&granted);
        fs::write(scratch.path("in.ndjson"), record(0)).unwrap();
        let host = Running::start(&scratch.config(), COMPILER);
        host.ended();
        host.drain();
        assert_eq!(versions(&scratch.out()), [(0, 1)]);
        let copies = objects::files(&scratch.path("data/tenants/acme/objects"));
        assert_eq!(copies.len(), 1, "{copies:?}");
    });
}

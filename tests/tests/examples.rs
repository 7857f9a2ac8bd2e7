//! Every example runs through the real program and comes to what its `expected.json` says.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking, and says why it skips"
)]

use std::collections::{BTreeMap, HashMap};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use wasmill_tests::program::Program;
use wasmill_tests::servers::S3Server;
use wasmill_tests::{access_log, objects};

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
    // What is not a configuration that runs to its end has a test of its own here.
    let (found, others): (Vec<PathBuf>, Vec<PathBuf>) =
        found.into_iter().partition(|path| path.join("expected.json").is_file());
    assert!(!found.is_empty());
    let mut others: Vec<_> = others.iter().map(|path| path.file_name().unwrap().to_str().unwrap()).collect();
    others.sort_unstable();
    let tested = ["firehose-migration", "fraud", "log-analytics", "predictive-maintenance"];
    assert_eq!(others, tested, "an example that nobody runs");
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

#[test]
fn stream_of_firehose_moves_here_by_the_script_of_its_example() {
    let (Some(program), Some(plugins), Some(packages)) = (
        wasmill_tests::program::binary(),
        std::env::var_os("WASMILL_PLUGINS"),
        std::env::var_os("WASMILL_READERS"),
    ) else {
        println!("skipped: WASMILL_PLUGINS or WASMILL_READERS is not set; `cargo xtask test` sets both");
        return;
    };
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("examples/firehose-migration");
    let (dir, lake) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    copy(&example, dir.path());
    copy(Path::new(&plugins), &dir.path().join("plugins"));
    for bucket in ["clickstream-lake", "clickstream-raw"] {
        std::fs::create_dir_all(lake.path().join(bucket)).unwrap();
    }
    let server = S3Server::start(lake.path());
    let config = dir.path().join("wasmill.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    let here =
        text.replace("http://127.0.0.1:9000", &server.endpoint()).replace("127.0.0.1:7070", "127.0.0.1:0");
    std::fs::write(&config, here).unwrap();
    let key = Command::new(&program)
        .args(["key", "create", "--operator", "--config"])
        .arg(&config)
        .output()
        .unwrap();
    assert!(key.status.success(), "{}", String::from_utf8_lossy(&key.stderr));
    let mut command = Command::new(&program);
    command.args(["run", "--log-format", "json"]).arg(&config);
    command.env("AWS_ACCESS_KEY_ID", S3Server::ACCESS_KEY);
    command.env("AWS_SECRET_ACCESS_KEY", S3Server::SECRET_KEY);
    command.env("AWS_EC2_METADATA_DISABLED", "true");
    let host = Program::spawn(&mut command);
    let ran = Command::new("sh")
        .arg(dir.path().join("migrate.sh"))
        .env("WASMILL", &program)
        .env("AWS", "python3 -m awscli")
        .env("PYTHONPATH", &packages)
        .env("HOST", format!("http://{}", host.address()))
        .env("WASMILL_KEY", String::from_utf8(key.stdout).unwrap().trim())
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .output()
        .unwrap();
    let (out, told) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    assert!(ran.status.success(), "{out}{told}{:#?}", host.log());
    assert!(out.contains("\"FailedPutCount\": 0"), "{out}");
    for left in ["KMSEncryptionConfig", "RoleARN", "CloudWatchLoggingOptions", "Lambda arn:"] {
        assert!(told.contains(&format!("not carried over: {left}")), "{left}: {told}");
    }
    // What is gathered is delivered at the end.
    host.stop();
    let mut seen: Vec<(String, usize)> = texts(&lake.path().join("clickstream-lake"))
        .into_iter()
        .map(|(name, text)| (name.split('/').take(2).collect::<Vec<_>>().join("/"), text.lines().count()))
        .collect();
    seen.sort();
    let expected = [
        ("clicks-errors/metadata-extraction-failed", 1),
        ("clicks/customer=acme", 2),
        ("clicks/customer=blue", 1),
    ];
    assert_eq!(seen, expected.map(|(name, lines)| (name.to_owned(), lines)));
    let put = std::fs::read_to_string(example.join("records.json")).unwrap();
    let put: Value = serde_json::from_str(&put).unwrap();
    let put: String = put.as_array().unwrap().iter().map(|record| record["Data"].as_str().unwrap()).collect();
    let backed_up = texts(&lake.path().join("clickstream-raw"));
    assert_eq!(backed_up.into_iter().map(|(_, text)| text).collect::<Vec<_>>(), [put]);
}

/// Objects of a bucket, unpacked, by their names.
fn texts(bucket: &Path) -> Vec<(String, String)> {
    let files = objects::files(bucket).into_iter();
    // What the server keeps beside them begins with a dot.
    let objects = files.filter(|file| !file.file_name().unwrap().to_string_lossy().starts_with('.'));
    objects
        .map(|object| {
            let name = object.strip_prefix(bucket).unwrap().to_str().unwrap().to_owned();
            let bytes = std::fs::read(&object).unwrap();
            let mut text = String::new();
            match name.ends_with(".gz") {
                true => flate2::read::GzDecoder::new(&bytes[..]).read_to_string(&mut text).unwrap(),
                false => (&bytes[..]).read_to_string(&mut text).unwrap(),
            };
            (name, text)
        })
        .collect()
}

const READERS: &str = "WASMILL_READERS";
const TRAINERS: &str = "WASMILL_TRAINERS";

/// An example with a script `run.sh`, once it has run.
struct Ran {
    dir: tempfile::TempDir,
    said: String,
}

impl Ran {
    /// Runs it with these plugins, the packages of Python that this variable names, and what it takes of the data beside the
    /// checkout; `None`, with the reason said, where something is missing.
    fn script(example: &str, names: &[&str], packages: &str, data: Option<&Path>) -> Option<Ran> {
        let (Some(program), Some(plugins), Some(packages)) = (
            wasmill_tests::program::binary(),
            std::env::var_os("WASMILL_PLUGINS"),
            std::env::var_os(packages),
        ) else {
            println!("skipped: WASMILL_PLUGINS or {packages} is not set; `cargo xtask test` sets both");
            return None;
        };
        if let Some(data) = data.filter(|data| !data.exists()) {
            println!("skipped: no {}", data.display());
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        copy(&path_of(example), dir.path());
        std::fs::create_dir(dir.path().join("plugins")).unwrap();
        for name in names {
            let file = format!("{name}.wasm");
            std::fs::copy(Path::new(&plugins).join(&file), dir.path().join("plugins").join(&file)).unwrap();
        }
        let ran = Command::new("sh")
            .arg(dir.path().join("run.sh"))
            .args(data.map(|data| std::fs::canonicalize(data).unwrap()))
            .env("WASMILL", &program)
            .env("PORT", "0")
            .env("LISTEN", "127.0.0.1:0")
            .env("DEADLINE", "60s")
            .env("PYTHONPATH", &packages)
            .output()
            .unwrap();
        let said = String::from_utf8(ran.stdout).unwrap();
        assert!(ran.status.success(), "{said}{}", String::from_utf8_lossy(&ran.stderr));
        Some(Ran { dir, said })
    }

    /// Records of a file that it wrote.
    fn records(&self, file: &str) -> Vec<Value> {
        let text = std::fs::read_to_string(self.dir.path().join(file)).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Records of its output `out`.
    fn delivered(&self) -> Vec<Value> {
        let lines = objects::lines(&self.dir.path().join("out"));
        lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The line that begins so, in words.
    fn words(&self, start: &str) -> Vec<&str> {
        let line = self.said.lines().map(str::trim).find(|line| line.starts_with(start));
        line.unwrap_or_else(|| panic!("no {start:?} in {}", self.said)).split_whitespace().collect()
    }

    fn letters(&self, stream: &str) -> Vec<PathBuf> {
        let mut files = wasmill_tests::scratch::letters(&self.dir.path().join("data"), stream);
        files.retain(|file| std::fs::metadata(file).unwrap().len() > 0);
        files
    }

    /// Rows of a query of DuckDB in its directory.
    fn query(&self, packages: &str, sql: &str) -> Vec<Value> {
        const PROGRAM: &str = "
import duckdb, json, sys
duckdb.sql(\"SET TimeZone = 'UTC'\")
found = duckdb.sql(sys.argv[1])
print(json.dumps([dict(zip(found.columns, row)) for row in found.fetchall()]))
";
        let mut python = Command::new("python3");
        python.args(["-c", PROGRAM, sql]).current_dir(self.dir.path());
        let output = python.env("PYTHONPATH", std::env::var_os(packages).unwrap()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// The picture of the README is the one that was made.
    fn made(&self, example: &str, picture: &str) {
        let made = std::fs::read_to_string(self.dir.path().join(picture)).unwrap();
        let shown = std::fs::read_to_string(path_of(example).join(picture)).unwrap_or_default();
        assert!(made == shown, "{picture} of {example} is not what its script makes: run it, and look at it");
    }
}

fn path_of(example: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("examples").join(example)
}

/// Requests of a page and class in a minute: how many, and how large the answers were that say so.
#[derive(Default)]
struct Requests {
    count: u64,
    sizes: Vec<f64>,
}

/// What a page is, as a few lines of code say: no picture, style, script or font.
fn is_page(path: &str) -> bool {
    let path = path.to_lowercase();
    let endings = [".png", ".jpg", ".jpeg", ".gif", ".svg", ".ico", ".css", ".js", ".ttf", ".woff"];
    !endings.iter().any(|ending| {
        let mut behind = path.match_indices(ending).map(|(at, _)| path.as_bytes().get(at + ending.len()));
        behind.any(|next| matches!(next, None | Some(b'?')))
    })
}

/// The table `pages` holds for each minute, page and class what the log says.
fn pages_are_those_of_the_log(ran: &Ran, log: &str) {
    let mut expected = BTreeMap::<(String, String, String), Requests>::new();
    for line in log.lines() {
        let (head, rest) = line.split_once("] \"").unwrap();
        let (request, behind) = rest.split_once("\" ").unwrap();
        let path = request.split(' ').nth(1).unwrap();
        if !is_page(path) {
            continue;
        }
        let mut behind = behind.split(' ');
        let class = format!("{}xx", &behind.next().unwrap()[..1]);
        let minute = head.split_once('[').unwrap().1[..17].to_owned();
        let page = path.split('?').next().unwrap().to_owned();
        let requests = expected.entry((minute, page, class)).or_default();
        requests.count += 1;
        requests.sizes.extend(behind.next().unwrap().parse::<f64>().ok());
    }
    let rows = ran.query(
        READERS,
        "SELECT strftime(window_start, '%d/%b/%Y:%H:%M') AS minute, date_diff('second', window_start, window_end) AS seconds, page,
            class, hits, error_rate, bytes, sizes FROM 'out/pages/*.parquet'",
    );
    assert!(expected.len() > 2000, "{}", expected.len());
    assert_eq!(rows.len(), expected.len());
    for row in rows {
        let text = |field: &str| row[field].as_str().unwrap().to_owned();
        let of = (text("minute"), text("page"), text("class"));
        // Each once: what was found is gone.
        let Some(Requests { count, mut sizes }) = expected.remove(&of) else {
            panic!("not in the log: {row}")
        };
        let is_error = of.2.as_str() >= "4xx";
        let facts = (row["seconds"].as_u64(), row["hits"].as_u64(), row["error_rate"].as_f64());
        assert_eq!(facts, (Some(60), Some(count), Some(f64::from(u8::from(is_error)))), "{row}");
        if sizes.is_empty() {
            assert_eq!(
                (&row["bytes"], &row["sizes"]),
                (&Value::Null, &Value::from(vec![Value::Null; 3])),
                "{row}"
            );
            continue;
        }
        assert_eq!(row["bytes"].as_f64(), Some(sizes.iter().sum()), "{row}");
        sizes.sort_by(f64::total_cmp);
        let quantiles: Vec<f64> =
            row["sizes"].as_array().unwrap().iter().map(|size| size.as_f64().unwrap()).collect();
        assert_eq!(quantiles.len(), 3, "{row}");
        for (q, found) in [0.5, 0.95, 0.99].into_iter().zip(quantiles) {
            let exact = sizes[(q * (sizes.len() - 1) as f64).floor() as usize];
            assert!((found - exact).abs() <= 0.01 * exact * (1.0 + 1e-9), "{found} for {exact}: {row}");
        }
    }
}

#[test]
fn access_log_becomes_tables_of_which_the_report_is_true() {
    const EXAMPLE: &str = "log-analytics";
    const PLUGINS: [&str; 6] = ["anomaly", "derive", "features", "filter", "parse", "window"];
    let Some(ran) = Ran::script(EXAMPLE, &PLUGINS, READERS, Some(&access_log::path())) else { return };
    // What a few lines of code make of the log.
    let log = String::from_utf8_lossy(&std::fs::read(access_log::path()).unwrap()).into_owned();
    let (mut errors, mut clients) = (BTreeMap::new(), HashMap::new());
    let mut bytes = 0_u64;
    for line in log.lines() {
        let (head, rest) = line.split_once("] \"").unwrap();
        let mut behind = rest.split_once("\" ").unwrap().1.split(' ');
        let is_error = behind.next().unwrap() >= "400";
        bytes += behind.next().unwrap().parse().unwrap_or(0);
        let time = head.split_once('[').unwrap().1;
        *errors.entry(&time[..17]).or_insert(0_u64) += u64::from(is_error);
        *clients.entry(line.split(' ').next().unwrap()).or_insert(0_u64) += 1;
    }
    let all: u64 = errors.values().sum();
    let total = ran.words("10000");
    let expected = [access_log::LINES as u64, errors.len() as u64, all].map(|number| number.to_string());
    assert_eq!((&total[..3], total[5]), (&expected.each_ref().map(String::as_str)[..], &*bytes.to_string()));
    for stream in ["minutes", "pages"] {
        assert!(ran.letters(stream).is_empty(), "{stream} has dead letters");
    }
    pages_are_those_of_the_log(&ran, &log);
    // Who asked most: counts of the five best of each minute are below the truth, and not far.
    let talkers = ran.said.split("Who asked most").nth(1).unwrap().lines().skip(2).take(5);
    for talker in talkers {
        let (client, count) = talker.trim().split_once(' ').unwrap();
        let (count, truth): (u64, u64) = (count.trim().parse().unwrap(), clients[client]);
        assert!(count <= truth && count * 4 > truth, "{client} asked {truth} times, not {count}");
    }
    // The minute with most errors is unusual.
    let worst = errors.iter().max_by_key(|(_, count)| **count).unwrap();
    assert_eq!(worst, (&"20/May/2015:09:05", &15));
    assert_eq!(ran.words("2015-05-20 09:05")[2..4], ["errors", "15"]);
    ran.made(EXAMPLE, "report.svg");
}

/// The labelled windows of the machine's temperature; the last ends in its failure.
const LABELLED: [(&str, &str); 4] = [
    ("2013-12-10T06:25", "2013-12-12T05:35"),
    ("2013-12-15T17:50", "2013-12-17T17:00"),
    ("2014-01-27T14:20", "2014-01-29T13:30"),
    ("2014-02-07T14:55", "2014-02-09T14:05"),
];

#[test]
fn machine_that_will_fail_is_announced_to_the_webhook() {
    const EXAMPLE: &str = "predictive-maintenance/machine-temperature";
    let data = access_log::path().with_file_name("machine-temperature.csv");
    const PLUGINS: [&str; 4] = ["alarm", "anomaly", "derive", "parse"];
    let Some(ran) = Ran::script(EXAMPLE, &PLUGINS, READERS, Some(&data)) else { return };
    assert!(ran.letters("machine").is_empty());
    assert_eq!(objects::lines(&ran.dir.path().join("out")).len(), 22_695);
    let notices = ran.records("notices.ndjson");
    // Each alarm: told when it fires, each day that it goes on, and when it ends.
    let mut alarms: Vec<&str> = Vec::new();
    let mut open: Option<(&str, u64)> = None;
    for notice in &notices {
        let key = notice["dedup_key"].as_str().unwrap();
        let (before, number) = (open.take(), notice["notice"].as_u64().unwrap());
        assert_eq!(before.map_or(1, |(_, number)| number + 1), number, "{notice}");
        assert!(before.is_none_or(|(open, _)| open == key), "{notice}");
        if number == 1 {
            alarms.push(notice["at"].as_str().unwrap());
        }
        match notice["status"].as_str() {
            Some("firing") => open = Some((key, number)),
            Some("resolved") if number > 1 => {}
            _ => panic!("{notice}"),
        }
    }
    let within = |alarm: &&str, window: &(&str, &str)| (window.0..=window.1).contains(&&alarm[..16]);
    let hit = LABELLED.map(|window| alarms.iter().any(|alarm| within(alarm, &window)));
    let is_false = |alarm: &&&str| !LABELLED.iter().any(|window| within(alarm, window));
    let false_alarms = alarms.iter().filter(is_false).count();
    println!("{alarms:?}: windows {hit:?}, false alarms {false_alarms}");
    assert!(hit[3], "the failure is not announced: {alarms:?}");
    assert!(hit.iter().filter(|hit| **hit).count() >= 3, "{alarms:?}");
    assert!(false_alarms <= 5, "{alarms:?}");
    ran.made(EXAMPLE, "picture.svg");
}

#[test]
fn engines_are_told_how_many_flights_they_have_left() {
    const EXAMPLE: &str = "predictive-maintenance/engines";
    const PLUGINS: [&str; 5] = ["alarm", "derive", "parse", "rolling", "score"];
    let data = access_log::path().with_file_name("cmapss");
    let Some(ran) = Ran::script(EXAMPLE, &PLUGINS, TRAINERS, Some(&data)) else { return };
    assert!(ran.letters("engines").is_empty());
    let number = |record: &Value, field: &str| record[field].as_f64().unwrap();
    let flights = ran.delivered();
    assert_eq!(flights.len(), 13_096);
    let mut last: BTreeMap<u64, &Value> = BTreeMap::new();
    let mut fired: Vec<u64> = Vec::new();
    for flight in &flights {
        let unit = flight["unit"].as_u64().unwrap();
        let known = last.entry(unit).or_insert(flight);
        if number(known, "cycle") < number(flight, "cycle") {
            *known = flight;
        }
        match flight["state"].as_str() {
            Some("firing") => fired.push(unit),
            _ => assert!(number(flight, "life") >= 30.0, "no alarm: {flight}"),
        }
    }
    // As published: of each engine how many flights it had left, 100 of them, none capped.
    let left = std::fs::read_to_string(data.join("RUL_FD001.txt")).unwrap();
    let left: Vec<f64> = left.split_whitespace().map(|line| line.parse().unwrap()).collect();
    assert_eq!((left.len(), last.len()), (100, 100));
    let missed = last.values().zip(&left).map(|(flight, left)| (number(flight, "life") - left).powi(2));
    let rmse = (missed.sum::<f64>() / 100.0).sqrt();
    println!("RMSE {rmse:.2}");
    assert!(rmse <= 20.0, "{rmse}");
    // Whose alarm ever fired, the webhook has heard of it.
    let notices = ran.records("notices.ndjson");
    let firing = notices.iter().filter(|notice| notice["status"] == "firing");
    let mut told: Vec<u64> = firing.map(|notice| notice["unit"].as_u64().unwrap()).collect();
    for units in [&mut fired, &mut told] {
        units.sort_unstable();
        units.dedup();
    }
    assert_eq!(fired, told);
    assert!(notices.iter().all(|notice| notice["status"] != "firing" || number(notice, "life") < 30.0));
    assert_eq!(ran.words("RMSE")[5], format!("{rmse:.1}"));
    assert!(ran.dir.path().join("picture.svg").is_file());
}

#[test]
fn payments_are_answered_as_they_are_delivered_and_fraud_is_blocked() {
    const PLUGINS: [&str; 4] = ["alarm", "derive", "rolling", "score"];
    let Some(ran) = Ran::script("fraud", &PLUGINS, TRAINERS, None) else { return };
    assert!(ran.letters("payments").is_empty());
    let asked = ran.words("asked")[1].trim_end_matches(',').parse::<usize>().unwrap();
    let id = |record: &Value| record["id"].as_u64().unwrap();
    // Every answer is what was delivered, field by field.
    let delivered: BTreeMap<u64, Value> =
        ran.delivered().into_iter().map(|record| (id(&record), record)).collect();
    let mut answered = BTreeMap::new();
    for answer in ran.records("answers.ndjson") {
        assert_eq!(answer["verdict"], "kept", "{answer}");
        let rows = answer["rows"].as_array().unwrap().iter().filter(|row| row["output"] != "webhook");
        answered.extend(rows.map(|row| (id(&row["record"]), row["record"].clone())));
    }
    assert_eq!((delivered.len(), answered.len()), (asked, asked));
    assert!(delivered == answered, "an answer is not what was delivered");
    // Neither is in what the model was made of.
    let fraud = ran.records("fraud.json").remove(0);
    let is_fraud = |number: &u64| fraud.get(number.to_string()).is_some();
    let blocked: Vec<&Value> = delivered.values().filter(|record| record["answer"] == "block").collect();
    let hits = blocked.iter().filter(|record| is_fraud(&id(record))).count();
    let there = delivered.keys().filter(|number| is_fraud(number)).count();
    println!("fraud {there}, blocked {}, of them fraud {hits}", blocked.len());
    assert!(hits * 2 >= there, "less than half of the fraud is blocked");
    assert!(hits * 10 >= blocked.len() * 7, "more than three of ten blocked payments are genuine");
    let notices = ran.records("notices.ndjson");
    let card = |record: &Value| record["card"].as_str().unwrap().to_owned();
    let mut told: Vec<String> = notices.iter().map(card).collect();
    let mut known: Vec<String> = blocked.iter().map(|record| card(record)).collect();
    for cards in [&mut told, &mut known] {
        cards.sort_unstable();
        cards.dedup();
    }
    assert_eq!(told, known);
    assert!(ran.dir.path().join("report.svg").is_file());
}

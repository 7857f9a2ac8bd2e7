//! Every fixed bound of the host, as the sources say it: `docs/limits.md` is made of them (`BLESS=1` writes it anew), and
//! rows of the tables in `SECURITY.md` say the same numbers.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

/// What runs on the machine of who calls it, and what only tests have.
const NOT_OF_A_HOST: [&str; 5] =
    ["host/author/", "host/cases/", "host/src/cli/", "host/src/pipeline/simulation/", "/tests/"];

/// Bounds whose names do not end as others do.
const NAMED_OTHERWISE: [(&str, &str); 13] = [
    ("host/catalog/src/known.rs", "VERSIONS_KEPT"),
    ("host/control/src/audit.rs", "REFUSALS_BURST"),
    ("host/control/src/audit.rs", "REFUSALS_PER_SECOND"),
    ("host/control/src/definitions.rs", "VERSIONS_KEPT"),
    ("host/src/api/access/mod.rs", "VERIFIED_AT_A_TIME"),
    ("host/src/api/access/mod.rs", "WAIT_FOR_IT"),
    ("host/src/api/access/key_set.rs", "ASK_EVERY"),
    ("host/src/pipeline/usage/store.rs", "DAYS_KEPT"),
    ("host/src/pipeline/usage/store.rs", "MINUTES_KEPT_H"),
    ("host/tenant/src/failures.rs", "BURST"),
    ("host/tenant/src/failures.rs", "PER_SECOND"),
    ("host/tenant/src/failures.rs", "SHARED_BURST"),
    ("host/tenant/src/failures.rs", "SHARED_PER_SECOND"),
];

/// How a row of `SECURITY.md` begins, and the constants whose values it says, by their files.
type Row = (&'static str, &'static [(&'static str, &'static [&'static str])]);

const ROWS: &[Row] = &[
    (
        "a chunk where a plugin asks",
        &[("transform/src/limits", &["SLICE_CHUNK_BYTES_MAX", "SLICE_CHUNK_ROWS_MAX"])],
    ),
    (
        "requests at once; of a call",
        &[("transform/src/limits", &["HTTP_PER_CALL_MAX", "HTTP_PER_PROCESS_MAX"])],
    ),
    ("requests on their way", &[("deliver/src/http/share", &["REQUESTS_MAX", "ALL_REQUESTS_MAX"])]),
    (
        "names looked up at a time",
        &[("deliver/src/http/share", &["LOOK_UPS_MAX"]), ("src/pipeline/network", &["LOOK_UPS_MAX"])],
    ),
    ("transforms of a chain that may ask", &[("transform/src/limits", &["WAITING_CHAIN_MAX"])]),
    (
        "URLs and headers at once",
        &[
            ("transform/src/limits", &["HTTP_HEADS_BYTES_MAX"]),
            ("deliver/src/http/caller", &["HEAD_BYTES_MAX", "HEADERS_MAX"]),
        ],
    ),
    (
        "answer: headers",
        &[("deliver/src/http/caller", &["ANSWER_HEADERS_MAX", "ANSWER_HEAD_BYTES_MAX", "ANSWER_BYTES_MAX"])],
    ),
    ("tenants that have such threads", &[("src/pipeline/workers/waiting", &["TENANTS_MAX"])]),
    ("hosts of a transform", &[("config/src/network", &["HOSTS_MAX"])]),
    ("log lines of an instance", &[("transform/src/limits", &["LOG_MESSAGE_BYTES_MAX"])]),
    ("bytes to stdout and stderr", &[("transform/src/limits", &["STDIO_BYTES_MAX"])]),
    ("handles at a time", &[("transform/src/limits", &["HANDLES_MAX"])]),
    (
        "core instances, memories, tables",
        &[(
            "transform/src/limits",
            &["CORE_INSTANCES_MAX", "MEMORIES_MAX", "TABLES_MAX", "TABLE_ELEMENTS_MAX"],
        )],
    ),
    (
        "fields and outputs that it declares",
        &[("transform/src/limits", &["FIELDS_MAX", "PATH_STEPS_MAX", "KEYS_BYTES_MAX"])],
    ),
    (
        "tables of state; a key",
        &[
            (
                "state/src/limits",
                &[
                    "TABLES_MAX",
                    "KEY_BYTES_MAX",
                    "VALUE_BYTES_MAX",
                    "SCAN_ENTRIES_MAX",
                    "SCAN_BYTES_MAX",
                    "SLICE_BYTES_MAX",
                ],
            ),
            ("transform/src/limits", &["KEYS_PER_CALL_MAX"]),
        ],
    ),
    ("strands of a stream", &[("config/src/parallel", &["STRANDS_MAX", "KEY_BYTES_MAX"])]),
    (
        "granted file or object; one read",
        &[
            ("src/pipeline/granted/mod", &["FILE_BYTES_MAX"]),
            ("transform/src/limits", &["FILE_READ_BYTES_MAX"]),
        ],
    ),
    (
        "time for an object",
        &[("src/pipeline/granted/objects", &["ANSWER_TIME_MAX", "READ_TIME_MAX", "FIRST_WAIT_MAX"])],
    ),
    ("model: file", &[("inference/src/limits", &["MODEL_BYTES_MAX", "WORK_BYTES_MAX"])]),
    (
        "nodes of a model",
        &[("inference/src/limits", &["NODES_MAX"]), ("transform/src/models", &["LOAD_CPU_MAX"])],
    ),
    ("random bytes", &[("transform/src/limits", &["RANDOM_BYTES_MAX"])]),
    (
        "reason of a dead letter",
        &[("transform/src/fault", &["REASON_BYTES_MAX"]), ("catalog/src/load", &["REASON_BYTES_MAX"])],
    ),
    (
        "manifest: bytes, values; its schema",
        &[
            ("transform/src/manifest", &["MANIFEST_BYTES_MAX"]),
            ("transform/src/manifest/values", &["MANIFEST_VALUES_MAX"]),
            ("transform/src/schema", &["PARTS_MAX", "DEPTH_MAX", "PATTERNS_MAX"]),
        ],
    ),
    ("name of a plugin", &[("transform/src/manifest", &["NAME_BYTES_MAX"])]),
    ("signatures beside it", &[("catalog/src/signing", &["SIGNATURE_BYTES_MAX", "SIGNATURES_MAX"])]),
    ("sidecar", &[("catalog/src/scan", &["SIDECAR_BYTES_MAX"])]),
    (
        "versions of a name that are kept",
        &[("catalog/src/known", &["VERSIONS_KEPT"]), ("catalog/src/control", &["DEMOTED_MAX"])],
    ),
    ("candidates: CPU time", &[("src/pipeline/shadow/mod", &["SLICE_CPU_MAX", "WAITING_MAX", "QUEUE_MAX"])]),
    ("files in a plugin directory", &[("catalog/src/scan", &["FILES_MAX"])]),
    ("what it writes to its position", &[("transform/src/isolation/sandbox", &["FILE_BYTES_MAX"])]),
    (
        "head and body of what it answers",
        &[("transform/src/isolation/wire", &["HEAD_BYTES_MAX", "BODY_BYTES_MAX"])],
    ),
    ("log lines of a slice", &[("transform/src/isolation/mod", &["LINES_MAX"])]),
    ("processes lost in one slice", &[("transform/src/isolation/remote", &["LOST_MAX"])]),
    ("memory of all bodies", &[("src/api/mod", &["BODIES_BYTES_MAX"])]),
    ("TLS handshake", &[("src/api/tls", &["HANDSHAKE_MAX"])]),
    (
        "body of the Firehose API",
        &[(
            "firehose/src/wire/put",
            &["BODY_BYTES_MAX", "BATCH_RECORDS_MAX", "RECORD_BYTES_MAX", "BATCH_BYTES_MAX"],
        )],
    ),
    ("addresses with keys that have signed", &[("src/api/firehose/caller", &["REMEMBERED_MAX"])]),
    ("failed keys and signatures", &[("tenant/src/failures", &["ADDRESSES_MAX", "BURST", "PER_SECOND"])]),
    ("addresses that are not told apart", &[("tenant/src/failures", &["SHARED_BURST", "SHARED_PER_SECOND"])]),
    ("keys verified at a time", &[("src/api/access/mod", &["VERIFIED_AT_A_TIME", "WAIT_FOR_IT"])]),
    ("texts of keys", &[("tenant/src/verified", &["KNOWN_MAX"])]),
    (
        "name of a key",
        &[
            ("tenant/src/key", &["LABEL_MAX"]),
            ("src/api/keys", &["EXPIRY_MAX", "GRACE_MAX"]),
            ("tenant/src/directory", &["SECRETS_MAX"]),
        ],
    ),
    ("keys of tokens", &[("src/api/access/key_set", &["BYTES_MAX", "KEYS_MAX", "ANSWER_MAX", "ASK_EVERY"])]),
    ("certificates and keys of TLS", &[("src/api/tls", &["FILE_BYTES_MAX"])]),
    ("key, token", &[("src/api/access/tokens", &["BYTES_MAX"])]),
    ("tenants; keys of one", &[("control/src/control", &["TENANTS_MAX", "KEYS_MAX"])]),
    ("keys of a tenant that have ended", &[("control/src/control", &["ENDED_MAX"])]),
    ("entry, page of the audit log", &[("control/src/audit", &["TEXT_MAX", "PAGE_ENTRIES_MAX"])]),
    (
        "files of the audit log",
        &[("control/src/audit", &["CHANGES_FILES_MAX", "REFUSED_FILES_MAX", "FILE_BYTES_MAX"])],
    ),
    ("refusals of a tenant", &[("control/src/audit", &["REFUSALS_BURST", "REFUSALS_PER_SECOND"])]),
    ("streams of a tenant over HTTP", &[("control/src/definitions", &["STREAMS_MAX", "TOMBSTONES_MAX"])]),
    (
        "definition of a stream",
        &[("src/api/replays", &["JSON_BYTES_MAX"]), ("control/src/definitions", &["VERSIONS_KEPT"])],
    ),
    ("how long a change waits", &[("src/api/streams", &["WITHIN_MAX"])]),
    ("other bodies of JSON", &[("src/api/replays", &["JSON_BYTES_MAX"])]),
    (
        "`decide`",
        &[
            ("src/api/decide", &["RECORDS_MAX", "ROWS_BYTES_MAX"]),
            ("config/src/decide", &["DEADLINE_MAX", "FALLBACK_BYTES_MAX"]),
        ],
    ),
    ("who waits for samples", &[("src/pipeline/samples", &["ASKING_MAX", "SAMPLE_WAIT_MAX"])]),
    (
        "letters, samples in an answer",
        &[("src/pipeline/letters", &["PAGE_LETTERS_MAX"]), ("src/pipeline/samples", &["SAMPLE_RECORDS_MAX"])],
    ),
    (
        "usage: rows",
        &[
            ("src/api/usage", &["PAGE_ROWS_MAX"]),
            ("src/pipeline/usage/readers", &["OF_TENANT_MAX", "OF_HOST_MAX"]),
        ],
    ),
    ("usage that is kept", &[("src/pipeline/usage/store", &["MINUTES_KEPT_H", "DAYS_KEPT", "BYTES_MAX"])]),
    ("entries of a table of state", &[("src/pipeline/tables", &["PAGE_ENTRIES_MAX"])]),
    ("delivery of Firehose", &[("firehose/src/endpoint", &["BODY_BYTES_MAX", "RECORDS_MAX"])]),
    ("label of a metric", &[("src/telemetry/metrics/mod", &["LABEL_BYTES_MAX", "PLUGINS_MAX"])]),
    (
        "replays at a time",
        &[("src/pipeline/history/mod", &["RUNNING_MAX", "RUNNING_OF_ALL_MAX", "ENDED_MAX"])],
    ),
    (
        "undelivered batches",
        &[("src/pipeline/stream", &["UNDELIVERED_BATCHES_MAX", "UNDELIVERED_BYTES_MAX"])],
    ),
    ("attempts of deliveries", &[("src/pipeline/delivery", &["IN_FLIGHT_MAX"])]),
    ("plugin files of a tenant", &[("src/pipeline/quotas/tenant", &["UPLOADS_MAX"])]),
    ("threads in directories", &[("deliver/src/directory/threads", &["OF_TENANT_MAX", "OF_HOST_MAX"])]),
    (
        "answer of an HTTP destination",
        &[
            ("deliver/src/http", &["ANSWER_BYTES_MAX"]),
            ("deliver/src/splunk", &["ANSWER_BYTES_MAX"]),
            ("deliver/src/opensearch", &["ANSWER_BYTES_MAX"]),
        ],
    ),
    ("`Retry-After`", &[("deliver/src/retry_after", &["AFTER_MAX"])]),
    (
        "producers that a stream remembers",
        &[("buffer/src/limits", &["PRODUCERS_MAX", "PRODUCER_REQUESTS_MAX"])],
    ),
    ("files of a file source", &[("ingest/src/file", &["OPEN_MAX", "PARTITIONS_MAX"])]),
    ("requests to Kinesis", &[("ingest/src/kinesis", &["READS_MAX"])]),
    (
        "schema of columns",
        &[
            ("config/src/columns", &["SCHEMA_MAX"]),
            ("columnar/src/schema", &["FIELDS_MAX", "DEPTH_MAX"]),
            ("columnar/src/convert", &["ROW_BYTES_MAX"]),
        ],
    ),
    (
        "configuration; file with a secret",
        &[
            ("config/src/draft", &["TEXT_MAX"]),
            ("config/src/secret", &["SECRET_MAX"]),
            ("config/src/names", &["NAME_MAX"]),
        ],
    ),
];

/// A constant that bounds something.
#[derive(Debug)]
struct Bound {
    file: String,
    name: String,
    /// `None`: it is made of other constants.
    value: Option<Value>,
    /// As it is written.
    written: String,
    says: String,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Value {
    Number(u128),
    Seconds(f64),
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Products, shifts and differences of numbers, as constants are written.
fn number(text: &str) -> Option<u128> {
    let text = text.trim();
    let inside = text.strip_prefix('(').and_then(|text| text.strip_suffix(')'));
    if let Some(inside) = inside.filter(|inside| !inside.contains(['(', ')'])) {
        return number(inside);
    }
    for (sign, of) in [
        (" - ", u128::checked_sub as fn(u128, u128) -> Option<u128>),
        (" << ", |a, b| a.checked_shl(u32::try_from(b).ok()?)),
        (" * ", u128::checked_mul),
    ] {
        // Of a difference the parts are in parentheses.
        let at = text.rfind(sign).filter(|_| sign != " - " || text.starts_with('(') && text.ends_with(')'));
        if let Some(at) = at {
            return of(number(&text[..at])?, number(&text[at + sign.len()..])?);
        }
    }
    let whole = text.strip_suffix(".0").unwrap_or(text);
    whole.replace('_', "").parse().ok()
}

fn value(text: &str) -> Option<Value> {
    #[expect(clippy::cast_precision_loss, reason = "spans are short")]
    let span = |inside: &str, unit: f64| Some(Value::Seconds(number(inside)? as f64 * unit));
    let of = |function: &str| text.strip_prefix(function)?.strip_suffix(')');
    if let Some(inside) = of("Duration::from_secs(") {
        return span(inside, 1.0);
    }
    if let Some(inside) = of("Duration::from_millis(") {
        return span(inside, 0.001);
    }
    number(text).map(Value::Number)
}

fn bounds_of(file: &str, text: &str) -> Vec<Bound> {
    let mut found = Vec::new();
    let mut says: Vec<&str> = Vec::new();
    for line in text.lines().map(str::trim) {
        // What follows is of tests.
        if line.starts_with("mod tests {") {
            break;
        }
        if let Some(doc) = line.strip_prefix("/// ") {
            says.push(doc);
            continue;
        }
        let item = line.strip_prefix("pub ").or_else(|| {
            line.strip_prefix("pub(").and_then(|rest| rest.split_once(") ")).map(|(_, rest)| rest)
        });
        let item = item.unwrap_or(line).strip_prefix("const ").and_then(|item| item.strip_suffix(';'));
        let parts = item.and_then(|item| item.split_once(": ")).and_then(|(name, rest)| {
            let (_, written) = rest.split_once(" = ")?;
            Some((name, written))
        });
        if let Some((name, written)) = parts {
            let is_bound = name.ends_with("_MAX") || NAMED_OTHERWISE.contains(&(file, name));
            if is_bound && !written.starts_with('"') {
                found.push(Bound {
                    file: file.to_owned(),
                    name: name.to_owned(),
                    value: value(written),
                    written: written.to_owned(),
                    says: says.join(" ").replace('|', "\\|"),
                });
            }
        }
        says.clear();
    }
    found
}

fn bounds() -> Vec<Bound> {
    let mut files = Vec::new();
    sources(&root().join("host"), &mut files);
    files.sort();
    let mut found = Vec::new();
    for file in files {
        let name = file.strip_prefix(root()).unwrap().display().to_string();
        let is_of_a_host =
            !NOT_OF_A_HOST.iter().any(|part| name.contains(part)) && !name.ends_with("tests.rs");
        if is_of_a_host {
            found.extend(bounds_of(&name, &fs::read_to_string(&file).unwrap()));
        }
    }
    found
}

fn thousands(number: u128) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Of a number of bytes, where that is round.
fn bytes(number: u128) -> Option<String> {
    let units = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    let (size, unit) = units.into_iter().find(|(size, _)| number >= *size && number.is_multiple_of(*size))?;
    Some(format!("{} {unit}", thousands(number / size)))
}

/// The ways in which a table may say it.
fn renderings(value: Value) -> Vec<String> {
    match value {
        Value::Number(number) => {
            let mut all = vec![thousands(number), number.to_string()];
            all.extend(bytes(number));
            all
        }
        Value::Seconds(seconds) => {
            let mut all = vec![format!("{seconds} s"), format!("{} ms", seconds * 1000.0)];
            let units = [(3600.0, "h"), (86_400.0, "days"), (366.0 * 86_400.0, "years")];
            all.extend(units.iter().map(|(unit, name)| format!("{} {name}", seconds / unit)));
            all
        }
    }
}

/// Whether a text has it, and not as a part of a longer number.
fn has(text: &str, rendering: &str) -> bool {
    text.match_indices(rendering).any(|(at, _)| {
        let digit = |character: Option<char>| character.is_some_and(|character| character.is_ascii_digit());
        let (before, behind) = (&text[..at], &text[at + rendering.len()..]);
        let grouped = |rest: &str| {
            let mut rest = rest.chars();
            rest.next() == Some(',') && digit(rest.next())
        };
        !digit(before.chars().next_back())
            && !before.ends_with(',')
            && !digit(behind.chars().next())
            && !grouped(behind)
    })
}

fn page(bounds: &[Bound]) -> String {
    let mut text = "# Fixed bounds\n\n\
        Every constant of the host that bounds something, made of the sources by `BLESS=1 cargo test -p wasmill-tests --test limits`. What\n\
        they mean to whoever meets them is in [SECURITY.md](../SECURITY.md#every-limit); what can be configured is in [config.md](config.md).\n"
        .to_owned();
    let mut by_file: BTreeMap<&str, Vec<&Bound>> = BTreeMap::new();
    for bound in bounds {
        by_file.entry(&bound.file).or_default().push(bound);
    }
    for (file, bounds) in by_file {
        write!(text, "\n## `{file}`\n\n| bound | value | of |\n|---|---|---|\n").unwrap();
        for Bound { name, value, written, says, .. } in bounds {
            let is_bytes = name.contains("BYTES");
            let shown = match value {
                Some(Value::Number(number)) if is_bytes => {
                    bytes(*number).unwrap_or_else(|| thousands(*number))
                }
                Some(Value::Number(number)) => thousands(*number),
                Some(Value::Seconds(seconds)) => format!("{seconds} s"),
                None => format!("`{written}`"),
            };
            writeln!(text, "| `{name}` | {shown} | {says} |").unwrap();
        }
    }
    text
}

#[test]
fn page_of_fixed_bounds_is_that_of_the_sources() {
    let bounds = bounds();
    assert!(bounds.len() > 200, "{} bounds are found", bounds.len());
    let file = root().join("docs/limits.md");
    let page = page(&bounds);
    if std::env::var_os("BLESS").is_some() {
        fs::write(&file, &page).unwrap();
    }
    let there = fs::read_to_string(&file).unwrap_or_default();
    let differs = there.lines().zip(page.lines()).find(|(there, now)| there != now);
    assert!(there == page, "docs/limits.md is not that of the sources, BLESS=1 writes it: {differs:?}");
    let missing: Vec<_> = NAMED_OTHERWISE
        .iter()
        .filter(|(file, name)| !bounds.iter().any(|bound| bound.file == *file && bound.name == *name))
        .collect();
    assert!(missing.is_empty(), "there are no such constants: {missing:?}");
}

#[test]
fn tables_of_limits_say_what_the_sources_say() {
    let bounds = bounds();
    let text = fs::read_to_string(root().join("SECURITY.md")).unwrap();
    let (_, tables) = text.split_once("## Every limit").unwrap();
    let mut wrong = Vec::new();
    for (beginning, constants) in ROWS {
        let rows: Vec<&str> =
            tables.lines().filter(|line| line.starts_with(&format!("| {beginning}"))).collect();
        let [row] = rows[..] else {
            wrong.push(format!("{} rows begin with {beginning:?}", rows.len()));
            continue;
        };
        // How it begins may have numbers of its own.
        let told = row.split('|').skip(1).collect::<Vec<_>>().join("|");
        for (file, name) in
            constants.iter().flat_map(|(file, names)| names.iter().map(move |name| (file, name)))
        {
            let file = format!("host/{file}.rs");
            let found = bounds.iter().find(|bound| bound.file == file && bound.name == *name);
            match found.map(|bound| bound.value) {
                None => wrong.push(format!("{file} has no {name}")),
                Some(None) => wrong.push(format!("{file}: {name} is no number")),
                Some(Some(value)) if !renderings(value).iter().any(|text| has(&told, text)) => {
                    wrong.push(format!("{row}: {name} of {file} is {value:?}"));
                }
                Some(Some(_)) => {}
            }
        }
    }
    assert!(wrong.is_empty(), "SECURITY.md:\n{}", wrong.join("\n"));
}

#[test]
fn rules_of_this_file_find_what_they_look_for() {
    let found = bounds_of(
        "a.rs",
        "/// Longest\n/// of all.\npub(crate) const A_MAX: usize = 16 << 20;\nconst B: u8 = 1;\nmod tests {\nconst C_MAX: u8 = 1;",
    );
    let [bound] = &found[..] else { panic!("{found:?}") };
    assert_eq!((bound.name.as_str(), bound.says.as_str()), ("A_MAX", "Longest of all."));
    assert_eq!(bound.value, Some(Value::Number(16 << 20)));
    assert_eq!(number("10 * 366 * 24"), Some(87_840));
    assert_eq!(number("(4 << 30) - (16 << 20)"), Some((4 << 30) - (16 << 20)));
    assert_eq!(value("Duration::from_secs(30 * 24 * 3600)"), Some(Value::Seconds(2_592_000.0)));
    assert!(has("64 KiB, 16", "16") && has("10,000; 8", "10,000") && has("1000,", "1000"));
    assert!(!has("116", "16") && !has("10,000", "10") && !has("10,000", "000"));
}

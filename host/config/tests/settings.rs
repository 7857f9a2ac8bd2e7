//! Good configurations: what defaults, paths and secrets become; and that no text makes the parser panic.

use std::path::{Path, PathBuf};
use std::time::Duration;

use proptest::prelude::*;
use wasmill_config::{Codec, Destination, Durability, Format, ObjectName, Settings, Source, Start};

const FULL: &str = r#"
data_dir = "data"
plugin_dir = "/abs/plugins"
workers = 2
[http]
listen = "127.0.0.1:7070"
max_body = "16MiB"
max_record = "1MiB"
[buffer]
durability = "os"
max_bytes = "8GiB"
journal_file = "64MiB"
[streams.access]
source = { type = "file", paths = ["logs/*.log"], follow = true, from = "end", buffer = "forced" }
fallback = "unrouted"
retention = { age = "2d" }
dead_letters = { max_age = "30d", output = { type = "s3", bucket = "letters", prefix = "x", then = "remove" } }
[[streams.access.transforms]]
plugin = "parse"
config = { format = "combined", "a.b" = [1, 2.5, true] }
secrets = { key = { env = "SET" } }
limits = { memory = "32MiB", deadline = "500ms" }
[[streams.access.transforms]]
plugin = "parse@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
[[streams.access.outputs]]
type = "directory"
path = "out"
format = "json-array"
compression = "gzip"
level = 9
interval = "0s"
retry = { initial = "100ms", for = "1h", then = "pause" }
[[streams.access.outputs]]
name = "unrouted"
type = "http"
url = "https://collector.example/in"
headers = { authorization = { env = "SET" }, accept = "*/*" }
[[streams.access.outputs]]
type = "s3"
bucket = "logs"
prefix = "raw"
endpoint = "http://127.0.0.1:9000"
path_style = true
[streams.syslog]
source = { type = "tcp", listen = "127.0.0.1:5140", max_record = "64KiB" }
outputs = [{ type = "stdout" }]
"#;

fn environment(name: &str) -> Option<String> {
    (name == "SET").then(|| "sesame".to_owned())
}

fn load(text: &str) -> Settings {
    match Settings::from_toml_with(text, Path::new("/etc/wasmill/wasmill.toml"), &environment) {
        Ok(settings) => settings,
        Err(invalid) => panic!("{invalid}"),
    }
}

#[test]
fn full_configuration_resolves_defaults_and_paths() {
    let settings = load(FULL);
    assert_eq!(settings.data_dir, PathBuf::from("/etc/wasmill/data"));
    assert_eq!(settings.plugin_dir, PathBuf::from("/abs/plugins"));
    assert_eq!(settings.buffer.durability, Durability::Os);
    assert_eq!(settings.http.max_records, 100_000);
    let access = &settings.streams[0];
    assert_eq!((access.name.as_str(), access.fallback), ("access", Some(1)));
    let retention = access.retention.unwrap();
    assert_eq!((retention.age, retention.size), (Duration::from_secs(172_800), 10 << 30));
    let letters = access.dead_letters.output.as_ref().unwrap();
    assert!(letters.remove && access.dead_letters.max_age == Some(Duration::from_secs(30 * 86_400)));
    assert_eq!((letters.output.format, letters.output.compression.codec), (Format::Ndjson, Codec::Zstd));
    assert_eq!((letters.output.size, letters.output.interval), (5 << 20, Duration::from_secs(60)));
    let Destination::S3(s3) = &letters.output.destination else { panic!() };
    let object = "{stream}/dead-letters/{year}/{month}/{day}/{batch}{extension}";
    assert_eq!((s3.prefix.as_str(), &s3.object), ("x/", &ObjectName::Template(object.to_owned())));
    let Source::File(file) = &access.sources[0].source else { panic!("{:?}", access.sources) };
    assert_eq!(file.paths, ["/etc/wasmill/logs/*.log"]);
    assert_eq!(file.from, Start::End);
    assert_eq!(access.transforms[0].config, r#"{"a.b":[1,2.5,true],"format":"combined"}"#);
    assert_eq!(access.transforms[0].limits.deadline, Duration::from_millis(500));
    assert_eq!(access.transforms[0].limits.memory, 32 << 20);
    assert_eq!(access.transforms[0].secrets["key"].reveal(), "sesame");
    assert_eq!(access.transforms[1].name, "parse-2");
    assert!(access.transforms[1].plugin.digest.as_deref().unwrap().starts_with("sha256:0123"));
    let names: Vec<_> = access.outputs.iter().map(|output| output.name.as_str()).collect();
    assert_eq!(names, ["default", "unrouted", "s3"]);
    let first = &access.outputs[0];
    assert_eq!((first.compression.codec, first.compression.level), (Codec::Gzip, 9));
    assert_eq!((first.format, first.interval, first.size), (Format::JsonArray, Duration::ZERO, 5 << 20));
    assert_eq!((first.retry.give_up_after, first.retry.pause), (Duration::from_secs(3600), true));
    assert!(!access.outputs[1].retry.pause);
    let Destination::S3(s3) = &access.outputs[2].destination else { panic!() };
    assert_eq!(s3.prefix, "raw/");
    assert_eq!(access.outputs[2].compression.level, 3);
    assert_eq!(settings.streams[1].outputs[0].compression.codec, Codec::None);
}

#[test]
fn output_as_firehose_writes_it_is_understood() {
    for (written, codec) in
        [("zip", Codec::Zip), ("snappy-java", Codec::SnappyJava), ("hadoop-snappy", Codec::HadoopSnappy)]
    {
        let settings = load(&format!(
            "[streams.a]\nsource = {{ type = \"http\" }}\n\
             outputs = [{{ type = \"stdout\", format = \"verbatim\", compression = \"{written}\" }}]\n"
        ));
        let output = &settings.streams[0].outputs[0];
        assert_eq!(
            (output.format, output.compression.codec, output.compression.level),
            (Format::Verbatim, codec, 0)
        );
    }
}

#[test]
fn what_is_not_written_has_its_default() {
    let settings = load("[streams.a]\nsource = { type = \"http\" }\noutputs = [{ type = \"stdout\" }]\n");
    assert!(settings.workers >= 1);
    assert_eq!(settings.http.listen.unwrap().to_string(), "127.0.0.1:7070");
    assert_eq!(settings.buffer.durability, Durability::Fsync);
    assert!(settings.streams[0].dead_letters.output.is_none());
}

#[test]
fn secret_in_settings_is_not_shown_by_debug() {
    assert!(!format!("{:?}", load(FULL)).contains("sesame"));
}

#[test]
fn secret_in_a_file_loses_its_last_line_feed_only() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("token"), "a\nb\r\n").unwrap();
    let text = "[streams.a]\nsource = { type = \"http\" }\noutputs = [{ type = \"stdout\" }]\n\
                transforms = [{ plugin = \"p\", secrets = { t = { file = \"token\" } } }]\n";
    let settings = Settings::from_toml(text, &folder.path().join("wasmill.toml")).unwrap();
    assert_eq!(settings.streams[0].transforms[0].secrets["t"].reveal(), "a\nb");
}

#[test]
fn directory_with_pattern_characters_is_taken_literally() {
    let text =
        "[streams.a]\nsource = { type = \"file\", paths = [\"*.log\"] }\noutputs = [{ type = \"stdout\" }]\n";
    let settings = Settings::from_toml(text, Path::new("/srv/[x]/wasmill.toml")).unwrap();
    let Source::File(file) = &settings.streams[0].sources[0].source else { panic!() };
    assert_eq!(file.paths, ["/srv/[[]x[]]/*.log"]);
}

#[test]
fn later_problem_is_located_at_its_key() {
    let settings = load(FULL);
    let key = format!("{}.plugin", settings.streams[0].transforms[1].key);
    let problem = settings.problem(&key, "no plugin of this name");
    let line = FULL.lines().position(|line| line.starts_with("plugin = \"parse@")).unwrap() + 1;
    assert_eq!(problem.to_string(), format!("/etc/wasmill/wasmill.toml:{line}:10: no plugin of this name"));
}

proptest! {
    #[test]
    fn arbitrary_text_never_panics(text in "\\PC{0,200}") {
        drop(Settings::from_toml_with(&text, Path::new("x.toml"), &environment));
    }

    #[test]
    fn damaged_configuration_never_panics(
        at in 0..FULL.len(),
        length in 0usize..40,
        insert in "[\\[\\]{}=\"a-z0-9.\n]{0,6}",
    ) {
        let end = (at + length).min(FULL.len());
        let text = format!("{}{insert}{}", &FULL[..at], &FULL[end..]);
        if let Err(invalid) = Settings::from_toml_with(&text, Path::new("x.toml"), &environment) {
            prop_assert!(!invalid.problems.is_empty());
            let lines = text.matches('\n').count() + 1;
            prop_assert!(invalid.problems.iter().all(|problem| (1..=lines).contains(&problem.line)));
        }
    }
}

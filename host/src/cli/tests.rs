//! What users read: help texts and the report of a bad configuration, against checked-in texts.
//! `BLESS=1` rewrites them.

use std::path::{Path, PathBuf};

use wasmill_config::{Draft, Settings};

use super::*;

/// Compares with `expected/NAME.txt` beside this file.
fn blessed(name: &str, actual: &str) {
    let actual: String = actual.lines().map(|line| format!("{}\n", line.trim_end())).collect();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("src/cli/expected/{name}.txt"));
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&path, &actual).unwrap();
        return;
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        expected == actual,
        "{} is stale; run again with BLESS=1\n--- expected\n{expected}\n--- actual\n{actual}",
        path.display()
    );
}

/// The help of a command and of all below it.
fn helps(mut command: clap::Command, path: &str, found: &mut Vec<(String, String)>) {
    let help = command.render_long_help().to_string();
    assert!(!help.contains(COMPILE_PLUGIN));
    found.push((path.to_owned(), help));
    for below in command.get_subcommands().filter(|below| below.get_name() != "help") {
        helps(below.clone(), &format!("{path}-{}", below.get_name()), found);
    }
}

#[test]
fn help_texts_are_the_checked_in_ones() {
    let mut command = Arguments::command().term_width(100);
    command.build();
    command.clone().debug_assert();
    let mut found = Vec::new();
    helps(command, "wasmill", &mut found);
    assert!(found.len() >= 8, "{found:?}");
    for (name, help) in found {
        blessed(&name, &help);
    }
}

#[test]
fn command_line_that_is_wrong_is_refused_with_the_exit_code_of_usage() {
    for wrong in [
        &["wasmill"][..],
        &["wasmill", "run", "a.toml", "--config", "b.toml"],
        &["wasmill", "dead-letters", "list"],
        &["wasmill", "dead-letters", "show"],
        &["wasmill", "run", "a.toml", "--drain-timeout", "soon"],
        &["wasmill", "--log-level", "plugin=loud", "schema"],
        &["wasmill", "--log-format", "xml", "schema"],
        &["wasmill", "demo", "--records", "0"],
        &["wasmill", "demo", "--records", "5", "--input", "a.log"],
        &["wasmill", "completions", "basic"],
    ] {
        let error = Arguments::try_parse_from(wrong).expect_err(&format!("{wrong:?}"));
        assert_eq!(error.exit_code(), i32::from(EXIT_USAGE), "{wrong:?}");
    }
    for right in [
        &["wasmill", "run"][..],
        &["wasmill", "check", "--config", "a.toml"],
        &["wasmill", "dead-letters", "list", "access"],
        // Words stay words whatever stands between them.
        &["wasmill", "dead-letters", "list", "a.toml", "--json", "access"],
        &["wasmill", "dead-letters", "show", "a.toml", "access", "17"],
        &["wasmill", "dead-letters", "show", "access", "--host", "http://localhost", "17"],
    ] {
        Arguments::try_parse_from(right).unwrap();
    }
    // Either says which host is asked.
    for both in [
        &["wasmill", "stream", "list"][..],
        &["wasmill", "usage"],
        &["wasmill", "dead-letters", "list", "access"],
    ] {
        let words = [both, &["--config", "a.toml", "--host", "http://localhost"]].concat();
        let error = Arguments::try_parse_from(&words).expect_err(&format!("{words:?}"));
        let told = error.to_string();
        assert_eq!(error.exit_code(), i32::from(EXIT_USAGE), "{told}");
        assert!(told.contains("--config <FILE>") && told.contains("--host <URL>"), "{told}");
        Arguments::try_parse_from(&words[..words.len() - 2]).unwrap();
    }
    let arguments = Arguments::try_parse_from(["wasmill", "run", "a.toml", "--log-format", "json"]).unwrap();
    assert_eq!(arguments.log.options("info").format, LogFormat::Json);
}

/// Every problem that only the pipeline can find, with the directory replaced by `DIR`.
#[tokio::test]
async fn check_reports_missing_plugins_and_bad_templates_at_once() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("plugins")).unwrap();
    std::fs::write(dir.path().join("plugins/filter.wasm"), "this is no plugin").unwrap();
    let config = "[streams.access]\nsource = { type = \"http\" }\n\n\
        [[streams.access.transforms]]\nplugin = \"parze\"\n\n\
        [[streams.access.transforms]]\nplugin = \"filter\"\n\n\
        [[streams.access.outputs]]\ntype = \"directory\"\npath = \"out\"\nobject = \"{partition.host}{partition.path}{batch}{extension}\"\n";
    std::fs::write(dir.path().join("wasmill.toml"), config).unwrap();
    let draft = Draft::load(&dir.path().join("wasmill.toml")).unwrap();
    let options = HostOptions { compiler: PathBuf::from("/nonexistent/wasmill") };
    let problems = crate::pipeline::check(&draft, &options).await;
    let text: String = problems.iter().map(|problem| format!("{problem}\n")).collect();
    blessed("check-problems", &text.replace(&dir.path().display().to_string(), "DIR"));
    assert!(problems.len() >= 2, "{text}");
}

#[test]
fn described_configuration_shows_each_stream_as_its_way() {
    let config = "[streams.access]\nsource = { type = \"http\" }\n\n\
        [[streams.access.transforms]]\nplugin = \"parse\"\n\n\
        [[streams.access.transforms]]\nplugin = \"parse\"\n\n\
        [[streams.access.outputs]]\ntype = \"directory\"\npath = \"out\"\n\n\
        [[streams.access.outputs]]\ntype = \"stdout\"\nformat = \"raw\"\n\n\
        [streams.access.dead_letters.output]\ntype = \"s3\"\nbucket = \"rejects\"\n";
    let settings = Settings::from_toml(config, Path::new("wasmill.toml")).unwrap();
    assert_eq!(
        check::described(&settings),
        "wasmill.toml: ok: 1 stream, 2 transforms, 2 outputs; plugins from plugins\n  \
         access: http -> parse -> parse-2 -> directory out (ndjson, zstd) and stdout (raw)\n    \
         dead letters -> s3 rejects/ (ndjson, zstd)\n"
    );
}

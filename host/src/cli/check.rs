//! `wasmill check`: everything that is wrong with a configuration, or what it is when nothing is.
//!
//! Problems are lines `file:line:column: message` on stderr, the form that editors understand; with `--json` one object
//! on stdout says the same.

use std::fmt::Write;
use std::process::ExitCode;

use anyhow::Result;
use serde_json::{Value, json};
use wasmill_config::{Codec, Draft, Format, LoadError, Output, Problem, Settings, Stream};

use super::config_file::ConfigFile;
use super::{EXIT_USAGE, host_options, output, runtime};
use crate::pipeline;
use crate::pipeline::stats::label;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Plugins are loaded and configured and outputs judged as `wasmill run` would do it, but nothing is \
    sent and no port is opened. Passwords and queries of URLs are not shown.\n\n\
    Examples:\n  \
    wasmill check wasmill.toml\n  \
    wasmill check --json wasmill.toml | jq '.problems[].message'"
)]
pub(super) struct Arguments {
    #[command(flatten)]
    config: ConfigFile,
    /// One JSON object on stdout: `ok`, `problems`, `streams`
    #[arg(long)]
    json: bool,
}

/// A configuration that cannot be loaded, as lines for people. The exit code says whose fault it is.
pub(super) fn refuse(error: &LoadError) -> ExitCode {
    match error {
        LoadError::Invalid(invalid) => complain(&invalid.problems),
        LoadError::Read { .. } | LoadError::TooLarge { .. } => {
            output::complain(format_args!("error: {}", output::plain(&with_cause(error))));
        }
    }
    ExitCode::from(EXIT_USAGE)
}

/// Every problem on a line of its own, then how many there are.
pub(super) fn complain(problems: &[Problem]) {
    for problem in problems {
        // A plugin's own words may be several lines, such as an expression and a mark below it.
        let lines: Vec<String> = problem.to_string().split('\n').map(output::plain).collect();
        output::complain(format_args!("{}", lines.join("\n")));
    }
    let file = problems.first().map(|problem| problem.file.display().to_string()).unwrap_or_default();
    output::complain(format_args!("error: {} in {file}", counted(problems.len(), "problem")));
}

fn with_cause(error: &LoadError) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let draft = match Draft::load(arguments.config.path()) {
        Ok(draft) => draft,
        Err(error) if !arguments.json => return Ok(refuse(&error)),
        Err(LoadError::Invalid(invalid)) => return answer(arguments, &invalid.problems, None),
        Err(error) => {
            let (file, message) = (arguments.config.path().to_owned(), with_cause(&error));
            return answer(arguments, &[Problem { file, line: 1, column: 1, message }], None);
        }
    };
    let problems = runtime()?.block_on(pipeline::check(&draft, &host_options()?));
    // What was made of a draft with problems is not what was written.
    answer(arguments, &problems, draft.finish().ok().as_ref())
}

fn answer(arguments: &Arguments, problems: &[Problem], settings: Option<&Settings>) -> Result<ExitCode> {
    if arguments.json {
        let streams = settings.map(|settings| settings.streams.iter().map(stream_json).collect::<Vec<_>>());
        output::print_json(&json!({
            "file": arguments.config.path().display().to_string(),
            "ok": problems.is_empty(),
            "problems": problems.iter().map(problem_json).collect::<Vec<_>>(),
            "streams": streams,
        }))?;
    } else if !problems.is_empty() {
        complain(problems);
    } else if let Some(settings) = settings {
        output::print(&described(settings))?;
    }
    Ok(if problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(EXIT_USAGE) })
}

fn problem_json(problem: &Problem) -> Value {
    json!({
        "file": problem.file.display().to_string(),
        "line": problem.line,
        "column": problem.column,
        "message": problem.message,
    })
}

fn stream_json(stream: &Stream) -> Value {
    json!({
        "tenant": stream.tenant,
        "name": stream.name,
        "source": stream.sources.iter().find(|of| of.name.is_none()).map(|of| of.source.kind()),
        "sources": stream.sources.iter().filter_map(|of| {
            Some(json!({ "name": of.name.as_ref()?, "type": of.source.kind() }))
        }).collect::<Vec<_>>(),
        "transforms": stream.transforms.iter().map(|transform| json!({
            "name": transform.name, "plugin": transform.plugin.name, "digest": transform.plugin.digest,
        })).collect::<Vec<_>>(),
        "outputs": stream.outputs.iter().map(|output| json!({
            "name": output.name, "type": output.destination.kind(), "to": output.destination.shown(),
        })).collect::<Vec<_>>(),
        "dead_letters": stream.dead_letters.output.as_ref().map(|letters| json!({
            "type": letters.output.destination.kind(), "to": letters.output.destination.shown(),
        })),
    })
}

/// What was checked and found good.
pub(super) fn described(settings: &Settings) -> String {
    let streams = &settings.streams;
    let transforms = streams.iter().map(|stream| stream.transforms.len()).sum();
    let outputs = streams.iter().map(|stream| stream.outputs.len()).sum();
    let mut text = format!(
        "{}: ok: {}, {}, {}; plugins from {}\n",
        settings.file.display(),
        counted(streams.len(), "stream"),
        counted(transforms, "transform"),
        counted(outputs, "output"),
        settings.plugin_dir.display(),
    );
    for stream in streams {
        let mut line = format!("  {}: {}", label(&stream.tenant, &stream.name), sources(stream));
        for transform in &stream.transforms {
            // Writing to a string does not fail.
            let _written = write!(line, " -> {}", transform.name);
        }
        let outputs: Vec<String> = stream.routes().map(described_output).collect();
        let _written = writeln!(text, "{line} -> {}", outputs.join(" and "));
        if let Some(backup) = stream.backup.and_then(|number| stream.outputs.get(number)) {
            let _written = writeln!(text, "    as they came in -> {}", described_output(backup));
        }
        if let Some(letters) = &stream.dead_letters.output {
            let _written = writeln!(text, "    dead letters -> {}", described_output(&letters.output));
        }
    }
    text
}

fn described_output(output: &Output) -> String {
    let (kind, to) = (output.destination.kind(), output.destination.shown());
    let format = match output.format {
        Format::Verbatim => "verbatim",
        Format::Raw => "raw",
        Format::Ndjson => "ndjson",
        Format::JsonArray => "json-array",
        Format::Parquet => "parquet",
    };
    let codec = match output.compression.codec {
        Codec::None => "",
        Codec::Gzip => ", gzip",
        Codec::Zstd => ", zstd",
        Codec::Snappy => ", snappy",
        Codec::SnappyJava => ", snappy-java",
        Codec::HadoopSnappy => ", hadoop-snappy",
        Codec::Zip => ", zip",
    };
    let space = if to.is_empty() { "" } else { " " };
    format!("{kind}{space}{to} ({format}{codec})")
}

/// The type of its source, or its sources by name.
fn sources(stream: &Stream) -> String {
    let sources = stream.sources.iter().map(|of| match &of.name {
        Some(name) => format!("{name} ({})", of.source.kind()),
        None => of.source.kind().to_owned(),
    });
    sources.collect::<Vec<_>>().join(" + ")
}

/// `1 stream`, `2 streams`.
pub(super) fn counted(count: usize, word: &str) -> String {
    format!("{count} {word}{}", if count == 1 { "" } else { "s" })
}

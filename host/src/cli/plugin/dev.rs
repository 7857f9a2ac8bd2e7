//! `wasmill plugin dev`: builds a project whenever it is saved, hands it to a running host, and shows records of a stream as
//! they pass, before and after.
//!
//! The host decides what becomes of a version; here it is watched and told. Nothing is kept but the component in the plugin
//! directory.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use reqwest::Method;
use serde_json::Value;
use wasmill_author::BuildOptions;
use wasmill_config::Settings;
use wasmill_transform::{Digest, inspect};

use super::watch::{self, Changes};
use crate::cli::config_file::DEFAULT;
use crate::cli::host_client::{Access, HostClient, stream_path};
use crate::cli::{check, output, runtime};
use crate::pipeline::{SampledRecord, SampledSlice};

/// Longest wait until the host has taken or refused a version: it may have to compile it.
const TAKEN_WITHIN: Duration = Duration::from_secs(120);
/// Between two looks at what the host has done with it.
const LOOK: Duration = Duration::from_millis(50);
/// Between two lines about what is waited for.
const TELL: Duration = Duration::from_secs(3);
/// Longest wait of one request for records, and the pause between two answers.
const RECORDS_WITHIN_S: u64 = 30;
const PAUSE: Duration = Duration::from_secs(2);
/// Columns where there is no terminal.
const WIDTH: usize = 120;
/// Narrower than this, before and after are below each other.
const WIDTH_MIN: usize = 60;
/// Lines of one record.
const LINES_MAX: usize = 6;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Needs a host that runs with this configuration on this machine, and a stream that has the plugin in its \
    transforms. A version that does not build leaves the one before where it is; one that the host refuses is told with \
    the reason. Runs until it is interrupted; the last version stays live.\n\n\
    Examples:\n  \
    wasmill plugin dev --config ../wasmill.toml\n  \
    wasmill plugin dev geo --config wasmill.toml --stream access --records 5"
)]
pub(in crate::cli) struct Arguments {
    /// The project
    #[arg(default_value = ".")]
    project: PathBuf,
    /// The configuration of the running host (TOML): where its plugins lie, and where it listens
    #[arg(long, value_name = "FILE", default_value = DEFAULT)]
    config: PathBuf,
    /// Address of the running host, where the configuration does not say it: http://127.0.0.1:7070
    #[arg(long, value_name = "URL")]
    host: Option<String>,
    /// The stream whose records are shown [default: the first that has the plugin]
    #[arg(long, value_name = "NAME")]
    stream: Option<String>,
    /// Records that are shown at a time; 0 shows none
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u8).range(..=100))]
    records: u8,
    /// Watch this component and hand it over instead of building one
    #[arg(long, value_name = "FILE", conflicts_with_all = ["project", "work", "install"])]
    component: Option<PathBuf>,
    /// Where toolchains put what they build in between [default: build in the project]
    #[arg(long, value_name = "DIR")]
    work: Option<PathBuf>,
    /// Install missing tools, where they can go into a cache of the user's
    #[arg(long)]
    install: bool,
    #[command(flatten)]
    access: Access,
}

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let settings = match Settings::load(&arguments.config) {
        Ok(settings) => settings,
        Err(error) => return Ok(check::refuse(&error)),
    };
    let source = Source::of(arguments)?;
    let stream = stream(&settings, &source.name, arguments)?;
    let client = match &arguments.host {
        Some(host) => HostClient::new(host, &arguments.access)?,
        None => HostClient::configured(&settings, &arguments.config, &arguments.access)?,
    };
    let session = Session {
        file: settings.plugin_dir.join(format!("{}.wasm", source.name)),
        runtime: runtime()?,
        client,
        stream,
        source,
        records: arguments.records,
    };
    // A host that is not there is told before anything takes minutes.
    session.state()?;
    std::thread::scope(|scope| {
        if session.records > 0 {
            scope.spawn(|| session.show_records());
        }
        let ended = watch::each_change(&session.source.watched, arguments.work.as_deref(), |changes| {
            let mut digest = None;
            if let Err(error) = session.hand_over(changes, &mut digest) {
                output::complain(format_args!("error: {error:#}"));
            }
            digest
        });
        if let Err(error) = &ended {
            output::complain(format_args!("error: {error:#}"));
            #[expect(clippy::exit, reason = "the thread that shows records never ends, and holds nothing")]
            std::process::exit(1);
        }
        ended
    })
}

/// What is watched, and how a component comes of it.
struct Source<'a> {
    name: String,
    watched: PathBuf,
    arguments: &'a Arguments,
}

impl Source<'_> {
    fn of(arguments: &Arguments) -> Result<Source<'_>> {
        let Some(file) = &arguments.component else {
            let project = super::open(&arguments.project)?;
            return Ok(Source { name: project.name.clone(), watched: project.dir.clone(), arguments });
        };
        let file = std::path::absolute(file)?;
        let manifest = inspect(&super::read(&file)?).ok().and_then(|inspection| inspection.manifest);
        let stem = || Some(file.file_stem()?.to_str()?.to_owned());
        let name = manifest.map(|manifest| manifest.name).or_else(stem);
        Ok(Source { name: name.context("the component has no name")?, watched: file, arguments })
    }

    fn component(&self) -> Result<Vec<u8>> {
        let Arguments { project, component, work, install, .. } = self.arguments;
        match component {
            Some(file) => super::read(file),
            None => {
                let project = super::open(project)?;
                if project.name != self.name {
                    bail!(
                        "manifest.json now says {:?}; this was begun for {:?}: begin again for the other name",
                        project.name,
                        self.name
                    );
                }
                project.component(&BuildOptions {
                    work: work.clone(),
                    debug: true,
                    install: *install,
                    out: None,
                })
            }
        }
    }
}

/// The stream whose records are shown.
fn stream(settings: &Settings, plugin: &str, arguments: &Arguments) -> Result<String> {
    let has = |stream: &&wasmill_config::Stream| {
        // One that names a version follows nothing.
        let mut followed = stream.transforms.iter().filter(|transform| transform.plugin.digest.is_none());
        followed.any(|transform| transform.plugin.name == plugin)
    };
    let mut streams = settings.streams.iter().filter(has).map(|stream| stream.name.clone());
    let config = arguments.config.display();
    match &arguments.stream {
        Some(name) if streams.any(|stream| stream == *name) => Ok(name.clone()),
        Some(name) => bail!("{config}: stream {name:?} has no transform with the plugin {plugin:?}"),
        None => streams.next().with_context(|| {
            format!(
                "{config}: no stream has a transform with the plugin {plugin:?}; add `[[streams.NAME.transforms]]` with \
                 `plugin = {plugin:?}`"
            )
        }),
    }
}

struct Session<'a> {
    source: Source<'a>,
    /// Where the component goes.
    file: PathBuf,
    stream: String,
    client: HostClient,
    runtime: tokio::runtime::Runtime,
    records: u8,
}

impl Session<'_> {
    fn ask<T: serde::de::DeserializeOwned>(&self, path: &str, pairs: &[(&str, String)]) -> Result<T> {
        self.runtime.block_on(self.client.ask(Method::GET, path, pairs))
    }

    /// The versions of the plugin that the host knows.
    fn state(&self) -> Result<Vec<Value>> {
        let all: Vec<Value> = self.ask("/v1/plugins", &[])?;
        Ok(all.into_iter().filter(|version| version["name"] == self.source.name.as_str()).collect())
    }

    /// Builds, puts the component into the plugin directory, and waits for what the host makes of it, or for the next change.
    /// `built_digest` is set as soon as something is built.
    fn hand_over(&self, changes: &Changes, built_digest: &mut Option<String>) -> Result<()> {
        let started = Instant::now();
        let component = self.source.component()?;
        *built_digest = Some(Digest::of(&component).to_string());
        let refused = super::refused(&inspect(&component));
        if !refused.is_empty() {
            bail!("a host would refuse this component, so it was put nowhere: {}", refused.join("; "));
        }
        let built = started.elapsed();
        let (digest, size) = (Digest::of(&component).to_string(), component.len() as u64);
        wasmill_author::component::place(&self.file, &component)?;
        let placed = Instant::now();
        let mut told = placed;
        while placed.elapsed() < TAKEN_WITHIN {
            let state = self.state().with_context(|| {
                format!(
                    "{} is there for the host, which does not answer; it takes it when it is back",
                    self.file.display()
                )
            })?;
            if let Some(fate) = fate(&state, &digest, &self.stream) {
                let what = fate.map_err(|reason| anyhow!("the host refuses this version: {reason}"))?;
                output::complain(format_args!(
                    "{}: {} ({}), built in {:.1} s, taken in {:.1} s",
                    self.source.name,
                    what,
                    output::binary_size(size),
                    built.as_secs_f64(),
                    placed.elapsed().as_secs_f64()
                ));
                return Ok(());
            }
            if changes.any() {
                output::complain(format_args!(
                    "the host has not taken {digest}, and there is a newer change"
                ));
                return Ok(());
            }
            if told.elapsed() >= TELL {
                told = Instant::now();
                output::complain(format_args!(
                    "waiting for the host to take {digest} from {} ({:.0} s): {}",
                    self.file.display(),
                    placed.elapsed().as_secs_f64(),
                    waits_for(&state, &digest, &self.stream)
                ));
            }
            std::thread::park_timeout(LOOK);
        }
        bail!("the host has not taken the version within {} s; see its log", TAKEN_WITHIN.as_secs())
    }

    /// Shows records until the process ends.
    fn show_records(&self) {
        let path = format!("{}/sample", stream_path(&self.stream));
        let pairs = [("records", self.records.to_string()), ("wait", format!("{RECORDS_WITHIN_S}s"))];
        let mut told = false;
        loop {
            match self.ask::<SampledSlice>(&path, &pairs) {
                Ok(slice) => {
                    told = false;
                    let width = rustix::termios::tcgetwinsize(std::io::stdout())
                        .map_or(WIDTH, |size| size.ws_col.into());
                    let records: String =
                        slice.records.iter().map(|record| side_by_side(record, width)).collect();
                    if output::print(&records).is_err() {
                        return;
                    }
                }
                Err(error) if !told => {
                    told = true;
                    output::complain(format_args!("no records to show: {error:#}"));
                }
                Err(_again) => {}
            }
            std::thread::park_timeout(PAUSE);
        }
    }
}

/// What became of a version in a stream; `None` as long as that is open.
fn fate(versions: &[Value], digest: &str, stream: &str) -> Option<Result<String, String>> {
    let version = versions.iter().find(|version| version["digest"] == digest)?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    if version["state"] == "refused" {
        return Some(Err(text(&version["reason"])));
    }
    if version["streams"].as_array().is_some_and(|streams| streams.iter().any(|runs| runs == stream)) {
        return Some(Ok(format!("live in {stream}")));
    }
    let failure =
        version["probe_failures"].as_array().and_then(|all| all.iter().find(|f| f["stream"] == stream));
    if let Some(failure) = failure {
        return Some(Err(text(&failure["reason"])));
    }
    let demoted = version["demoted"].as_array().and_then(|all| all.iter().find(|d| d["stream"] == stream));
    if let Some(demotion) = demoted {
        let reason = text(&demotion["reason"]);
        return Some(Err(format!("it was demoted: {reason}; `wasmill plugin promote` takes it again")));
    }
    let pinned = versions.iter().find(|version| version["pinned"] == true)?;
    Some(Ok(format!("known, not live: {} is pinned (`wasmill plugin unpin`)", text(&pinned["digest"]))))
}

/// Why the fate of a version is open.
fn waits_for(versions: &[Value], digest: &str, stream: &str) -> String {
    if versions.iter().any(|version| version["digest"] == digest) {
        return format!("it knows the version, and stream {stream} does not run it yet");
    }
    let file = |version: &Value| Some(output::plain(version["file"].as_str()?));
    let looks = versions.iter().find(|version| version["state"] == "current").and_then(file);
    let looks = looks.map_or_else(String::new, |file| format!("; what it has is {file}"));
    format!("it has not seen the version (is that its plugin directory?), or is compiling it{looks}")
}

/// A record before and after, in two columns if the terminal has room.
fn side_by_side(record: &SampledRecord, width: usize) -> String {
    let after = &record.after;
    let mut right: Vec<String> = after.rows.iter().map(|row| output::plain(row)).collect();
    right.extend(after.reason.as_ref().map(|reason| output::plain(reason)));
    let head = format!("-- offset {}: {}\n", record.offset, after.fate);
    let before = output::plain(&record.before);
    if width < WIDTH_MIN {
        let lines: Vec<String> = right.iter().map(|row| format!("-> {row}\n")).collect();
        return format!("{head}{before}\n{}", lines.concat());
    }
    let column = (width - 3) / 2;
    let (left, right) = (wrapped(&[before], column), wrapped(&right, column));
    let mut text = head;
    for line in 0..left.len().max(right.len()) {
        let side = |lines: &[String]| lines.get(line).cloned().unwrap_or_default();
        text.push_str(format!("{:<column$} | {}", side(&left), side(&right)).trim_end());
        text.push('\n');
    }
    text
}

/// Lines of at most `width` characters; what is too long ends with a mark.
fn wrapped(texts: &[String], width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    for text in texts {
        let characters: Vec<char> = text.chars().collect();
        lines.extend(characters.chunks(width.max(1)).map(|line| line.iter().collect::<String>()));
    }
    if lines.len() > LINES_MAX {
        lines.truncate(LINES_MAX - 1);
        lines.push("...".to_owned());
    }
    lines
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::pipeline::Side;

    fn record(before: &str, rows: &[&str], reason: Option<&str>) -> SampledRecord {
        let rows = rows.iter().map(|row| (*row).to_owned()).collect();
        let after = Side { fate: "kept".to_owned(), rows, reason: reason.map(str::to_owned) };
        SampledRecord { offset: 7, before: before.to_owned(), after }
    }

    #[test]
    fn record_stands_beside_what_came_of_it() {
        let text = side_by_side(&record("abc", &["out: x", "out: y"], None), 63);
        let column = " ".repeat(27);
        assert_eq!(text, format!("-- offset 7: kept\nabc{column} | out: x\n   {column} | out: y\n"));
        let long = side_by_side(&record(&"a".repeat(500), &["b"], None), 63);
        assert_eq!(long.lines().count(), 1 + LINES_MAX, "{long}");
        assert!(long.contains("..."), "{long}");
        let narrow = side_by_side(&record("a\x1b", &[], Some("no")), 40);
        assert_eq!(narrow, "-- offset 7: kept\na\\u{1b}\n-> no\n");
    }

    #[test]
    fn fate_of_a_version_is_open_until_the_stream_has_it_or_cannot() {
        let version = |more: Value| {
            let mut version = json!({ "digest": "d" });
            version.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            version
        };
        let of = |versions: &[Value]| fate(versions, "d", "s");
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[version(json!({ "state": "current", "streams": ["t"] }))]), None);
        let live = version(json!({ "state": "current", "streams": ["s"] }));
        assert_eq!(of(&[live]), Some(Ok("live in s".to_owned())));
        let refused = version(json!({ "state": "refused", "reason": "why" }));
        assert_eq!(of(&[refused]), Some(Err("why".to_owned())));
        let failed = json!({ "state": "current", "probe_failures": [{ "stream": "s", "reason": "how" }] });
        assert_eq!(of(&[version(failed)]), Some(Err("how".to_owned())));
        let demoted = json!({ "state": "current", "demoted": [{ "stream": "s", "reason": "much" }] });
        assert!(of(&[version(demoted)]).unwrap().unwrap_err().contains("demoted: much"));
        let current = json!({ "digest": "c", "state": "current", "file": "/plugins/s.wasm" });
        let text = waits_for(&[current], "d", "s");
        assert!(text.contains("has not seen the version") && text.contains("/plugins/s.wasm"), "{text}");
        let known = version(json!({ "state": "current", "streams": [] }));
        assert!(waits_for(&[known], "d", "s").contains("stream s does not run it yet"));
        let pinned = json!({ "digest": "e", "pinned": true });
        let text = of(&[version(json!({ "state": "current" })), pinned]).unwrap().unwrap();
        assert!(text.contains("e is pinned"), "{text}");
    }
}

//! `wasmill plugin versions|pin|unpin|rollback|promote|shadow`: which version of a plugin a running host has live.
//!
//! All of it is asked of the host over its HTTP API, which decides; here is how it is asked, and how the answers read.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};
use wasmill_transform::Digest;

use crate::cli::host_client::{AtHost, HostClient, plugin_path};
use crate::cli::output;
use crate::pipeline::{Cost, Difference, ShadowReport, Side, moment_text};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "A version that is pinned goes before what the plugin directory has (current). A demoted one failed too \
    much in a stream, which does not take it again by itself.\n\n\
    Examples:\n  \
    wasmill plugin versions --host http://127.0.0.1:7070\n  \
    wasmill plugin versions parse --json | jq -r '.versions[].digest'"
)]
pub(in crate::cli) struct Versions {
    /// The plugin; all of them by default
    name: Option<String>,
    #[command(flatten)]
    at: AtHost,
}

#[derive(Debug, clap::Args)]
#[command(
    after_help = "New files in the plugin directory become known, are compiled and tried in each stream, and do not go live \
    until the plugin is unpinned. Holds over restarts.\n\n\
    Examples:\n  \
    wasmill plugin pin parse\n  \
    wasmill plugin pin parse@sha256:4f2a... --host http://127.0.0.1:7070"
)]
pub(in crate::cli) struct Pin {
    /// The plugin and the version, NAME@sha256:<64 hex digits>; by default what streams run now
    #[arg(value_name = "NAME[@DIGEST]", value_parser = named)]
    version: Named,
    #[command(flatten)]
    at: AtHost,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  wasmill plugin unpin parse")]
pub(in crate::cli) struct Unpin {
    /// The plugin
    name: String,
    #[command(flatten)]
    at: AtHost,
}

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Needs no file: the host keeps versions that were live. Done again, it goes one further back; versions that \
    were demoted are left out. The way forward again is `promote`.\n\n\
    Example:\n  wasmill plugin rollback parse"
)]
pub(in crate::cli) struct Rollback {
    /// The plugin
    name: String,
    #[command(flatten)]
    at: AtHost,
}

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Streams take it with their next slice: no record is lost, repeated, or transformed by two versions. A \
    version that one of them cannot run is refused. A pin moves to it; it is pinned too if the plugin directory has \
    another one. What it was demoted for is forgiven.\n\n\
    Examples:\n  \
    wasmill plugin promote parse\n  \
    wasmill plugin promote parse@sha256:4f2a..."
)]
pub(in crate::cli) struct Promote {
    /// The plugin and the version, NAME@sha256:<64 hex digits>; by default its shadow
    #[arg(value_name = "NAME[@DIGEST]", value_parser = named)]
    version: Named,
    #[command(flatten)]
    at: AtHost,
}

#[derive(Debug, clap::Args)]
#[command(
    after_help = "The candidate runs on the same slices as the live version; what it makes is compared and thrown away, its \
    dead letters and log lines too. It costs CPU time on a thread of its own with a low priority, by default for a tenth \
    of the slices; slices for which there is no time are skipped and counted. Without --candidate and --stop: the report \
    so far.\n\n\
    Examples:\n  \
    wasmill plugin shadow parse --candidate target/parse.wasm --sample 100\n  \
    wasmill plugin shadow parse\n  \
    wasmill plugin promote parse\n  \
    wasmill plugin shadow parse --stop --json > report.json"
)]
pub(in crate::cli) struct Shadow {
    /// The plugin
    name: String,
    /// A plugin file, which is sent to the host, or the digest of a version that it knows
    #[arg(long, value_name = "FILE|DIGEST", conflicts_with = "stop")]
    candidate: Option<String>,
    /// Percentage of the slices that are compared
    #[arg(long, value_name = "PERCENT", requires = "candidate", value_parser = clap::value_parser!(u8).range(1..=100))]
    sample: Option<u8>,
    /// End it; prints the report for the last time
    #[arg(long)]
    stop: bool,
    #[command(flatten)]
    at: AtHost,
}

/// A plugin, and perhaps one version of it.
#[derive(Clone, Debug)]
struct Named {
    name: String,
    digest: Option<Digest>,
}

fn named(text: &str) -> Result<Named, String> {
    let (name, digest) = match text.split_once('@') {
        Some((name, digest)) => (name, Some(digest)),
        None => (text, None),
    };
    let digest = digest
        .map(|digest| digest.parse().map_err(|error| format!("{error}, and {digest:?} is none")))
        .transpose()?;
    Ok(Named { name: name.to_owned(), digest })
}

impl Named {
    fn body(&self) -> Value {
        self.digest.map_or_else(|| json!({}), |digest| json!({ "digest": digest }))
    }
}

pub(in crate::cli) fn versions(arguments: &Versions) -> Result<ExitCode> {
    let path = match &arguments.name {
        Some(name) => plugin_path(name),
        None => "/v1/plugins".to_owned(),
    };
    let ask = async |client: &HostClient| client.ask(Method::GET, &path, &[]).await;
    arguments.at.with(ask, |answer| {
        let versions = if arguments.name.is_some() { &answer["versions"] } else { answer };
        let versions: Vec<Version> =
            serde_json::from_value(versions.clone()).context("read the host's answer")?;
        Ok(table(&versions))
    })
}

/// One version, as the API shows it.
#[derive(Deserialize)]
struct Version {
    name: String,
    #[serde(default)]
    digest: Option<String>,
    #[serde(default)]
    version: Option<String>,
    file: String,
    state: String,
    #[serde(default)]
    reason: String,
    #[serde(default)]
    streams: Vec<String>,
    #[serde(default)]
    pinned: bool,
    #[serde(default)]
    shadow: bool,
    #[serde(default)]
    live_since_ms: Option<u64>,
    #[serde(default)]
    probe_failures: Vec<InStream>,
    #[serde(default)]
    demoted: Vec<InStream>,
}

#[derive(Deserialize)]
struct InStream {
    stream: String,
    reason: String,
}

fn table(versions: &[Version]) -> String {
    let mut text = String::new();
    let mut name = None;
    for version in versions {
        if name != Some(&version.name) {
            text.push_str(&format!("{}\n", output::plain(&version.name)));
            name = Some(&version.name);
        }
        let mut state = vec![version.state.as_str()];
        state.extend(version.pinned.then_some("pinned"));
        state.extend(version.shadow.then_some("shadow"));
        state.extend((!version.demoted.is_empty()).then_some("demoted"));
        text.push_str(&format!(
            "  {}  {:<10} {}",
            version.digest.as_deref().unwrap_or(&version.file),
            output::plain(version.version.as_deref().unwrap_or("-")),
            state.join(", "),
        ));
        if !version.streams.is_empty() {
            text.push_str(&format!(", runs in {}", version.streams.join(", ")));
        }
        if let Some(since) = version.live_since_ms.filter(|since| *since > 0) {
            text.push_str(&format!(", went live {}", moment(since)));
        }
        text.push('\n');
        if !version.reason.is_empty() {
            text.push_str(&format!("      {}\n", output::plain(&version.reason)));
        }
        for demotion in &version.demoted {
            let reason = output::plain(&demotion.reason);
            text.push_str(&format!("      demoted in {}: {reason}\n", demotion.stream));
        }
        for failure in &version.probe_failures {
            let reason = output::plain(&failure.reason);
            text.push_str(&format!("      cannot run in {}: {reason}\n", failure.stream));
        }
    }
    text
}

fn moment(ms: u64) -> String {
    moment_text(i64::try_from(ms).unwrap_or(0).saturating_mul(1_000_000))
}

/// What was done, in the host's words.
fn message(answer: &Value) -> Result<String> {
    Ok(format!("{}\n", output::plain(answer["message"].as_str().unwrap_or("done"))))
}

pub(in crate::cli) fn pin(arguments: &Pin) -> Result<ExitCode> {
    let path = format!("{}/pin", plugin_path(&arguments.version.name));
    let body = arguments.version.body();
    arguments.at.with(async |client: &HostClient| client.post(&path, &body).await, message)
}

pub(in crate::cli) fn unpin(arguments: &Unpin) -> Result<ExitCode> {
    let path = format!("{}/pin", plugin_path(&arguments.name));
    arguments.at.with(async |client: &HostClient| client.ask(Method::DELETE, &path, &[]).await, message)
}

pub(in crate::cli) fn rollback(arguments: &Rollback) -> Result<ExitCode> {
    let path = format!("{}/rollback", plugin_path(&arguments.name));
    arguments.at.with(async |client: &HostClient| client.post(&path, &json!({})).await, message)
}

pub(in crate::cli) fn promote(arguments: &Promote) -> Result<ExitCode> {
    let path = format!("{}/promote", plugin_path(&arguments.version.name));
    let body = arguments.version.body();
    arguments.at.with(async |client: &HostClient| client.post(&path, &body).await, message)
}

pub(in crate::cli) fn shadow(arguments: &Shadow) -> Result<ExitCode> {
    let path = format!("{}/shadow", plugin_path(&arguments.name));
    let at = &arguments.at;
    if arguments.stop {
        let ask = async |client: &HostClient| client.ask(Method::DELETE, &path, &[]).await;
        return at.with(ask, |answer| Ok(message(answer)? + &reports(answer)?));
    }
    let Some(candidate) = &arguments.candidate else {
        return at.with(async |client: &HostClient| client.ask(Method::GET, &path, &[]).await, reports);
    };
    if let Ok(digest) = candidate.parse::<Digest>() {
        let body = json!({ "digest": digest, "sample_percent": arguments.sample });
        return at.with(async |client: &HostClient| client.post(&path, &body).await, message);
    }
    if candidate.starts_with("sha256:") {
        bail!("--candidate {candidate:?}: a digest is sha256: and 64 hexadecimal digits");
    }
    let wasm = super::read(Path::new(candidate))?;
    let sample: Vec<_> =
        arguments.sample.iter().map(|percent| ("sample_percent", percent.to_string())).collect();
    let ask = async |client: &HostClient| client.upload(&path, &sample, "application/wasm", wasm).await;
    at.with(ask, message)
}

fn reports(answer: &Value) -> Result<String> {
    let reports: Vec<ShadowReport> =
        serde_json::from_value(answer["reports"].clone()).context("read the host's answer")?;
    Ok(reports.iter().map(report).collect::<Vec<_>>().join("\n"))
}

fn report(report: &ShadowReport) -> String {
    let count = |kind: Difference| report.differences.get(&kind).copied().unwrap_or(0);
    let slices = report.slices;
    let mut text = format!(
        "{} in stream {}: candidate {} beside {}, {} % of the slices since {}\n",
        report.plugin,
        report.stream,
        report.candidate,
        report.live,
        report.sample_percent,
        moment(report.since_ms)
    );
    let mut line =
        |name: &str, what: String| text.push_str(&format!("  {name:<10} {}\n", output::plain(&what)));
    if let Some(reason) = &report.stopped {
        line("stopped", reason.clone());
    }
    line(
        "slices",
        format!(
            "{} seen, {} compared, {} skipped for want of time, {} not finished by the candidate",
            slices.seen, slices.compared, slices.skipped, slices.unfinished
        ),
    );
    line(
        "records",
        format!(
            "{} compared, {} the same, {} differ",
            report.records,
            report.same,
            report.records - report.same
        ),
    );
    for (kind, name, what) in [
        (Difference::Kept, "kept", "that the live version drops"),
        (Difference::Dropped, "dropped", "that the live version keeps"),
        (Difference::Changed, "changed", "other rows come of them"),
        (Difference::Elsewhere, "elsewhere", "the same rows go to another output or partition"),
        (Difference::Failed, "failed", "under the candidate alone"),
        (Difference::Mended, "mended", "that fail under the live version alone"),
    ] {
        if count(kind) > 0 {
            line("", format!("{:>8} {name}: {what}", count(kind)));
        }
    }
    if report.own_rows_live + report.own_rows_candidate > 0 {
        let (live, candidate) = (report.own_rows_live, report.own_rows_candidate);
        line("", format!("rows that no record stands behind: live {live}, candidate {candidate}"));
    }
    line("live", cost(&report.cost_live, report.records));
    line("candidate", cost(&report.cost_candidate, report.records));
    report.faults.iter().for_each(|fault| line("fault", fault.clone()));
    report.log.iter().for_each(|logged| line("log", logged.clone()));
    for sample in &report.samples {
        text.push_str(&format!("\n  offset {}\n", sample.offset));
        text.push_str(&format!("    before     {}\n", output::plain(&sample.before)));
        text.push_str(&side("live", &sample.live));
        text.push_str(&side("candidate", &sample.candidate));
    }
    text
}

fn cost(cost: &Cost, records: u64) -> String {
    format!(
        "{} ns per record ({} ns with the other transforms), {} at most, {} traps",
        cost.cpu_ns / records.max(1),
        cost.chain_cpu_ns / records.max(1),
        output::binary_size(cost.memory_bytes_peak),
        cost.traps
    )
}

fn side(name: &str, side: &Side) -> String {
    let mut text = format!("    {name:<10} {}", side.fate);
    if let Some(reason) = &side.reason {
        text.push_str(&format!(": {}", output::plain(reason)));
    }
    text.push('\n');
    for row in &side.rows {
        text.push_str(&format!("               {}\n", output::plain(row)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_on_the_command_line_is_a_name_and_perhaps_a_digest() {
        let digest = format!("sha256:{}", "ab".repeat(32));
        let whole = named(&format!("parse@{digest}")).unwrap();
        assert_eq!(
            (whole.name.as_str(), whole.digest.map(|digest| digest.to_string())),
            ("parse", Some(digest))
        );
        assert!(named("parse").unwrap().digest.is_none());
        let error = named("parse@latest").unwrap_err();
        assert!(error.contains("64 hexadecimal digits") && error.contains("latest"), "{error}");
    }

    #[test]
    fn table_shows_states_and_reasons_and_moves_no_cursor() {
        let versions: Vec<Version> = serde_json::from_value(json!([
            { "name": "a", "file": "a.wasm", "state": "current", "digest": "sha256:1", "version": "1.0.0", "pinned": true,
              "streams": ["s"], "live_since_ms": 1_767_225_600_000u64 },
            { "name": "a", "file": "a.wasm", "state": "kept", "digest": "sha256:2",
              "demoted": [{ "stream": "s", "reason": "it\u{1b}[2J fails" }] },
            { "name": "b", "file": "b.wasm", "state": "refused", "reason": "no module" },
        ]))
        .unwrap();
        let text = table(&versions);
        assert!(
            text.contains("sha256:1  1.0.0      current, pinned, runs in s, went live 2026-01-01T00:00:00"),
            "{text}"
        );
        assert!(
            text.contains("kept, demoted") && text.contains("demoted in s: it\\u{1b}[2J fails"),
            "{text}"
        );
        assert!(text.contains("b.wasm") && text.contains("no module"), "{text}");
    }
}

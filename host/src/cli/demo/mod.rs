//! `wasmill demo`: a whole host in this process, fed over real HTTP, with a plugin replaced in the middle, and its books
//! checked against what lies on disk at the end.
//!
//! It uses nothing that a user does not have: the public push API, a plugin directory, a configuration file. It ends
//! with an error if a single record is missing or too many.

mod input;
mod progress;
mod push;
mod stage;
mod summary;
mod verify;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use wasmill_catalog::VersionState;

use self::input::Input;
use self::progress::{Figures, Progress, Whole};
use self::push::Acknowledged;
use self::stage::{CONFIG, Replacement, STREAM, Stage};
use self::summary::{Reload, Summary};
use super::{host_options, output, runtime};
use crate::pipeline::stats::StreamStats;
use crate::pipeline::{Host, StartError};
use crate::telemetry::{LogOptions, start_log};

/// Bodies that are ready to be pushed.
const BODIES_READY_MAX: usize = 8;
/// Longest wait for the new plugin version to take over.
const RELOAD_MAX: Duration = Duration::from_secs(60);
/// Longest wait for the last records to be delivered.
const DRAIN_MAX: Duration = Duration::from_secs(300);
/// How often conditions are looked at that nobody announces.
const LOOK_EVERY: Duration = Duration::from_millis(10);

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Starts a host on a free loopback port with an embedded configuration (--print-config), pushes an \
    access log through parse -> filter -> enrich -> features into zstd-compressed NDJSON files, replaces the filter \
    plugin in the live directory half-way, drains, and counts what came out.\n\n\
    Examples:\n  \
    wasmill demo\n  \
    wasmill demo --input /var/log/nginx/access.log --dir /tmp/mine\n  \
    wasmill demo --json --records 100000 | jq .delivered"
)]
pub(super) struct Arguments {
    /// Directory with parse.wasm, filter.wasm, enrich.wasm, features.wasm [default: plugins beside this program]
    #[arg(long, value_name = "DIR")]
    plugins: Option<PathBuf>,
    /// Records of the generated access log
    #[arg(long, value_name = "N", default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    records: u64,
    /// An access log (combined format) to use instead of a generated one
    #[arg(long, value_name = "FILE", conflicts_with = "records")]
    input: Option<PathBuf>,
    /// Where everything is put; that of an earlier demo is replaced
    #[arg(long, value_name = "DIR", default_value = "wasmill-demo")]
    dir: PathBuf,
    /// Keep the journal and the plugins too, so that `wasmill run DIR/wasmill.toml` goes on from there
    #[arg(long)]
    keep: bool,
    /// One JSON object on stdout at the end instead of text
    #[arg(long)]
    json: bool,
    /// Print the configuration that the demo uses, and do nothing else
    #[arg(long)]
    print_config: bool,
}

pub(super) fn run(arguments: &Arguments, log: &LogOptions) -> Result<ExitCode> {
    if arguments.print_config {
        return output::print(CONFIG);
    }
    let input = match &arguments.input {
        Some(path) => Input::file(path)?,
        None => Input::Generated { records: arguments.records },
    };
    let progress = Progress::new(match input {
        Input::Generated { records } => Whole::Records(records),
        Input::File { bytes, .. } => Whole::Bytes(bytes),
    });
    start_log(log, progress.log_writer())?;
    let stage = Stage::set(&arguments.dir, arguments.plugins.as_deref())?;
    let summary = runtime()?.block_on(play(&stage, input, progress, arguments.keep))?;
    if arguments.json { output::print_json(&summary) } else { output::print(&summary.text()) }
}

async fn play(stage: &Stage, input: Input, mut progress: Progress, keep: bool) -> Result<Summary> {
    progress.say(&format!("demo: in {}: starting a host, compiling its plugins", stage.dir.display()));
    let host = start(stage).await?;
    let address = host.http_address().context("the host does not listen")?;
    let stats = host.stats();
    let stats = stats.iter().find(|stats| stats.name == STREAM).context("the host has no such stream")?;
    let url = format!("http://{address}/v1/streams/{STREAM}/records");
    progress.say(&format!("demo: pushing to {url} over {} connections", push::CONNECTIONS));
    progress.begin();
    let started = Instant::now();

    let acknowledged = Arc::new(Acknowledged::default());
    let (bodies, ready) = mpsc::channel(BODIES_READY_MAX);
    let (go_on, wait) = watch::channel(false);
    let half = Half::of(&input);
    let reader = tokio::task::spawn_blocking(move || input.send(&bodies));
    let reload = {
        let replacement = stage.replacement()?;
        progress.say(&format!(
            "demo: half-way, {}.wasm will be replaced in the live directory",
            replacement.plugin
        ));
        let pushing = push::push_all(url, ready, wait, Arc::clone(&acknowledged));
        let replacing = replace(
            &host,
            stats,
            replacement,
            || half.is_done(&acknowledged, &reader),
            &go_on,
            &acknowledged,
        );
        let both = async { tokio::try_join!(pushing, replacing).map(|((), reload)| reload) };
        while_showing(&mut progress, stats, &acknowledged, both).await?
    };
    reader.await.context("read the input")??;
    progress.say(&format!(
        "demo: {} {} took over from {} after {} ms, while records went on",
        reload.plugin, reload.to, reload.from, reload.ms
    ));
    while_showing(&mut progress, stats, &acknowledged, async { Ok(host.drain(DRAIN_MAX).await?) })
        .await
        .context("drain the host")?;
    let took = started.elapsed();
    let figures = figures(stats, &acknowledged);
    drop(progress);
    // Its directory may go now.
    drop(host);

    let (out, letters) = (stage.out(), stage.dead_letters());
    let read_back = tokio::task::spawn_blocking(move || {
        Ok::<_, anyhow::Error>((verify::objects(&out)?, verify::lines(&letters)?))
    });
    let (delivered, letters) = read_back.await.context("read the objects back")??;
    let mut summary = Summary::new(stage, &figures, &delivered, letters, reload, took);
    summary.refused_requests = acknowledged.refused();
    summary.check(&figures)?;
    if !keep {
        stage.tidy(letters > 0)?;
    }
    summary.note_places(stage, keep);
    Ok(summary)
}

async fn start(stage: &Stage) -> Result<Host> {
    match Host::start(stage.settings()?, host_options()?).await {
        Ok(host) => Ok(host),
        Err(StartError::Invalid(problems)) => {
            super::check::complain(&problems);
            bail!("the plugins do not go with the demo's configuration")
        }
        Err(error) => Err(error).context("start the host"),
    }
}

/// Waits for `work` and shows how far things are.
async fn while_showing<T>(
    progress: &mut Progress,
    stats: &StreamStats,
    acknowledged: &Acknowledged,
    work: impl Future<Output = Result<T>>,
) -> Result<T> {
    tokio::pin!(work);
    let mut tick = tokio::time::interval(progress.every());
    loop {
        tokio::select! {
            done = &mut work => return done,
            _ = tick.tick() => progress.show(&figures(stats, acknowledged)),
        }
    }
}

fn figures(stats: &StreamStats, acknowledged: &Acknowledged) -> Figures {
    let of_outputs =
        |read: &dyn Fn(&crate::pipeline::stats::OutputStats) -> u64| stats.outputs.iter().map(read).sum();
    Figures {
        acknowledged: acknowledged.records(),
        acknowledged_bytes: acknowledged.bytes(),
        processed: stats.processed.get(),
        dropped: stats.dropped.get(),
        dead_letters: stats.dead_letters.get(),
        delivered: of_outputs(&|output| output.delivered.get()),
        objects: of_outputs(&|output| output.objects.get()),
        object_bytes: of_outputs(&|output| output.bytes.get()),
    }
}

/// When the plugin is replaced.
enum Half {
    Records(u64),
    Bytes(u64),
}

impl Half {
    fn of(input: &Input) -> Half {
        match input {
            Input::Generated { records } => Half::Records(records / 2),
            Input::File { bytes, .. } => Half::Bytes(bytes / 2),
        }
    }

    /// Half of the input is acknowledged, or all of it is on its way.
    fn is_done(&self, acknowledged: &Acknowledged, reader: &JoinHandle<Result<()>>) -> bool {
        reader.is_finished()
            || match self {
                Half::Records(records) => acknowledged.records() >= *records,
                Half::Bytes(bytes) => acknowledged.bytes() >= *bytes,
            }
    }
}

/// Replaces the plugin when it is time, waits until the stream runs the new version, then lets the last bodies go.
async fn replace(
    host: &Host,
    stats: &StreamStats,
    replacement: Replacement,
    is_time: impl Fn() -> bool,
    go_on: &watch::Sender<bool>,
    acknowledged: &Acknowledged,
) -> Result<Reload> {
    let mut look = tokio::time::interval(LOOK_EVERY);
    while !is_time() {
        look.tick().await;
    }
    let at_record = acknowledged.records();
    let (put, replacement) = tokio::task::spawn_blocking(move || (replacement.put(), replacement))
        .await
        .context("replace the plugin")?;
    put?;
    let since = Instant::now();
    let digest = replacement.digest.to_string();
    while !stats.with_transforms(|transforms| transforms.iter().any(|transform| transform.digest == digest)) {
        let states = host.plugins();
        let state = states.iter().find(|state| state.digest == Some(replacement.digest));
        if let Some(VersionState::Refused { reason }) = state.map(|state| &state.state) {
            bail!("the new version of {} was refused: {}", replacement.plugin, output::plain(reason));
        }
        if since.elapsed() > RELOAD_MAX {
            bail!("the new version of {} did not take over within {RELOAD_MAX:?}", replacement.plugin);
        }
        look.tick().await;
    }
    let ms = u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX);
    go_on.send_replace(true);
    let Replacement { plugin, from, to, .. } = replacement;
    Ok(Reload { plugin, from, to, digest, ms, at_record })
}

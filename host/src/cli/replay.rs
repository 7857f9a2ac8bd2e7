//! `wasmill replay`: the history of a stream once more, through other versions of its plugins, into a directory or beside
//! an output's objects.
//!
//! A running host is asked over its HTTP API; where none runs, the same code runs here, on the locked data directory. It
//! owns what is said meanwhile: a bar on a terminal, lines elsewhere, JSON where asked.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use indicatif::{ProgressBar, ProgressStyle};
use reqwest::Method;
use serde::de::IgnoredAny;
use tokio::signal::unix::{SignalKind, signal};
use wasmill_config::{DEFAULT_TENANT, Settings};

use super::config_file::DEFAULT;
use super::host_client::{Access, HostClient, stream_path};
use super::{EXIT_UNDELIVERED, EXIT_USAGE, check, host_options, output, runtime, version};
use crate::pipeline::stats::wall_clock_ns;
use crate::pipeline::{
    Alone, AloneError, ReplayPlan, ReplayProgress, ReplayState, StartError, moment_text, new_id, parse_id,
    parse_moment,
};

/// How often is asked how far it is.
const ASK_EVERY: Duration = Duration::from_millis(200);
/// How often that is said, where nothing overwrites it.
const SAY_EVERY: Duration = Duration::from_secs(2);

#[derive(Debug, clap::Args)]
#[command(
    after_help = "TIME is RFC 3339 (2026-01-31T12:00:00Z), now, or so long ago: -90s, -30m, -2h, -7d. Records count by \
    their arrival, from --from to before --to. A stream keeps delivered records only with `retention` in its \
    configuration. Live delivery is not touched, whether a host runs or not.\n\n\
    A replay that was cut off goes on with the same --id, --from, --to and --plugin (the command is said at the start, \
    with times that do not move): what it has made stays, and what is missing is added. Ctrl-C cancels. Exit codes: 0 done, 1 failed or cancelled, 2 wrong command line or configuration, \
    3 done, but some records of the span could not be read any more.\n\n\
    Examples:\n  \
    wasmill replay access --from -2h --to now --output again\n  \
    wasmill replay access --from 2026-01-31T00:00:00Z --to 2026-02-01T00:00:00Z \\\n      \
    --plugin parse@sha256:4f2a... --output january --json\n  \
    wasmill replay access --from -7d --to now --destination default"
)]
pub(super) struct Arguments {
    /// The stream
    stream: String,
    /// Arrival of the first record that counts
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    from: String,
    /// Arrival of the first record that counts no more
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    to: String,
    /// Run this version in place of the one that the stream has: name@sha256:<64 hex digits>; may be given several times
    #[arg(long = "plugin", value_name = "VERSION", value_parser = version)]
    plugins: Vec<String>,
    /// New or empty directory for the objects; dead letters stand beside them
    #[arg(long, value_name = "DIR", conflicts_with = "destination", required_unless_present = "destination")]
    output: Option<PathBuf>,
    /// Put the objects of all outputs to where this output of the stream delivers, below replays/ID
    #[arg(long, value_name = "OUTPUT")]
    destination: Option<String>,
    /// The configuration (TOML)
    #[arg(long, value_name = "FILE", default_value = DEFAULT)]
    config: PathBuf,
    /// Address of the running host, where the configuration does not say it: http://127.0.0.1:8080
    #[arg(long, value_name = "URL")]
    host: Option<String>,
    /// Go on with this replay
    #[arg(long, value_name = "ID")]
    id: Option<String>,
    /// One JSON object a line on stdout: how far it is, and at last what it has done
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    access: Access,
}

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let settings = match Settings::load(&arguments.config) {
        Ok(settings) => settings,
        Err(error) => return Ok(check::refuse(&error)),
    };
    let plan = match plan(arguments, &settings) {
        Ok(plan) => plan,
        Err(message) => {
            output::complain(format_args!("error: {message}"));
            return Ok(ExitCode::from(EXIT_USAGE));
        }
    };
    runtime()?.block_on(replay(arguments, settings, plan))
}

/// What the command line asks for, with moments that do not move.
fn plan(arguments: &Arguments, settings: &Settings) -> Result<ReplayPlan, String> {
    let stream = &arguments.stream;
    let Some(known) = settings.streams.iter().find(|known| known.name == *stream) else {
        let known: Vec<&str> = settings.streams.iter().map(|known| known.name.as_str()).collect();
        return Err(format!(
            "{} has no stream {stream:?}, it has {}",
            arguments.config.display(),
            known.join(", ")
        ));
    };
    if let Some(wanted) = &arguments.destination
        && !known.outputs.iter().any(|output| output.name == *wanted)
    {
        let names: Vec<&str> = known.outputs.iter().map(|output| output.name.as_str()).collect();
        return Err(format!(
            "--destination: stream {stream:?} has no output {wanted:?}, it has {}",
            names.join(", ")
        ));
    }
    let now = wall_clock_ns();
    let moment = |name: &str, text: &str| {
        parse_moment(text, now).map(moment_text).map_err(|error| format!("--{name}: {error}"))
    };
    let id = match &arguments.id {
        Some(id) if parse_id(id).is_none() => {
            return Err(format!(
                "--id {id:?} is no id of a replay, expected the 32 hexadecimal digits that it said"
            ));
        }
        Some(id) => id.clone(),
        None => new_id().map_err(|error| format!("draw an id: {error}"))?,
    };
    let absolute = |dir: &PathBuf| std::path::absolute(dir).map_err(|error| format!("--output: {error}"));
    Ok(ReplayPlan {
        id,
        stream: stream.clone(),
        from: moment("from", &arguments.from)?,
        to: moment("to", &arguments.to)?,
        plugins: arguments.plugins.clone(),
        output: arguments.output.as_ref().map(absolute).transpose()?,
        destination: arguments.destination.clone(),
        offsets: None,
    })
}

async fn replay(arguments: &Arguments, settings: Settings, plan: ReplayPlan) -> Result<ExitCode> {
    let runner = match Runner::open(arguments, settings).await {
        Ok(runner) => runner,
        Err(error) => match error.downcast::<StartError>() {
            Ok(StartError::Invalid(problems)) => {
                check::complain(&problems);
                return Ok(ExitCode::from(EXIT_USAGE));
            }
            Ok(error) => return Err(error.into()),
            Err(error) => return Err(error),
        },
    };
    let ended = watched(arguments, &runner, &plan).await;
    runner.close().await?;
    let progress = ended?;
    say_last(arguments, &progress)?;
    let again = || format!("it goes on with: {}", again(arguments, &plan));
    match progress.state {
        ReplayState::Done if progress.missing > 0 => Ok(ExitCode::from(EXIT_UNDELIVERED)),
        ReplayState::Done => Ok(ExitCode::SUCCESS),
        ReplayState::Cancelled => bail!("the replay was cancelled; {}", again()),
        ReplayState::Failed | ReplayState::Running => {
            bail!("the replay failed: {}; {}", progress.error.unwrap_or_default(), again())
        }
    }
}

/// The command that goes on with a replay, whatever time it is then.
fn again(arguments: &Arguments, plan: &ReplayPlan) -> String {
    let mut words = vec!["wasmill".to_owned(), "replay".to_owned(), plan.stream.clone()];
    let mut give = |name: &str, value: &str| words.extend([name.to_owned(), in_shell(value)]);
    give("--config", &arguments.config.display().to_string());
    if let Some(host) = &arguments.host {
        give("--host", host);
    }
    give("--id", &plan.id);
    give("--from", &plan.from);
    give("--to", &plan.to);
    plan.plugins.iter().for_each(|plugin| give("--plugin", plugin));
    if let Some(dir) = &plan.output {
        give("--output", &dir.display().to_string());
    }
    if let Some(destination) = &plan.destination {
        give("--destination", destination);
    }
    words.join(" ")
}

/// As a shell takes it for one word.
fn in_shell(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:@=+,".contains(&byte);
    if !text.is_empty() && text.bytes().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", output::plain(text).replace('\'', r"'\''"))
}

/// Starts it and says how far it is until it has ended.
async fn watched(arguments: &Arguments, runner: &Runner, plan: &ReplayPlan) -> Result<ReplayProgress> {
    let made = match &plan.output {
        Some(dir) => plan.prepare(dir, arguments.id.is_some())?.then_some(dir),
        None => None,
    };
    let mut progress = match runner.start(plan).await {
        Ok(progress) => progress,
        Err(error) => {
            if let Some(dir) = made {
                ReplayPlan::forget(dir);
            }
            return Err(error);
        }
    };
    let mut interrupt = signal(SignalKind::interrupt()).context("listen for signals")?;
    let mut terminate = signal(SignalKind::terminate()).context("listen for signals")?;
    let mut say = Saying::new(arguments, &progress);
    let again = again(arguments, plan);
    say.first(&progress, &again)?;
    while progress.state == ReplayState::Running {
        tokio::select! {
            () = tokio::time::sleep(ASK_EVERY) => {}
            _ = interrupt.recv() => runner.cancel(plan).await?,
            _ = terminate.recv() => runner.cancel(plan).await?,
        }
        // A host remembers replays for as long as it runs.
        progress = runner.progress(plan).await.map_err(|error| {
            anyhow!("the host does not answer any more ({error:#}); a replay ends with its host, and goes on with: {again}")
        })?;
        say.now(&progress)?;
    }
    say.bar.finish_and_clear();
    Ok(progress)
}

/// Who runs it.
enum Runner {
    Host(HostClient),
    Alone(Box<Alone>),
}

impl Runner {
    async fn open(arguments: &Arguments, settings: Settings) -> Result<Runner> {
        if let Some(address) = &arguments.host {
            return Ok(Runner::Host(HostClient::new(address, &arguments.access)?));
        }
        let http = settings.http.clone();
        match Alone::open(settings, DEFAULT_TENANT, &arguments.stream, host_options()?).await {
            Ok(alone) => Ok(Runner::Alone(Box::new(alone))),
            Err(AloneError::Start(error)) => Err(error.into()),
            Err(error @ AloneError::Running { .. }) => {
                let otherwise = "give its address with --host";
                Ok(Runner::Host(HostClient::listening(&http, &error, otherwise, &arguments.access)?))
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn start(&self, plan: &ReplayPlan) -> Result<ReplayProgress> {
        match self {
            Runner::Host(client) => client.post(&replays(plan), plan).await,
            Runner::Alone(alone) => Ok(alone.start(plan.clone()).await?),
        }
    }

    async fn progress(&self, plan: &ReplayPlan) -> Result<ReplayProgress> {
        match self {
            Runner::Host(client) => {
                client.ask(Method::GET, &format!("{}/{}", replays(plan), plan.id), &[]).await
            }
            Runner::Alone(alone) => Ok(alone.progress(&plan.id)?),
        }
    }

    async fn cancel(&self, plan: &ReplayPlan) -> Result<()> {
        match self {
            Runner::Host(client) => {
                let path = format!("{}/{}", replays(plan), plan.id);
                client.ask::<IgnoredAny>(Method::DELETE, &path, &[]).await?;
            }
            Runner::Alone(alone) => {
                alone.cancel(&plan.id)?;
            }
        }
        Ok(())
    }

    async fn close(self) -> Result<()> {
        match self {
            Runner::Host(_) => Ok(()),
            Runner::Alone(alone) => alone.close().await.context("close the data directory"),
        }
    }
}

/// The path of a stream's replays.
fn replays(plan: &ReplayPlan) -> String {
    format!("{}/replays", stream_path(&plan.stream))
}

/// What is said, and where.
struct Saying {
    json: bool,
    bar: ProgressBar,
    said: Instant,
}

impl Saying {
    fn new(arguments: &Arguments, progress: &ReplayProgress) -> Saying {
        let bar = if !arguments.json && std::io::stderr().is_terminal() {
            let style = ProgressStyle::with_template(
                "{bar:30} {percent:>3} %  {pos} of {len} records  {msg}  {eta} left",
            );
            let bar = ProgressBar::new(progress.end_offset - progress.first_offset);
            style.map_or(bar.clone(), |style| bar.with_style(style))
        } else {
            ProgressBar::hidden()
        };
        Saying { json: arguments.json, bar, said: Instant::now() }
    }

    fn first(&self, progress: &ReplayProgress, again: &str) -> Result<()> {
        if self.json {
            output::print_json(progress)?;
        } else {
            self.bar.suspend(|| {
                output::complain(format_args!(
                    "replay {} of stream {}: about {} records that arrived from {} to before {}, into {}\ncut off, it goes \
                     on with: {again}",
                    progress.id,
                    output::plain(&progress.stream),
                    progress.end_offset - progress.first_offset,
                    progress.from,
                    progress.to,
                    output::plain(&progress.output)
                ));
            });
        }
        Ok(())
    }

    fn now(&mut self, progress: &ReplayProgress) -> Result<()> {
        self.bar.set_position(progress.next_offset - progress.first_offset);
        let trouble = progress.error.as_ref().map(|error| format!(", {}", output::plain(error)));
        let so_far = format!(
            "{} failed, {} objects, {}{}",
            progress.failed,
            progress.objects + progress.objects_there,
            output::binary_size(progress.bytes),
            trouble.unwrap_or_default(),
        );
        if !self.bar.is_hidden() {
            self.bar.set_message(so_far);
            return Ok(());
        }
        if self.said.elapsed() < SAY_EVERY {
            return Ok(());
        }
        self.said = Instant::now();
        if self.json {
            output::print_json(progress)?;
        } else {
            let about = progress.end_offset - progress.first_offset;
            output::complain(format_args!("{} of about {about} records, {so_far}", progress.records));
        }
        Ok(())
    }
}

/// What has come of it.
fn say_last(arguments: &Arguments, progress: &ReplayProgress) -> Result<()> {
    if arguments.json {
        output::print_json(progress)?;
        return Ok(());
    }
    let mut text = format!(
        "replay {}: {} records: {} passed, {} dropped, {} failed\n{} emitted, {} delivered in {} objects ({}), {} there before, {}\n",
        progress.id,
        progress.records,
        progress.passed,
        progress.dropped,
        progress.failed,
        progress.emitted,
        progress.delivered,
        progress.objects,
        output::binary_size(progress.bytes),
        progress.objects_there,
        output::plain(&progress.output),
    );
    if let Some(letters) = &progress.dead_letters {
        text.push_str(&format!(
            "dead letters: {}\n",
            output::plain(&Path::new(letters).display().to_string())
        ));
    }
    if let Some(kept_from) = &progress.kept_from {
        text.push_str(&format!(
            "history is kept from {kept_from} on: what arrived between {} and then is gone\n",
            progress.from
        ));
    }
    if progress.missing > 0 {
        text.push_str(&format!(
            "{} records of the span could not be read: corrupt, or let go of by retention\n",
            progress.missing
        ));
    }
    output::print(&text)?;
    Ok(())
}

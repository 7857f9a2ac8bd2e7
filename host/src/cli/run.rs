//! `wasmill run`: a host from start to a clean end.
//!
//! The first SIGTERM or SIGINT drains: no more intake, everything that is stored is delivered, within a deadline. A
//! second one ends the process at once; what was acknowledged is in the journal and is delivered after the next start.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use wasmill_config::{Draft, Settings};

use super::config_file::ConfigFile;
use super::{EXIT_UNDELIVERED, EXIT_USAGE, check, host_options, runtime};
use crate::pipeline::stats::LetterStats;
use crate::pipeline::{self, DrainError, Host, StartError};

/// Signals that come so close to the first one are the same request: `timeout` and some supervisors signal the process
/// and then its whole group.
const SAME_REQUEST: Duration = Duration::from_millis(250);
/// How often a drain says what it still waits for.
const WAITING_EVERY: Duration = Duration::from_secs(5);

#[derive(Debug, clap::Args)]
#[command(
    after_help = "SIGTERM and SIGINT drain: intake stops, everything that was acknowledged is delivered, then the \
    process ends with 0. What is not delivered within --drain-timeout, or waits in a stream that its plugins paused, \
    stays for the next start: the process says what and why, and ends with 1. A second signal ends it at once; what \
    was acknowledged is delivered after the next start.\n\n\
    The configuration is followed: when the file changes, and on SIGHUP, streams that came, changed or went are applied; a \
    file that is bad is refused as a whole, and what was before goes on.\n\n\
    A configuration whose sources are all finite (stdin, files that are read once) ends by itself: with 0, or with 3 \
    when not everything could be delivered: records are kept as dead letters of stage delivery, or a stream is paused \
    (by failing plugins, full dead letters, an output with then = \"pause\") and nothing has moved for --drain-timeout. \
    What waits there stays for the next start. Records that a plugin fails on, or that do not fit the format of their \
    output, are counted as dead letters, and change no exit code.\n\n\
    Examples:\n  \
    wasmill run wasmill.toml\n  \
    wasmill run --drain-timeout 5m --log-format json wasmill.toml\n  \
    WASMILL_LOG=info,plugin=debug wasmill run wasmill.toml"
)]
pub(super) struct Arguments {
    #[command(flatten)]
    config: ConfigFile,
    /// Longest time to deliver what is stored after the first signal, and for a pause after the end of all sources, such as 30s, 5m
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration)]
    drain_timeout: Duration,
}

/// `250ms`, `30s`, `5m`, `2h`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let unit_ms = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err("expected a number and a unit, such as 250ms, 30s, 5m or 2h".to_owned()),
    };
    let number: u64 = number.parse().map_err(|_no_number| "expected a number and a unit".to_owned())?;
    let millis = number.checked_mul(unit_ms).filter(|millis| *millis <= 7 * 24 * 3_600_000);
    millis.map(Duration::from_millis).ok_or_else(|| "expected at most 168h".to_owned())
}

/// As many open files as the system lets this process have: each stream and each connection has one.
fn raise_file_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        limit.current = limit.maximum;
        if let Err(error) = setrlimit(Resource::Nofile, limit) {
            tracing::warn!(%error, "the limit of open files cannot be raised");
        }
    }
}

/// Memory that was freed goes back to the system also while nothing is allocated.
fn give_memory_back() {
    if let Err(error) = tikv_jemalloc_ctl::background_thread::write(true) {
        tracing::warn!(%error, "freed memory goes back only while more is allocated");
    }
}

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode> {
    raise_file_limit();
    give_memory_back();
    let draft = match Draft::load(arguments.config.path()) {
        Ok(draft) => draft,
        Err(error) => return Ok(check::refuse(&error)),
    };
    let runtime = runtime()?;
    if !draft.problems().is_empty() {
        check::complain(&runtime.block_on(pipeline::check(&draft, &host_options()?)));
        return Ok(ExitCode::from(EXIT_USAGE));
    }
    let settings = draft.finish().context("check the configuration")?;
    runtime.block_on(serve(settings, arguments.drain_timeout))
}

async fn serve(settings: Settings, drain_timeout: Duration) -> Result<ExitCode> {
    let mut signalled = watch_signals()?;
    // What is said to a host that starts is heard, too.
    let hangup = signal(SignalKind::hangup()).context("listen for signals")?;
    let (file, data_dir) = (settings.file.clone(), settings.data_dir.clone());
    let streams = settings.streams.len();
    let started = tokio::select! {
        started = Host::start(settings, host_options()?) => started,
        _ = signalled.changed() => {
            tracing::info!("stopped before the start was complete");
            return Ok(ExitCode::SUCCESS);
        }
    };
    let host = match started {
        Ok(host) => host,
        Err(StartError::Invalid(problems)) => {
            check::complain(&problems);
            return Ok(ExitCode::from(EXIT_USAGE));
        }
        Err(error) => return Err(error).context("start"),
    };
    tracing::info!(
        config = %file.display(), data_dir = %data_dir.display(), streams,
        http = host.http_address().map(tracing::field::display), "wasmill is running"
    );
    let following = tokio::spawn(host.clone().follow_file(hangup));
    let within_ms = u64::try_from(drain_timeout.as_millis()).unwrap_or(u64::MAX);
    let held_up = host.held_up(drain_timeout, |waiting_for| {
        tracing::warn!(
            waiting_for,
            within_ms,
            "every source has ended, and what is left is held up: a run that nothing moves any more ends"
        );
    });
    let by_itself = tokio::select! {
        () = host.ended() => {
            tracing::info!("every stream has ended");
            true
        }
        () = held_up => {
            tracing::error!(waiting_for = host.waiting(), "nothing moves any more: stopping");
            true
        }
        _ = signalled.changed() => {
            tracing::info!(
                waiting_for = host.waiting(), within_ms,
                "stopping when everything is delivered; a second signal stops at once"
            );
            false
        }
    };
    // A change that has begun is done, or refused, all the same.
    following.abort();
    end(drain(&host, drain_timeout).await, &Ended::of(&host, by_itself))
}

async fn drain(host: &Host, deadline: Duration) -> Result<(), DrainError> {
    let draining = host.drain(deadline);
    tokio::pin!(draining);
    let mut tick = tokio::time::interval(WAITING_EVERY);
    // The first tick comes at once, and what is waited for has just been said.
    tick.tick().await;
    loop {
        tokio::select! {
            drained = &mut draining => return drained,
            _ = tick.tick() => tracing::info!(waiting_for = host.waiting(), "still stopping"),
        }
    }
}

/// What a run leaves behind.
struct Ended {
    /// Its sources came to their end; nobody asked it to stop.
    by_itself: bool,
    /// Dead letters of this run.
    transform: u64,
    encode: u64,
    delivery: u64,
    /// Those that are there at the end, of whatever run.
    kept: u64,
    /// Records that no output took, not even the fallback.
    undelivered: u64,
}

impl Ended {
    fn of(host: &Host, by_itself: bool) -> Ended {
        let streams = host.stats();
        let letters = |count: fn(&LetterStats) -> u64| streams.iter().map(|s| count(&s.dead_letters)).sum();
        let outputs = streams.iter().flat_map(|stream| &stream.outputs);
        Ended {
            by_itself,
            transform: letters(|letters| letters.transform.get()),
            encode: letters(|letters| letters.encode.get()),
            delivery: letters(|letters| letters.delivery.get()),
            kept: letters(|letters| letters.kept.get()),
            undelivered: outputs
                .map(|output| output.delivery_failed.get().saturating_sub(output.fallen_back.get()))
                .sum(),
        }
    }
}

fn end(drained: Result<(), DrainError>, ended: &Ended) -> Result<ExitCode> {
    match drained {
        Ok(()) => {
            let Ended { transform, encode, delivery, kept, undelivered, .. } = *ended;
            let dead_letters = transform + encode + delivery;
            if undelivered > 0 {
                tracing::error!(
                    records_not_delivered = undelivered,
                    dead_letters,
                    transform,
                    encode,
                    delivery,
                    dead_letters_kept = kept,
                    "stopped, and not everything could be delivered; what could not became dead letters"
                );
                return Ok(if ended.by_itself {
                    ExitCode::from(EXIT_UNDELIVERED)
                } else {
                    ExitCode::SUCCESS
                });
            }
            if dead_letters > 0 {
                tracing::info!(
                    dead_letters,
                    transform,
                    encode,
                    dead_letters_kept = kept,
                    "stopped, everything is delivered but records that became dead letters in this run"
                );
            } else {
                tracing::info!(
                    dead_letters_kept = Some(kept).filter(|kept| *kept > 0),
                    "stopped, everything is delivered"
                );
            }
            Ok(ExitCode::SUCCESS)
        }
        Err(error @ (DrainError::Deadline { .. } | DrainError::Left { .. })) if ended.by_itself => {
            tracing::error!(%error, "stopped, and not everything could be delivered; it is stored, and the next start goes on with it");
            Ok(ExitCode::from(EXIT_UNDELIVERED))
        }
        Err(error @ (DrainError::Deadline { .. } | DrainError::Left { .. })) => {
            bail!("{error}; it is stored, and the next start goes on with it")
        }
        Err(error) => Err(error).context("stop"),
    }
}

/// Changes at the first SIGTERM or SIGINT; the second ends the process.
fn watch_signals() -> Result<watch::Receiver<bool>> {
    let listen = |kind| signal(kind).context("listen for signals");
    let (mut terminate, mut interrupt) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    let (signalled, seen) = watch::channel(false);
    tokio::spawn(async move {
        next_signal(&mut terminate, &mut interrupt).await;
        signalled.send_replace(true);
        let first = Instant::now();
        while first.elapsed() < SAME_REQUEST {
            next_signal(&mut terminate, &mut interrupt).await;
        }
        tracing::warn!(
            "stopped at once by a second signal; what is stored is delivered after the next start"
        );
        #[expect(
            clippy::exit,
            reason = "the user asked twice: nothing may hold up the end, and nothing is lost"
        )]
        std::process::exit(1);
    });
    Ok(seen)
}

async fn next_signal(terminate: &mut Signal, interrupt: &mut Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn duration_has_a_number_and_a_unit() {
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("5m"), Ok(Duration::from_secs(300)));
        for wrong in ["", "30", "s", "-1s", "1.5s", "30 s", "99999999999999999999s", "200h", "1d"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }
}

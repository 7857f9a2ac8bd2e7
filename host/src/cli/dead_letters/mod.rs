//! `wasmill dead-letters`: list, show, replay, export and purge what could not be transformed, encoded or delivered.
//!
//! A running host is asked over its HTTP API; where none runs, the files in the data directory are opened in its place
//! (`desk`). It refuses to remove anything without `--yes` or an answer from a terminal.

mod desk;

use std::io::{BufRead, IsTerminal, Write};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};

use self::desk::{Desk, filter};
use super::config_file::DEFAULT;
use super::host_client::Access;
use super::{EXIT_UNDELIVERED, EXIT_USAGE, output, version};
use crate::pipeline::dead_letters::{DeadLetter, Stage};
use crate::pipeline::{PAGE_LETTERS_MAX, Replayed};

/// Widest reason in a table.
const REASON_WIDTH: usize = 60;
/// Letters that one request replays.
const REPLAY_STEP: usize = 1_000;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List dead letters: a table on a terminal, else one JSON object a line
    #[command(override_usage = "wasmill dead-letters list [OPTIONS] [CONFIG|URL] <STREAM>")]
    List {
        #[command(flatten)]
        of: Of,
        #[command(flatten)]
        conditions: Conditions,
        /// One JSON object a line, also on a terminal
        #[arg(long)]
        json: bool,
        /// At most so many
        #[arg(long, default_value = "100", value_name = "N")]
        limit: NonZeroUsize,
        /// Only letters above this number
        #[arg(long, default_value_t = 0, value_name = "NUMBER", hide_default_value = true)]
        after: u64,
    },
    /// Print one dead letter whole, as JSON
    #[command(override_usage = "wasmill dead-letters show [OPTIONS] [CONFIG|URL] <STREAM> <NUMBER>")]
    Show {
        /// The stream and the letter's number, and before them, in the place of --config and --host, either
        #[arg(value_name = "STREAM", required = true)]
        words: Vec<String>,
        #[command(flatten)]
        at: At,
    },
    /// Run the records again, and send objects again that could not be delivered; what succeeds is removed
    #[command(
        override_usage = "wasmill dead-letters replay [OPTIONS] [CONFIG|URL] <STREAM>",
        after_help = "Needs the running host. What fails again stays under its number, with one attempt more and \
        the new reason. Exit code 3: some failed again.\n\n\
        Examples:\n  \
        wasmill dead-letters replay access\n  \
        wasmill dead-letters replay access --config site.toml --stage transform --at parse --newer-than 2h\n  \
        wasmill dead-letters replay access --host http://127.0.0.1:7070 --plugin parse@sha256:4f2a..."
    )]
    Replay {
        #[command(flatten)]
        of: Of,
        #[command(flatten)]
        conditions: Conditions,
        /// Run this version in place of the current one: name@sha256:<64 hex digits>; may be given several times
        #[arg(long = "plugin", value_name = "VERSION", value_parser = version)]
        plugins: Vec<String>,
    },
    /// Write dead letters as NDJSON, to a file or stdout
    #[command(override_usage = "wasmill dead-letters export [OPTIONS] [CONFIG|URL] <STREAM>")]
    Export {
        #[command(flatten)]
        of: Of,
        #[command(flatten)]
        conditions: Conditions,
        /// The file, which must not exist yet; stdout by default
        #[arg(long, value_name = "FILE")]
        to: Option<PathBuf>,
        /// Remove what was written, once the file is on disk; letters with an object stay
        #[arg(long, requires = "to")]
        remove: bool,
    },
    /// Remove dead letters for good
    #[command(override_usage = "wasmill dead-letters purge [OPTIONS] [CONFIG|URL] <STREAM>")]
    Purge {
        #[command(flatten)]
        of: Of,
        #[command(flatten)]
        conditions: Conditions,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Debug, Args)]
pub(super) struct Of {
    /// The stream, and before it, in the place of --config and --host, either
    #[arg(value_name = "STREAM", required = true)]
    words: Vec<String>,
    #[command(flatten)]
    at: At,
}

/// Where the letters are.
#[derive(Debug, Args)]
pub(super) struct At {
    /// The configuration (TOML): a host that runs with it is asked, and without one its files are read [default: wasmill.toml]
    #[arg(long, value_name = "FILE")]
    config: Option<String>,
    /// Address of the running host: http://127.0.0.1:7070
    #[arg(long, value_name = "URL", conflicts_with = "config")]
    host: Option<String>,
    #[command(flatten)]
    access: Access,
}

impl At {
    /// Opens the letters of a stream; `first` is what stands before its name.
    fn desk(&self, first: Option<&String>, stream: &str) -> Result<Desk> {
        match &self.host {
            Some(host) => Desk::at(host, stream, &self.access),
            None => Desk::open(
                first.or(self.config.as_ref()).map_or(DEFAULT, String::as_str),
                stream,
                &self.access,
            ),
        }
    }
}

impl Of {
    fn stream(&self) -> &str {
        self.words.last().map_or("", String::as_str)
    }

    fn desk(&self) -> Result<Desk> {
        let first = self.words.first().filter(|_| self.words.len() > 1);
        self.at.desk(first, self.stream())
    }
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Which letters (every condition must hold)")]
pub(super) struct Conditions {
    /// Numbers and ranges: 17 or 3,7-9
    #[arg(long, value_name = "NUMBERS")]
    number: Option<String>,
    /// transform, encode or delivery
    #[arg(long, value_name = "STAGE")]
    stage: Option<Stage>,
    /// Name of the transform or output
    #[arg(long, value_name = "NAME")]
    at: Option<String>,
    /// Name of the source that the record came from, of a stream that has several
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
    /// First offset
    #[arg(long, value_name = "OFFSET", allow_negative_numbers = true)]
    from_offset: Option<i64>,
    /// Last offset
    #[arg(long, value_name = "OFFSET", allow_negative_numbers = true)]
    to_offset: Option<i64>,
    /// Became letters at least so long ago: 90s, 30m, 24h, 7d
    #[arg(long, value_name = "AGE", allow_hyphen_values = true)]
    older_than: Option<String>,
    /// Became letters less than so long ago
    #[arg(long, value_name = "AGE", allow_hyphen_values = true)]
    newer_than: Option<String>,
    /// Part of the reason
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

impl Command {
    /// What is wrong with the words of the command line.
    fn wrong_words(&self) -> Option<String> {
        let (words, wanted, at) = match self {
            Command::Show { words, at } => (words, "a stream and a number", at),
            Command::List { of, .. }
            | Command::Replay { of, .. }
            | Command::Export { of, .. }
            | Command::Purge { of, .. } => (&of.words, "a stream", &of.at),
        };
        let least = if matches!(self, Command::Show { .. }) { 2 } else { 1 };
        match words.as_slice() {
            [first, rest @ ..] if rest.len() == least => (at.host.is_some() || at.config.is_some())
                .then(|| format!("{first:?} says where the letters are, and so does --config or --host: give one of them")),
            words if words.len() == least => None,
            words => {
                let there = match words.len() {
                    1 => "there is 1 word".to_owned(),
                    words => format!("there are {words} words"),
                };
                Some(format!("expected {wanted}, and before that a configuration at most; {there}"))
            }
        }
    }

    fn conditions(&self) -> Option<&Conditions> {
        match self {
            Command::List { conditions, .. }
            | Command::Replay { conditions, .. }
            | Command::Export { conditions, .. }
            | Command::Purge { conditions, .. } => Some(conditions),
            Command::Show { .. } => None,
        }
    }
}

impl Conditions {
    /// Opens the letters, and warns of a name that no place of the stream has now: of an earlier one letters may still be there.
    fn desk(&self, of: &Of) -> Result<Desk> {
        let desk = of.desk()?;
        if let Some(at) = &self.at {
            let places = desk.places()?;
            if !places.contains(at) {
                output::complain(format_args!(
                    "warning: stream {:?} has no transform or output {at:?} now, it has {}",
                    of.stream(),
                    output::plain(&places.join(", "))
                ));
            }
        }
        Ok(desk)
    }

    /// Names and texts as a query has them.
    fn pairs(&self) -> Vec<(&'static str, String)> {
        let offset = |offset: Option<i64>| offset.map(|offset| offset.to_string());
        let all = [
            ("number", self.number.clone()),
            ("stage", self.stage.map(|stage| stage.text().to_owned())),
            ("at", self.at.clone()),
            ("source", self.source.clone()),
            ("from_offset", offset(self.from_offset)),
            ("to_offset", offset(self.to_offset)),
            ("older_than", self.older_than.clone()),
            ("newer_than", self.newer_than.clone()),
            ("reason", self.reason.clone()),
        ];
        all.into_iter().filter_map(|(name, text)| Some((name, text?))).collect()
    }
}

pub(super) fn run(command: &Command) -> Result<ExitCode> {
    if let Some(wrong) = command.wrong_words() {
        output::complain(format_args!("error: {wrong}"));
        return Ok(ExitCode::from(EXIT_USAGE));
    }
    if let Some(conditions) = command.conditions()
        && let Err(message) = filter(&conditions.pairs())
    {
        output::complain(format_args!("error: {message}"));
        return Ok(ExitCode::from(EXIT_USAGE));
    }
    match command {
        Command::List { of, conditions, json, limit, after } => {
            let desk = conditions.desk(of)?;
            list(&desk, &conditions.pairs(), *after, limit.get(), *json || !std::io::stdout().is_terminal())
        }
        Command::Show { words, at } => {
            let [first @ .., stream, number] = words.as_slice() else { bail!("give a stream and a number") };
            let Ok(number) = number.parse() else {
                output::complain(format_args!("error: {number:?} is no number of a dead letter"));
                return Ok(ExitCode::from(EXIT_USAGE));
            };
            output::print_json(&at.desk(first.first(), stream)?.show(number)?)
        }
        Command::Replay { of, conditions, plugins } => {
            replay(&conditions.desk(of)?, &conditions.pairs(), plugins)
        }
        Command::Export { of, conditions, to, remove } => {
            let mut desk = conditions.desk(of)?;
            export(&mut desk, &conditions.pairs(), to.as_ref(), *remove)
        }
        Command::Purge { of, conditions, yes } => {
            purge(&mut conditions.desk(of)?, of.stream(), conditions.pairs(), *yes)
        }
    }
}

fn list(desk: &Desk, pairs: &[(&str, String)], after: u64, limit: usize, json: bool) -> Result<ExitCode> {
    let mut after = after;
    let mut left = limit;
    let mut more = None;
    let mut text = String::new();
    if !json {
        text.push_str(
            "  NUMBER  FAILED                STAGE      AT                OFFSET  ATTEMPTS  REASON\n",
        );
    }
    while left > 0 {
        let page = desk.page(pairs, after, left.min(PAGE_LETTERS_MAX))?;
        left -= page.letters.len().min(left);
        for letter in &page.letters {
            if json {
                text.push_str(&serde_json::to_string(letter).context("write JSON")?);
                text.push('\n');
            } else {
                text.push_str(&row(letter));
            }
        }
        output::print(&text)?;
        text.clear();
        more = page.next;
        let Some(next) = page.next else { break };
        after = next;
    }
    if let Some(next) = more {
        output::complain(format_args!("there are more: --after {next}"));
    }
    Ok(ExitCode::SUCCESS)
}

fn row(letter: &DeadLetter) -> String {
    let at = letter.output.as_deref().unwrap_or(&letter.transform);
    let reason: String = output::plain(&letter.reason).chars().take(REASON_WIDTH).collect();
    format!(
        "{:>8}  {}  {:<9}  {:<12}  {:>10}  {:>8}  {reason}\n",
        letter.number,
        utc(letter.failed),
        letter.stage.text(),
        output::plain(at),
        letter.offset,
        letter.attempts
    )
}

/// `2026-05-18T02:40:00Z`.
fn utc(nanoseconds: i64) -> String {
    jiff::Timestamp::from_second(nanoseconds.div_euclid(1_000_000_000)).unwrap_or_default().to_string()
}

fn replay(desk: &Desk, pairs: &[(&str, String)], plugins: &[String]) -> Result<ExitCode> {
    let mut sum = Replayed::default();
    let mut after = 0;
    loop {
        let (replayed, next) = desk.replay(pairs, plugins, after, REPLAY_STEP)?;
        sum.add(&replayed);
        let Some(next) = next else { break };
        after = next;
        output::complain(format_args!("{} tried, {} failed again, going on", sum.tried, sum.failed));
    }
    output::print(&format!(
        "{} tried: {} passed, {} dropped by a plugin, {} failed again\n",
        sum.tried, sum.passed, sum.dropped, sum.failed
    ))?;
    if sum.skipped > 0 {
        output::complain(format_args!(
            "{} skipped: rows that plugins made of no one record (offset -1), on which no transform runs again, or objects that were not \
             kept; `export` writes them",
            sum.skipped
        ));
    }
    Ok(if sum.failed + sum.skipped == 0 { ExitCode::SUCCESS } else { ExitCode::from(EXIT_UNDELIVERED) })
}

fn export(desk: &mut Desk, pairs: &[(&str, String)], to: Option<&PathBuf>, remove: bool) -> Result<ExitCode> {
    let mut file = match to {
        Some(path) => Some(output::new_file(path)?),
        None => None,
    };
    let mut written = Vec::new();
    let (mut count, mut objects) = (0_u64, 0_u64);
    let mut after = 0;
    loop {
        let page = desk.page(pairs, after, PAGE_LETTERS_MAX)?;
        let mut text = Vec::new();
        for letter in &page.letters {
            serde_json::to_writer(&mut text, letter).context("write JSON")?;
            text.push(b'\n');
            count += 1;
            objects += u64::from(letter.object.is_some());
            if remove && letter.object.is_none() {
                written.push(letter.number);
            }
        }
        let sent = match &mut file {
            Some(file) => file.write_all(&text),
            None => std::io::stdout().lock().write_all(&text),
        };
        match sent {
            // The reader has seen enough.
            Err(error) if to.is_none() && error.kind() == std::io::ErrorKind::BrokenPipe => {
                return Ok(ExitCode::SUCCESS);
            }
            sent => sent.context("write the letters")?,
        }
        let Some(next) = page.next else { break };
        after = next;
    }
    let (Some(file), Some(path)) = (file, to) else { return Ok(ExitCode::SUCCESS) };
    file.sync_all().with_context(|| format!("sync {}", path.display()))?;
    output::complain(format_args!("{count} dead letters written to {}", path.display()));
    if remove {
        // What arrived meanwhile was not written: exactly these numbers go.
        let mut removed = 0;
        for numbers in written.chunks(PAGE_LETTERS_MAX) {
            let numbers: Vec<String> = numbers.iter().map(u64::to_string).collect();
            removed += desk.remove(&[("number", numbers.join(","))])?;
        }
        output::complain(format_args!("{removed} removed, {objects} with an object stay"));
    }
    Ok(ExitCode::SUCCESS)
}

fn purge(
    desk: &mut Desk,
    stream: &str,
    mut pairs: Vec<(&'static str, String)>,
    yes: bool,
) -> Result<ExitCode> {
    if !yes {
        if !std::io::stdin().is_terminal() {
            output::complain(format_args!("error: purge removes dead letters for good: give --yes"));
            return Ok(ExitCode::from(EXIT_USAGE));
        }
        let which = if pairs.is_empty() { "all" } else { "the chosen" };
        output::complain(format_args!("Remove {which} dead letters of stream {stream} for good? [y/N]"));
        let mut answer = String::new();
        std::io::stdin().lock().read_line(&mut answer).context("read the answer")?;
        if !matches!(answer.trim(), "y" | "Y" | "yes") {
            bail!("nothing was removed");
        }
    }
    if pairs.is_empty() {
        pairs.push(("all", "true".to_owned()));
    }
    let removed = desk.remove(&pairs)?;
    output::print(&format!("{removed} dead letters removed\n"))
}

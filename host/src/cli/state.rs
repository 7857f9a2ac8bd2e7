//! `wasmill state list|get|export|drop`: what the plugins of a stream of a running host keep.

use std::io::{BufWriter, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::{ArgGroup, Subcommand};
use reqwest::Method;
use serde_json::Value;

use super::host_client::{AtHost, HostClient, encoded, stream_path};
use super::output;

/// Entries that are asked for at a time.
const PAGE: usize = 5_000;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List the tables of a stream's transforms, or the entries of one: one JSON object a line
    #[command(after_help = "Examples:\n  \
        wasmill state list visits\n  \
        wasmill state list visits count/counts --prefix user- --limit 20")]
    List {
        stream: String,
        /// A table: TRANSFORM/TABLE
        #[arg(value_parser = table)]
        table: Option<Table>,
        /// Only keys that begin so
        #[arg(long, default_value = "", hide_default_value = true, requires = "table")]
        prefix: String,
        /// At most so many entries
        #[arg(long, default_value_t = 100, value_name = "N", requires = "table")]
        limit: usize,
        #[command(flatten)]
        at: AtHost,
    },
    /// Show the entry of a key, whatever its key group
    #[command(after_help = "Examples:\n  \
        wasmill state get visits count/counts user-7\n  \
        wasmill state get payments rolling/keys --base64 AwIAYzE=")]
    Get {
        stream: String,
        /// A table: TRANSFORM/TABLE
        #[arg(value_parser = table)]
        table: Table,
        #[arg(value_name = "KEY")]
        of: String,
        /// The key is in base64, as `key_base64` of the list: plugins that make keys of several fields, as those that come with Wasmill, have keys that are no text
        #[arg(long)]
        base64: bool,
        #[command(flatten)]
        at: AtHost,
    },
    /// Write all entries of a table as NDJSON, to a file or stdout
    Export {
        stream: String,
        /// A table: TRANSFORM/TABLE
        #[arg(value_parser = table)]
        table: Table,
        /// The file, which must not exist yet; stdout by default
        #[arg(long, value_name = "FILE")]
        to: Option<PathBuf>,
        #[command(flatten)]
        at: AtHost,
    },
    /// Empty a table, or all of a stream's, for good: its transforms go on as if they had never seen a record
    #[command(
        group(ArgGroup::new("which").args(["table", "all"]).required(true)),
        override_usage = "wasmill state drop [OPTIONS] <STREAM> <TABLE|--all>"
    )]
    Drop {
        stream: String,
        /// A table: TRANSFORM/TABLE
        #[arg(value_parser = table)]
        table: Option<Table>,
        /// All tables of the stream
        #[arg(long)]
        all: bool,
        /// Do not ask
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        at: AtHost,
    },
}

/// A transform's table.
#[derive(Clone, Debug)]
pub(super) struct Table {
    transform: String,
    table: String,
}

fn table(text: &str) -> Result<Table, String> {
    match text.split_once('/') {
        Some((transform, table)) if !transform.is_empty() && !table.is_empty() => {
            Ok(Table { transform: transform.to_owned(), table: table.to_owned() })
        }
        _ => Err("expected TRANSFORM/TABLE, as `wasmill state list STREAM` shows them".to_owned()),
    }
}

fn path(stream: &str, table: Option<&Table>) -> String {
    let state = format!("{}/state", stream_path(stream));
    match table {
        Some(Table { transform, table }) => format!("{state}/{}/{}", encoded(transform), encoded(table)),
        None => state,
    }
}

/// One JSON object a line.
fn lines(values: &Value) -> String {
    values.as_array().into_iter().flatten().map(|value| format!("{value}\n")).collect()
}

pub(super) fn run(command: &Command) -> Result<ExitCode> {
    match command {
        Command::List { stream, table: None, at, .. } => at.with(
            async |client: &HostClient| client.ask(Method::GET, &path(stream, None), &[]).await,
            |answer| Ok(answer["tables"].as_array().into_iter().flatten().map(table_line).collect()),
        ),
        Command::List { stream, table: Some(table), prefix, limit, at } => {
            let mut pairs = vec![("limit", limit.to_string())];
            pairs.extend((!prefix.is_empty()).then(|| ("prefix", prefix.clone())));
            at.with(
                async |client: &HostClient| client.ask(Method::GET, &path(stream, Some(table)), &pairs).await,
                |answer| Ok(lines(&answer["entries"])),
            )
        }
        Command::Get { stream, table, of, base64, at } => {
            let pairs = [(if *base64 { "key_base64" } else { "key" }, of.clone())];
            at.with(
                async |client: &HostClient| client.ask(Method::GET, &path(stream, Some(table)), &pairs).await,
                |answer| match answer["entries"].as_array().map(Vec::len) {
                    Some(0) | None => bail!("no entry has the key {of:?}"),
                    Some(_) => Ok(lines(&answer["entries"])),
                },
            )
        }
        Command::Export { stream, table, to, at } => export(stream, table, to.as_ref(), at),
        Command::Drop { stream, table, yes, at, .. } => {
            if !yes && !agreed(stream, table.as_ref())? {
                bail!("nothing was dropped; --yes does not ask");
            }
            let pairs: Vec<(&str, String)> =
                if table.is_none() { vec![("all", "true".to_owned())] } else { Vec::new() };
            at.with(
                async |client: &HostClient| {
                    client.ask(Method::DELETE, &path(stream, table.as_ref()), &pairs).await
                },
                |answer| Ok(format!("{} entries dropped\n", answer["dropped"])),
            )
        }
    }
}

fn table_line(table: &Value) -> String {
    let text = |name: &str| output::plain(table[name].as_str().unwrap_or("-"));
    let strand = table["strand"].as_u64().map(|strand| format!(", strand {strand}")).unwrap_or_default();
    format!(
        "{:<40} {} entries, {} bytes, version {}{strand}\n",
        format!("{}/{}", text("transform"), text("table")),
        table["entries"],
        table["bytes"],
        table["version"]
    )
}

fn agreed(stream: &str, table: Option<&Table>) -> Result<bool> {
    if !std::io::stdin().is_terminal() {
        return Ok(false);
    }
    let what =
        table.map_or_else(|| "all tables".to_owned(), |table| format!("{}/{}", table.transform, table.table));
    output::complain(format_args!("drop {} of stream {stream:?} for good? [y/N]", output::plain(&what)));
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).context("read the answer")?;
    Ok(answer.trim().eq_ignore_ascii_case("y"))
}

fn export(stream: &str, table: &Table, to: Option<&PathBuf>, at: &AtHost) -> Result<ExitCode> {
    // Once there is something to write: a name that nobody knows leaves no file.
    let open = || -> Result<Box<dyn Write>> {
        let Some(path) = to else { return Ok(Box::new(std::io::stdout().lock())) };
        let file = output::new_file(path)?;
        Ok(Box::new(BufWriter::new(file)))
    };
    let mut out = None;
    let mut written: Option<u64> = None;
    let asked = at.with(
        async |client: &HostClient| {
            let mut next: Option<String> = None;
            loop {
                let mut pairs = vec![("limit", PAGE.to_string())];
                pairs.extend(next.map(|next| ("after", next)));
                let page: Value = client.ask(Method::GET, &path(stream, Some(table)), &pairs).await?;
                let out = match &mut out {
                    Some(out) => out,
                    none => none.insert(open()?),
                };
                out.write_all(lines(&page["entries"]).as_bytes()).context("write entries")?;
                *written.get_or_insert(0) +=
                    page["entries"].as_array().map_or(0, |entries| entries.len() as u64);
                next = page["next"].as_str().map(str::to_owned);
                if next.is_none() {
                    out.flush().context("write entries")?;
                    return Ok(Value::Null);
                }
            }
        },
        |_done| Ok(String::new()),
    )?;
    if let Some(written) = written {
        output::complain(format_args!("{written} entries of {}/{} exported", table.transform, table.table));
    }
    Ok(asked)
}

//! `wasmill usage`: what tenants, streams and plugins of a running host have used, for people and for bills.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, ValueEnum};
use reqwest::Method;
use serde_json::{Value, json};

use super::host_client::{AtHost, HostClient};
use super::output;

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    wasmill usage --from -7d --interval day\n  \
    wasmill usage --by plugin --from 2026-01-01T00:00:00Z --to 2026-02-01T00:00:00Z --format ndjson > january.ndjson\n  \
    wasmill usage --of '*' --format ndjson --host https://wasmill:7070")]
pub(super) struct Arguments {
    /// From when on: a time such as 2026-01-31T12:00:00Z, or so long ago: -90s, -30m, -2h, -7d [default: a day before --to]
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    from: Option<String>,
    /// Until when [default: now]
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    to: Option<String>,
    /// What is added up
    #[arg(long, value_enum, default_value_t = By::Stream)]
    by: By,
    /// Length of a span: minutes are kept for three days
    #[arg(long, value_enum, default_value_t = Interval::Hour)]
    interval: Interval,
    /// How it is shown
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
    /// Of an operator: whose usage, or * for that of all as NDJSON
    #[arg(long, value_name = "TENANT")]
    of: Option<String>,
    #[command(flatten)]
    at: AtHost,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum By {
    Tenant,
    Stream,
    Plugin,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Interval {
    Minute,
    Hour,
    Day,
}

#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
enum Format {
    Table,
    Ndjson,
}

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let Arguments { from, to, by, interval, format, of, at } = arguments;
    let word = |value: &dyn std::fmt::Debug| format!("{value:?}").to_lowercase();
    let mut pairs: Vec<(&str, String)> = vec![("by", word(by)), ("interval", word(interval))];
    pairs.extend(from.clone().map(|from| ("from", from)));
    pairs.extend(to.clone().map(|to| ("to", to)));
    pairs.extend(of.clone().map(|of| ("tenant", of)));
    let ask = async move |client: &HostClient| {
        let mut pairs = pairs.clone();
        if *format == Format::Ndjson {
            pairs.push(("format", "ndjson".to_owned()));
            // Line by line: nobody knows how much it is.
            client.copy("/v1/usage", &pairs).await?;
            return Ok(Value::Null);
        }
        pairs.push(("limit", "10000".to_owned()));
        let mut rows = Vec::new();
        loop {
            let page: Value = client.ask(Method::GET, "/v1/usage", &pairs).await?;
            rows.extend(page["usage"].as_array().into_iter().flatten().cloned());
            let Some(next) = page["next"].as_str() else { break };
            pairs.retain(|(name, _)| *name != "from");
            pairs.push(("from", next.to_owned()));
        }
        Ok(json!({ "usage": rows }))
    };
    if *format == Format::Ndjson && at.json() {
        anyhow::bail!("--json and --format ndjson say two things: expected one of them");
    }
    at.with(ask, |answer| Ok(if answer.is_null() { String::new() } else { table(answer) }))
}

fn table(answer: &Value) -> String {
    let mut text = format!(
        "{:<21} {:<20} {:>12} {:>14} {:>12} {:>14} {:>10} {:>9} {:>9}\n",
        "from", "of", "records in", "bytes in", "records out", "bytes out", "calls", "CPU s", "letters"
    );
    for row in answer["usage"].as_array().into_iter().flatten() {
        let of = ["stream", "plugin", "tenant"].iter().find_map(|name| row[*name].as_str()).unwrap_or("-");
        let number = |name: &str| row[name].as_u64().unwrap_or(0);
        // Of a tenant as a whole it is the workers'.
        let cpu = number("cpu_ns").max(number("worker_cpu_ns")) as f64 / 1e9;
        text.push_str(&format!(
            "{:<21} {:<20} {:>12} {:>14} {:>12} {:>14} {:>10} {:>9.3} {:>9}\n",
            row["from"].as_str().unwrap_or("-"),
            output::plain(of),
            number("records_in"),
            number("bytes_in"),
            number("records_out"),
            number("bytes_out"),
            number("calls"),
            cpu,
            number("dead_letters"),
        ));
    }
    text
}

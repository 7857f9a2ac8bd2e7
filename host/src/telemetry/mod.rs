//! What the program says about itself: structured logs and metrics.
//!
//! It owns how log lines look and where they go (stderr, always: stdout belongs to data), the guests' log lines as
//! events of their own target, and in `metrics` the names and the text that Prometheus reads. It refuses to count
//! anything: counters belong to the stages, and are copied when they are asked for.

pub mod metrics;
mod plugin_log;
mod text;

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::writer::BoxMakeWriter;

pub use plugin_log::plugin_log;

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people
    #[default]
    Text,
    /// One JSON object per line
    Json,
}

/// Which log lines are written, and how.
#[derive(Clone, Debug, Default)]
pub struct LogOptions {
    pub format: LogFormat,
    /// A level (`info`), or directives (`info,plugin=debug`). Checked by [`check_log_filter`].
    pub filter: String,
}

/// Why log lines cannot be written as wanted.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error("log filter {filter:?} is not understood, expected a level such as info, or info,plugin=debug")]
    Filter { filter: String, source: tracing_subscriber::filter::ParseError },
    #[error("another log is already in place")]
    InPlace(#[from] tracing::subscriber::SetGlobalDefaultError),
}

fn log_filter(filter: &str) -> Result<EnvFilter, LogError> {
    EnvFilter::builder()
        .parse(filter)
        .map_err(|source| LogError::Filter { filter: filter.to_owned(), source })
}

/// Whether a filter is understood, for the command line.
///
/// # Errors
/// What was expected.
pub fn check_log_filter(filter: &str) -> Result<String, LogError> {
    log_filter(filter).map(|_understood| filter.to_owned())
}

/// Sends the log of the whole process to stderr, or to another writer that leads there.
///
/// # Errors
/// The filter is not understood, or there is a log already.
pub fn start_log(options: &LogOptions, writer: Option<BoxMakeWriter>) -> Result<(), LogError> {
    let filter = log_filter(&options.filter)?;
    let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let writer = writer.unwrap_or_else(|| BoxMakeWriter::new(std::io::stderr));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer);
    match options.format {
        LogFormat::Text => {
            let log = log.with_ansi(colours).fmt_fields(text::TextFields);
            tracing::subscriber::set_global_default(log.finish())?;
        }
        LogFormat::Json => {
            let log = log.json().flatten_event(true).with_current_span(true).with_span_list(false);
            tracing::subscriber::set_global_default(log.finish())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filter_that_is_not_understood_is_refused_and_named() {
        assert!(log_filter("info").is_ok() && log_filter("warn,plugin=debug").is_ok());
        let error = log_filter("info,plugin=loud").unwrap_err();
        assert!(matches!(&error, LogError::Filter { filter, .. } if filter == "info,plugin=loud"));
    }
}

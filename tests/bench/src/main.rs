//! What the transform stage costs: prints one JSON object.
//!
//! `wasmill-bench --plugins DIR [--log FILE] [--runs N] [--only NAME] [--seconds S] [--chunk-bytes N]`. Everything runs on one thread and
//! is measured in CPU time of that thread; variants are interleaved, and each figure is a median with its spread.
//! Refuses to say anything of a debug build.

mod job;
mod measure;
mod serde_job;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::json;
use wasmill_transform::ChainOptions;

struct Options {
    plugins: PathBuf,
    log: PathBuf,
    runs: usize,
    /// One variant alone, over and over: for a profiler.
    only: Option<String>,
    /// CPU time of one measurement.
    span: Duration,
    /// Payload bytes per chunk.
    chunk_bytes: usize,
}

fn options() -> Result<Options> {
    let mut options = Options {
        plugins: std::env::var_os("WASMILL_PLUGINS").map(PathBuf::from).unwrap_or_default(),
        log: wasmill_tests::access_log::path(),
        runs: 7,
        only: None,
        span: Duration::from_millis(300),
        chunk_bytes: ChainOptions::default().chunk_bytes,
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let value = arguments.next().with_context(|| format!("{name} wants a value"))?;
        match name.as_str() {
            "--plugins" => options.plugins = value.into(),
            "--log" => options.log = value.into(),
            "--runs" => options.runs = value.parse().context("--runs wants a number")?,
            "--only" => options.only = Some(value),
            "--seconds" => {
                options.span = Duration::from_secs_f64(value.parse().context("--seconds wants a number")?);
            }
            "--chunk-bytes" => {
                options.chunk_bytes = value.parse().context("--chunk-bytes wants a number")?;
            }
            _ => bail!(
                "unknown option {name}; there are --plugins, --log, --runs, --only, --seconds, --chunk-bytes"
            ),
        }
    }
    if options.plugins.as_os_str().is_empty() {
        bail!("--plugins DIR (or WASMILL_PLUGINS): where `cargo xtask plugins` put the components");
    }
    if options.runs < 5 {
        bail!("--runs must be at least 5");
    }
    Ok(options)
}

#[expect(clippy::print_stdout, reason = "the figures are the program's output")]
fn main() -> Result<()> {
    if cfg!(debug_assertions) {
        bail!("built without optimisation: run `cargo run --release -p wasmill-bench`");
    }
    let options = options()?;
    let mut variants = job::variants(&options.plugins, &options.log, options.chunk_bytes)?;
    if let Some(only) = &options.only {
        variants.retain(|variant| variant.name == *only);
        if variants.is_empty() {
            bail!("no variant is called {only:?}");
        }
    }
    let samples = measure::interleaved(&mut variants, options.runs, options.span)?;
    let mut figures = serde_json::Map::new();
    for (variant, samples) in variants.iter().zip(&samples) {
        let record = samples.map(|cpu_s| cpu_s * 1e9 / variant.records as f64);
        let gigabyte = samples.map(|cpu_s| cpu_s * 1e9 / variant.bytes as f64);
        figures.insert(
            variant.name.to_owned(),
            json!({
                "ns_per_record": record.figure(),
                "cpu_s_per_gb": gigabyte.figure(),
                "records": variant.records,
                "bytes": variant.bytes,
            }),
        );
    }
    let of = |name: &str| variants.iter().position(|variant| variant.name == name).map(|at| &samples[at]);
    let mut report = serde_json::Map::new();
    for (name, above, below) in job::RATIOS {
        if let (Some(above), Some(below)) = (of(above), of(below)) {
            let ratio = above.over(below);
            report.insert(name.to_owned(), json!(ratio.median()));
            report.insert(format!("{name}_spread"), json!([ratio.least(), ratio.most()]));
        }
    }
    report.insert("runs".to_owned(), json!(options.runs));
    report.insert("variants".to_owned(), figures.into());
    println!("{}", serde_json::to_string_pretty(&report)?);
    Ok(())
}

//! `cargo xtask fuzz`: every target of `fuzz/` under libFuzzer for a while, with a summary at the end.
//!
//! What the targets promise is the business of `fuzz/src`; this only builds and runs them. It never adds to the corpora
//! in the checkout: what the fuzzer finds on its way is kept in the target directory, for the next run.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::project::Project;
use crate::suite::{self, Steps};
use wasmill_author::process::{self, Watched};

/// Most memory of one target, in MiB, and most seconds of one input: bounds are promises too.
const MEMORY_MAX: u32 = 2048;
const INPUT_SECONDS_MAX: u32 = 10;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Only these targets (all without)
    targets: Vec<String>,
    /// How long each target runs
    #[arg(long, value_name = "N", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..))]
    seconds: u32,
    /// As cargo-fuzz knows them; all but `none` need a nightly toolchain
    #[arg(long, value_name = "NAME", default_value = "none")]
    sanitizer: String,
}

pub(crate) fn run(project: &Project, arguments: &Arguments) -> Result<()> {
    if process::output_of(suite::cargo(project).args(["fuzz", "--version"])).is_none() {
        bail!(
            "there is no cargo-fuzz: `cargo install cargo-fuzz` (and a C++ compiler) brings it; \
             `cargo xtask test` replays the corpora without it"
        );
    }
    let known = targets(&project.root)?;
    if let Some(unknown) = arguments.targets.iter().find(|name| !known.contains(name)) {
        bail!("there is no target {unknown:?}, but {}", known.join(", "));
    }
    let mut steps = Steps::default();
    for target in known.iter().filter(|name| arguments.targets.is_empty() || arguments.targets.contains(name))
    {
        steps.run(target, || run_one(project, arguments, target).map(Some));
    }
    steps.finish("fuzz")
}

/// The names of all targets, from their binaries.
fn targets(root: &Path) -> Result<Vec<String>> {
    let dir = root.join("fuzz/fuzz_targets");
    let mut names = Vec::new();
    for entry in fs::read_dir(&dir).with_context(|| format!("read {}", dir.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "rs") {
            names.extend(path.file_stem().map(|stem| stem.to_string_lossy().into_owned()));
        }
    }
    names.sort();
    Ok(names)
}

/// Runs one target; what libFuzzer said of it at the end.
fn run_one(project: &Project, arguments: &Arguments, target: &str) -> Result<String> {
    let work = project.target.join("fuzz").join(target);
    let (found, broken) = (work.join("corpus"), work.join("broken"));
    for dir in [&found, &broken] {
        fs::create_dir_all(dir).with_context(|| format!("create {}", dir.display()))?;
    }
    let mut command = suite::cargo(project);
    command.args(["fuzz", "run", "--features", "libfuzzer", "--sanitizer", &arguments.sanitizer, target]);
    // New inputs go into the first directory.
    command.arg(&found).arg(project.root.join("fuzz/corpus").join(target));
    command.arg("--");
    command.arg(format!("-max_total_time={}", arguments.seconds));
    command.arg(format!("-rss_limit_mb={MEMORY_MAX}"));
    command.arg(format!("-timeout={INPUT_SECONDS_MAX}"));
    command.arg(format!("-artifact_prefix={}/", broken.display()));
    command.args(["-print_final_stats=1", "-verbosity=1"]);
    let mut tally = Tally::default();
    let status = process::run_watching(&mut command, Watched::Stderr, |line| tally.look(line))?;
    if !status.success() {
        bail!("a promise is broken ({status}); the input is in {}", broken.display());
    }
    Ok(tally.closing())
}

/// What libFuzzer says while it runs and at its end.
#[derive(Default)]
struct Tally {
    runs: Option<String>,
    coverage: Option<String>,
}

impl Tally {
    fn look(&mut self, line: &str) {
        if let Some(runs) = line.strip_prefix("stat::number_of_executed_units:") {
            self.runs = Some(runs.trim().to_owned());
        } else if let Some((_, rest)) = line.split_once(" cov: ") {
            self.coverage = rest.split_whitespace().next().map(str::to_owned);
        }
    }

    fn closing(&self) -> String {
        let or_none = |text: &Option<String>| text.clone().unwrap_or_else(|| "?".to_owned());
        format!("{} inputs, {} edges", or_none(&self.runs), or_none(&self.coverage))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tally_keeps_the_last_coverage_and_the_number_of_runs() {
        let mut tally = Tally::default();
        assert_eq!(tally.closing(), "? inputs, ? edges");
        tally.look("#2\tINITED cov: 12 ft: 13 corp: 1/1b exec/s: 0 rss: 30Mb");
        tally.look("#65536\tpulse  cov: 345 ft: 1000 corp: 99/9Kb lim: 652 exec/s: 21845 rss: 40Mb");
        tally.look("stat::number_of_executed_units: 70000");
        assert_eq!(tally.closing(), "70000 inputs, 345 edges");
    }
}

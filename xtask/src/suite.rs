//! `cargo xtask test` and `cargo xtask ci`: everything in order, with a summary at the end.
//!
//! Tests find what was built for them through the environment:
//! - `WASMILL_PLUGINS`: directory with the first-party plugins as components;
//! - `WASMILL_GUESTS`: directory with the components that only tests use;
//! - `WASMILL_BIN`: the `wasmill` binary, for the black-box tests;
//! - `WASMILL_READERS`: packages of Python that read what the host writes or speak to it, for `PYTHONPATH`;
//! - `WASMILL_TRAINERS`: packages of Python that train models, export and run them, and read what R keeps, for `PYTHONPATH`;
//! - `WASMILL_NODE_CLIENTS`: packages of npm that speak to it, for `NODE_PATH`;
//! - `WASMILL_KINESIS`: packages of npm that play Kinesis Data Streams and its producers, for `NODE_PATH`;
//! - `WASMILL_POSTGRESQL`: packages of npm with a server of PostgreSQL;
//! - `WASMILL_OPENSEARCH`: a node of OpenSearch that it delivers to;
//! - `WASMILL_CATALOGUE`: a catalog of Iceberg tables that it appends to;
//! - `WASMILL_SPARK`: Apache Spark, which reads what it writes;
//! - `WASMILL_SHUTTLE`: the data set Shuttle, as R keeps it.
//!
//! It decides no test's outcome: what `cargo` answers is the answer.

use std::path::PathBuf;
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::project::Project;
use crate::{conformance, datasets, java, plugins};
use wasmill_author::process::{self, Watched};
use wasmill_author::rust::toolchain;
use wasmill_author::{NpmPackages, python_packages};

/// Others' readers of what `encode`, `columnar` and tables hold, and others' clients of the Firehose API, with all that they need.
const READERS: [&str; 41] = [
    "annotated-types==0.8.0",
    "awscli==1.46.3",
    "boto3==1.44.8",
    "botocore==1.44.8",
    "cachetools==8.0.2",
    "certifi==2026.10.19.post1",
    "charset_normalizer==3.5.3",
    "click==8.5.1",
    "colorama==0.4.6",
    "cramjam==2.14.0",
    "docutils==0.19",
    "duckdb==2.0.1",
    "fsspec==2026.9.0",
    "idna==3.20",
    "jmespath==1.1.0",
    "kafka-python==3.0.12",
    "markdown-it-py==4.3.0",
    "mdurl==0.1.2",
    "mmh3==5.3.1",
    "pyarrow==26.0.1",
    "pyasn1==0.6.5",
    "pydantic-core==2.50.5",
    "pydantic==2.14.4",
    "pygments==2.21.0",
    "pyiceberg==0.12.0",
    "pyparsing==3.3.3",
    "pyroaring==1.2.0",
    "python-dateutil==2.9.0.post0",
    "python-snappy==0.7.3",
    "pyyaml==6.0.4",
    "requests==2.34.2",
    "rich==15.0.0",
    "rsa==4.7.2",
    "s3transfer==0.19.3",
    "six==1.17.0",
    "strictyaml==1.7.3",
    "tenacity==9.2.1",
    "typing-extensions==4.16.0",
    "typing-inspection==0.4.5",
    "urllib3==2.8.0",
    "zstandard==0.25.0",
];

/// What models are trained, exported and run with where they are made, and data sets of R are read with; with all that they need.
const TRAINERS: [&str; 22] = [
    "cloudpickle==3.1.3",
    "flatbuffers==25.12.19",
    "joblib==1.6.0",
    "lightgbm==4.7.0",
    "ml_dtypes==0.6.0",
    "narwhals==2.29.0",
    "numpy==2.4.6",
    "onnx==1.23.2",
    "onnxmltools==1.16.0",
    "onnxruntime==1.32.0",
    "packaging==26.4",
    "pandas==3.1.1",
    "protobuf==7.36.2",
    "python-dateutil==4.0.0",
    "rdata==1.1.0",
    "scikit-learn==1.9.1",
    "scipy==1.17.1",
    "skl2onnx==1.20.0",
    "threadpoolctl==3.8.0",
    "typing_extensions==4.16.0",
    "tzdata==2026.6",
    "xarray==2026.9.0",
];

/// Installs the trainers if they are not there; says where they are, for `PYTHONPATH`.
pub(crate) fn trainers() -> Result<PathBuf> {
    python_packages("trainers", &TRAINERS.map(str::to_owned), "about 150 MB")
}

/// Others' clients of the Firehose API that run on Node, with all that they need.
const NODE_CLIENTS: NpmPackages = NpmPackages {
    name: "node-clients",
    manifest: include_str!("../../tests/clients/node/package.json"),
    lock: include_str!("../../tests/clients/node/package-lock.json"),
    size: "about 20 MB",
};

/// What plays Kinesis Data Streams, shards that are split and merged included, and what aggregates records as producers do.
const KINESIS: NpmPackages = NpmPackages {
    name: "kinesis-local",
    manifest: include_str!("../../tests/clients/kinesis/package.json"),
    lock: include_str!("../../tests/clients/kinesis/package-lock.json"),
    size: "about 25 MB",
};

/// A server of PostgreSQL, whose protocol Redshift speaks.
const POSTGRESQL: NpmPackages = NpmPackages {
    name: "postgresql",
    manifest: include_str!("../../tests/clients/postgresql/package.json"),
    lock: include_str!("../../tests/clients/postgresql/package-lock.json"),
    size: "about 20 MB",
};

/// Runs every test, or those whose name contains `filter`; `fast` leaves out all but the unit tests.
pub(crate) fn test(project: &Project, filter: Option<&str>, fast: bool) -> Result<()> {
    let mut steps = Steps::default();
    test_steps(project, filter, fast, false, &mut steps);
    steps.finish("test")
}

/// What CI runs.
pub(crate) fn ci(project: &Project) -> Result<()> {
    let mut steps = Steps::default();
    steps.run("fmt", || {
        process::run(cargo(project).args(["fmt", "--all", "--check"]))?;
        Ok(None)
    });
    steps.run("clippy", || {
        let arguments = ["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"];
        process::run(cargo(project).args(arguments))?;
        Ok(None)
    });
    test_steps(project, None, false, true, &mut steps);
    steps.finish("ci")
}

/// `all`: nothing may be left out for want of a toolchain.
fn test_steps(project: &Project, filter: Option<&str>, fast: bool, all: bool, steps: &mut Steps) {
    if !fast {
        let built = steps.run("plugins", || {
            for line in plugins::build(project, &[], &project.plugin_dir(), true)? {
                println!("{line}");
            }
            Ok(None)
        });
        let built = built
            && steps.run("build", || {
                process::run(cargo(project).args(["build", "--workspace", "--bins"]))?;
                Ok(None)
            });
        if !built {
            steps.skip("tests", "they need the plugins and the program");
            return;
        }
    }
    let nextest = process::output_of(cargo(project).args(["nextest", "--version"])).is_some();
    let (mut readers, mut trainers, mut clients) = (None, None, None);
    let (mut kinesis, mut postgresql) = (None, None);
    let (mut opensearch, mut catalogue, mut spark) = (None, None, None);
    let mut shuttle = None;
    if !fast {
        steps.run("readers", || {
            let found = python_packages("readers", &READERS.map(str::to_owned), "about 110 MB");
            readers = unless_needed("readers", found, all)?;
            Ok(left_out(&readers))
        });
        steps.run("trainers", || {
            trainers = unless_needed("trainers of models", self::trainers(), all)?;
            Ok(left_out(&trainers))
        });
        steps.run("clients", || {
            clients = unless_needed("clients on Node", NODE_CLIENTS.installed(), all)?;
            Ok(left_out(&clients))
        });
        steps.run("kinesis", || {
            kinesis = unless_needed("Kinesis on Node", KINESIS.installed(), all)?;
            Ok(left_out(&kinesis))
        });
        steps.run("postgresql", || {
            postgresql = unless_needed("PostgreSQL", POSTGRESQL.installed(), all)?;
            Ok(left_out(&postgresql))
        });
        steps.run("opensearch", || {
            opensearch = unless_needed("OpenSearch", java::OPENSEARCH.installed(), all)?;
            Ok(left_out(&opensearch))
        });
        steps.run("catalogue", || {
            catalogue = unless_needed("a catalog of Iceberg tables", java::CATALOGUE.installed(), all)?;
            Ok(left_out(&catalogue))
        });
        steps.run("spark", || {
            spark = unless_needed("Apache Spark", java::SPARK.installed(), all)?;
            Ok(left_out(&spark))
        });
        steps.run("shuttle", || {
            shuttle = unless_needed("the data set Shuttle", datasets::shuttle(), all)?;
            Ok(left_out(&shuttle))
        });
    }
    let packages = [
        ("WASMILL_READERS", readers),
        ("WASMILL_TRAINERS", trainers),
        ("WASMILL_NODE_CLIENTS", clients),
        ("WASMILL_KINESIS", kinesis),
        ("WASMILL_POSTGRESQL", postgresql),
        ("WASMILL_OPENSEARCH", opensearch),
        ("WASMILL_CATALOGUE", catalogue),
        ("WASMILL_SPARK", spark),
        ("WASMILL_SHUTTLE", shuttle),
    ];
    steps.run("tests", || run_tests(project, filter, fast, nextest, &packages));
    // `cargo test` runs them among the rest.
    if !fast && nextest {
        steps.run("doc tests", || run_doc_tests(project, filter));
    }
    if !fast && filter.is_none() {
        steps.run("conformance", || {
            conformance::run(project, &conformance::Arguments::of_a_test(all))?;
            Ok(None)
        });
    }
}

/// Where packages are; nothing where they cannot be had and need not be.
fn unless_needed(what: &str, found: Result<PathBuf>, all: bool) -> Result<Option<PathBuf>> {
    match found {
        Ok(dir) => Ok(Some(dir)),
        Err(error) if all => Err(error),
        Err(error) => {
            eprintln!("{what}: left out: {error:#}");
            Ok(None)
        }
    }
}

/// For the summary.
fn left_out(found: &Option<PathBuf>) -> Option<String> {
    found.is_none().then(|| "left out, with the tests that need it".to_owned())
}

fn run_tests(
    project: &Project,
    filter: Option<&str>,
    fast: bool,
    nextest: bool,
    packages: &[(&str, Option<PathBuf>)],
) -> Result<Option<String>> {
    let mut command = cargo(project);
    command.args(if nextest { &["nextest", "run"][..] } else { &["test", "--no-fail-fast"] });
    command.arg("--workspace");
    if nextest {
        command.args(["--no-fail-fast", "--no-tests=pass"]);
    }
    if fast {
        command.args(["--lib", "--bins", "--exclude", "wasmill-tests", "--exclude", "wasmill-torture"]);
    }
    if let Some(filter) = filter {
        command.arg(filter);
    }
    with_environment(project, &mut command);
    command.envs(packages.iter().filter_map(|(name, dir)| Some((name, dir.as_deref()?))));
    let mut tally = Tally::default();
    let watched = if nextest { Watched::Stderr } else { Watched::Stdout };
    let status = process::run_watching(&mut command, watched, |line| tally.look(line))?;
    if !status.success() {
        bail!(tally.closing_failed(status));
    }
    Ok(Some(tally.closing()))
}

fn run_doc_tests(project: &Project, filter: Option<&str>) -> Result<Option<String>> {
    let mut command = cargo(project);
    command.args(["test", "--doc", "--workspace", "--no-fail-fast"]).args(filter);
    with_environment(project, &mut command);
    let mut tally = Tally::default();
    let status = process::run_watching(&mut command, Watched::Stdout, |line| tally.look(line))?;
    if !status.success() {
        bail!(tally.closing_failed(status));
    }
    Ok(Some(tally.closing()))
}

fn with_environment(project: &Project, command: &mut Command) {
    let profile_dir = project.target.join("debug");
    command.env("WASMILL_PLUGINS", project.plugin_dir()).env("WASMILL_GUESTS", project.guest_dir());
    command.env("WASMILL_BIN", profile_dir.join("wasmill"));
}

/// Cargo in the checkout, as a person would start it there.
pub(crate) fn cargo(project: &Project) -> Command {
    let mut command = toolchain::cargo();
    command.current_dir(&project.root);
    // Set for this program by the cargo that runs it; the next one must find its own.
    // Build scripts that watch these would run again, and all above them would be built again.
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            command.env_remove(name);
        }
    }
    command
}

/// Lines of a failure that the summary repeats, and of all failures.
const LINES_OF_A_FAILURE: usize = 8;
const LINES_OF_FAILURES_MAX: usize = 80;

/// What the runners said in their closing lines, and of what failed.
#[derive(Default)]
struct Tally {
    passed: u64,
    failed: u64,
    ignored: u64,
    nextest: Option<String>,
    failures: Vec<String>,
    /// Lines that still belong to the failure told last.
    more: usize,
}

impl Tally {
    fn look(&mut self, line: &str) {
        if let Some(counts) = line.strip_prefix("test result: ") {
            self.passed += count_before(counts, " passed");
            self.failed += count_before(counts, " failed");
            self.ignored += count_before(counts, " ignored");
        } else if line.trim_start().starts_with("Summary [") {
            self.nextest = Some(line.trim().to_owned());
        }
        if line.trim_start().starts_with("thread '") && line.contains(" panicked at ") {
            self.more = LINES_OF_A_FAILURE;
        } else if line.starts_with("stack backtrace:")
            || line.starts_with("note: ")
            || line.starts_with("---- ")
        {
            self.more = 0;
        }
        if self.more > 0 && self.failures.len() < LINES_OF_FAILURES_MAX {
            self.more -= 1;
            self.failures.push(line.trim_end().to_owned());
        }
    }

    fn closing(&self) -> String {
        match &self.nextest {
            Some(summary) => summary.clone(),
            None => format!("{} passed, {} failed, {} ignored", self.passed, self.failed, self.ignored),
        }
    }

    /// The same where something failed, and the beginning of what was said of it: it stands far above by then.
    fn closing_failed(&self, status: ExitStatus) -> String {
        let told = self.failures.iter().map(|line| format!("\n    {line}"));
        format!("{} ({status}){}", self.closing(), told.collect::<String>())
    }
}

/// The number that stands before `word`: `ok. 12 passed; 0 failed` and ` passed` give 12.
fn count_before(text: &str, word: &str) -> u64 {
    let before = text.split(word).next().filter(|before| before.len() < text.len());
    before.and_then(|before| before.rsplit(' ').next()).and_then(|digits| digits.parse().ok()).unwrap_or(0)
}

/// What was done, for the summary.
#[derive(Default)]
pub(crate) struct Steps {
    done: Vec<Step>,
}

struct Step {
    name: String,
    took: Duration,
    outcome: Result<Option<String>>,
}

impl Steps {
    /// Does one thing. What it returns stands in the summary; false: it failed.
    pub(crate) fn run(&mut self, name: &str, work: impl FnOnce() -> Result<Option<String>>) -> bool {
        eprintln!("== {name}");
        let started = Instant::now();
        let outcome = work();
        let passed = outcome.is_ok();
        self.done.push(Step { name: name.to_owned(), took: started.elapsed(), outcome });
        passed
    }

    fn skip(&mut self, name: &str, reason: &'static str) {
        let outcome = Err(anyhow::anyhow!("not run: {reason}"));
        self.done.push(Step { name: name.to_owned(), took: Duration::ZERO, outcome });
    }

    /// Prints what happened; an error when a step failed.
    pub(crate) fn finish(self, title: &str) -> Result<()> {
        eprintln!("== summary");
        let mut failed = Vec::new();
        for step in self.done {
            let seconds = step.took.as_secs_f64();
            let (word, detail) = match &step.outcome {
                Ok(detail) => ("ok", detail.clone().unwrap_or_default()),
                Err(error) => ("FAILED", format!("{error:#}")),
            };
            println!("{title}: {:<10} {word:<7} {seconds:>7.1} s  {detail}", step.name);
            if step.outcome.is_err() {
                failed.push(step.name);
            }
        }
        if !failed.is_empty() {
            bail!("{title} failed: {}", failed.join(", "));
        }
        println!("{title}: all passed");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn package_that_cannot_be_had_fails_the_whole_list_and_is_said_of_the_rest() {
        let absent = || Err(anyhow::anyhow!("no mvn"));
        assert!(unless_needed("OpenSearch", absent(), true).is_err());
        let found = unless_needed("OpenSearch", absent(), false).unwrap();
        assert!(left_out(&found).is_some_and(|told| told.starts_with("left out")));
        assert_eq!(left_out(&unless_needed("OpenSearch", Ok(PathBuf::from("there")), true).unwrap()), None);
    }

    #[test]
    fn tally_several_result_lines_adds_them_up() {
        let mut tally = Tally::default();
        tally.look(
            "test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.1s",
        );
        tally.look("running 3 tests");
        tally.look("test result: FAILED. 2 passed; 1 failed; 0 ignored; 0 measured");
        assert_eq!(tally.closing(), "14 passed, 1 failed, 1 ignored");
    }

    #[test]
    fn tally_tells_the_beginning_of_each_failure_and_not_its_backtrace() {
        let mut tally = Tally::default();
        let said = "---- a::b stdout ----\nlooking\n\nthread 'a::b' (7) panicked at src/a.rs:3:5:\nassertion failed\n  \
                    left: 1\nstack backtrace:\n   0: main\n\n---- c stdout ----\nthread 'c' panicked at src/c.rs:1:1:\nno\nnote: run with\n";
        said.lines().for_each(|line| tally.look(line));
        let told = [
            "thread 'a::b' (7) panicked at src/a.rs:3:5:",
            "assertion failed",
            "  left: 1",
            "thread 'c' panicked at src/c.rs:1:1:",
            "no",
        ];
        assert_eq!(tally.failures, told);
        (0..1000).for_each(|_| tally.look("thread 'd' panicked at src/d.rs:1:1:"));
        assert_eq!(tally.failures.len(), LINES_OF_FAILURES_MAX);
    }

    #[test]
    fn tally_nextest_summary_is_kept_as_it_is() {
        let mut tally = Tally::default();
        tally.look("     Summary [   0.5s] 12 tests run: 12 passed, 0 skipped");
        assert_eq!(tally.closing(), "Summary [   0.5s] 12 tests run: 12 passed, 0 skipped");
    }
}

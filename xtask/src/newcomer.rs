//! `cargo xtask newcomer`: how long it takes from `wasmill plugin new` to the first record through a live host.
//!
//! What a person would type is run, in an empty directory, by the program that a person would have: a project is made
//! and built into a plugin directory, a host is started on it, and the first record of the project's own case is pushed
//! over HTTP until it comes out as the case says. Toolchains are installed, and their own caches filled, by a build
//! before the clock starts: the minute is the author's, not the download's.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use wasmill_author::{Language, process};

use crate::project::Project;
use crate::suite;

/// Those that are timed when nobody says which.
const LANGUAGES: [Language; 4] = [Language::Rust, Language::Go, Language::JavaScript, Language::Python];
/// Longest wait for a host that starts (it compiles the plugin first), and for a record.
const PATIENCE: Duration = Duration::from_secs(120);
const NAME: &str = "hello";

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Only these languages [default: rust, go, javascript, python]
    #[arg(value_name = "LANGUAGE")]
    languages: Vec<String>,
    /// Use this program instead of building one in release
    #[arg(long, value_name = "FILE")]
    wasmill: Option<PathBuf>,
}

/// Seconds since `plugin new` was typed, at the end of each step.
struct Times {
    language: Language,
    made: Duration,
    tested: Duration,
    built: Duration,
    live: Duration,
    record: Duration,
}

pub(crate) fn run(project: &Project, arguments: &Arguments) -> Result<()> {
    let mut languages = Vec::new();
    for name in &arguments.languages {
        languages.push(Language::parse(name)?);
    }
    if languages.is_empty() {
        languages.extend(LANGUAGES);
    }
    let wasmill = match &arguments.wasmill {
        Some(file) => std::path::absolute(file)?,
        None => {
            let mut build = suite::cargo(project);
            process::run(build.args(["build", "--release", "--package", "wasmill", "--bin", "wasmill"]))?;
            project.target.join("release/wasmill")
        }
    };
    let mut table = "| seconds after `plugin new` | project is made | tested | in the plugin directory | host is up | first \
                     record is out |\n|---|---|---|---|---|---|\n"
        .to_owned();
    for language in languages {
        let dir = project.target.join("newcomer").join(language.name());
        if dir.exists() {
            std::fs::remove_dir_all(&dir).with_context(|| format!("remove {}", dir.display()))?;
        }
        let times = time(&wasmill, language, &dir).with_context(|| language.name())?;
        let steps = [times.made, times.tested, times.built, times.live, times.record];
        let steps: Vec<String> = steps.iter().map(|step| format!("{:.1}", step.as_secs_f64())).collect();
        // Writing to a string does not fail.
        let _written = writeln!(table, "| {} | {} |", times.language.name(), steps.join(" | "));
    }
    print!("{table}");
    Ok(())
}

fn time(wasmill: &Path, language: Language, dir: &Path) -> Result<Times> {
    let warm = dir.join("warm");
    std::fs::create_dir_all(&warm)?;
    let typed = |dir: &Path, arguments: &[&str]| {
        // Its report is not ours.
        process::run(Command::new(wasmill).args(arguments).current_dir(dir).stdout(Stdio::null()))
    };
    let make = ["plugin", "new", "--lang", language.name(), NAME];
    typed(&warm, &make)?;
    typed(&warm, &["plugin", "build", NAME, "--install"])?;

    let start = Instant::now();
    typed(dir, &make)?;
    let made = start.elapsed();
    typed(dir, &["plugin", "test", NAME])?;
    let tested = start.elapsed();
    std::fs::create_dir_all(dir.join("plugins"))?;
    typed(dir, &["plugin", "build", NAME, "--out", "plugins/hello.wasm"])?;
    let built = start.elapsed();
    let (input, expected) = first_record(&dir.join(NAME).join("cases"))?;
    let host = Host::start(wasmill, dir)?;
    let live = start.elapsed();
    host.push(&input)?;
    let came = host.record()?;
    let record = start.elapsed();
    drop(host);
    if came != expected {
        bail!("{input} came out as {came}, and its case says {expected}");
    }
    Ok(Times { language, made, tested, built, live, record })
}

/// The first record of a new project's only case, and what must come of it.
fn first_record(cases: &Path) -> Result<(String, String)> {
    let case = std::fs::read_dir(cases)
        .with_context(|| format!("read {}", cases.display()))?
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .find(|path| path.is_dir())
        .with_context(|| format!("{} has no case", cases.display()))?;
    let line = |name: &str| {
        let file = case.join(name);
        let text = std::fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
        text.lines().next().map(str::to_owned).with_context(|| format!("{} is empty", file.display()))
    };
    Ok((line("input.ndjson")?, line("expected.ndjson")?))
}

/// A running host, until it is dropped.
struct Host {
    child: Child,
    address: SocketAddr,
    rows: mpsc::Receiver<String>,
}

impl Host {
    /// Returns once it takes records.
    fn start(wasmill: &Path, dir: &Path) -> Result<Host> {
        // Free now; nobody else asks for one of these in the moment until the host takes it.
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let config = format!(
            "[http]\nlisten = \"{address}\"\n\n[streams.s]\nsource = {{ type = \"http\" }}\n\n\
             [[streams.s.transforms]]\nplugin = \"{NAME}\"\nconfig = {{}}\n\n\
             [[streams.s.outputs]]\ntype = \"stdout\"\ninterval = \"0s\"\n"
        );
        let file = dir.join("wasmill.toml");
        std::fs::write(&file, config).with_context(|| format!("write {}", file.display()))?;
        let mut child = Command::new(wasmill)
            .args(["run", "wasmill.toml", "--log-level", "warn"])
            .current_dir(dir)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("start the host")?;
        let stdout = child.stdout.take().context("the host's output")?;
        let (send, rows) = mpsc::sync_channel(64);
        std::thread::spawn(move || {
            let lines = BufReader::new(stdout).lines().map_while(Result::ok);
            lines.take_while(|line| send.send(line.clone()).is_ok()).for_each(drop);
        });
        let mut host = Host { child, address, rows };
        let end = Instant::now() + PATIENCE;
        while !host.request("GET /readyz HTTP/1.1").is_ok_and(|answer| answer.contains(" 200 ")) {
            if let Some(status) = host.child.try_wait()? {
                bail!("the host ended ({status})");
            }
            if Instant::now() > end {
                bail!("the host is not ready after {PATIENCE:?}");
            }
            process::pause(Duration::from_millis(10));
        }
        Ok(host)
    }

    fn push(&self, record: &str) -> Result<()> {
        let head = format!(
            "POST /v1/streams/s/records HTTP/1.1\r\ncontent-type: application/x-ndjson\r\ncontent-length: {}",
            record.len()
        );
        let answer = self.request_with(&head, record)?;
        if !answer.contains(" 200 ") {
            bail!("the host answered {}", answer.lines().next().unwrap_or_default());
        }
        Ok(())
    }

    fn record(&self) -> Result<String> {
        self.rows.recv_timeout(PATIENCE).context("no record came out")
    }

    fn request(&self, line: &str) -> Result<String> {
        self.request_with(line, "")
    }

    fn request_with(&self, head: &str, body: &str) -> Result<String> {
        let mut connection = TcpStream::connect_timeout(&self.address, Duration::from_secs(1))?;
        connection.set_read_timeout(Some(PATIENCE))?;
        write!(connection, "{head}\r\nhost: localhost\r\nconnection: close\r\n\r\n{body}")?;
        let mut answer = String::new();
        connection.read_to_string(&mut answer)?;
        Ok(answer)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // One that is gone already is as good.
        let _stopped = self.child.kill().and_then(|()| self.child.wait());
    }
}

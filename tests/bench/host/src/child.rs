//! Other programs, and what the system says that they cost.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use wait4::Wait4;

use crate::http::Client;

/// Longest time from start to ready, and from the signal to the end.
const START_MAX: Duration = Duration::from_secs(60);

/// What a program and the children that it waited for have used.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Used {
    pub(crate) cpu_s: f64,
    pub(crate) wall_s: f64,
    /// Of the largest of them.
    pub(crate) rss_bytes_peak: u64,
}

/// Runs a program to its end.
pub(crate) fn run(command: &mut Command) -> Result<Used> {
    let started = Instant::now();
    let name = command.get_program().to_string_lossy().into_owned();
    let mut child = command.spawn().with_context(|| format!("start {name}"))?;
    let (used, status) = wait(&mut child, started)?;
    ensure!(status.success(), "{name} failed ({status})");
    Ok(used)
}

/// Runs a program to its end that reads this.
pub(crate) fn feed(command: &mut Command, input: &[u8]) -> Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let mut child = command.stdin(Stdio::piped()).spawn().with_context(|| format!("start {name}"))?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input)?;
    }
    let status = child.wait()?;
    ensure!(status.success(), "{name} failed ({status})");
    Ok(())
}

/// Waits for the end of a child that began at `started`.
pub(crate) fn wait(child: &mut Child, started: Instant) -> Result<(Used, ExitStatus)> {
    let end = child.wait4()?;
    let used = Used {
        cpu_s: (end.rusage.utime + end.rusage.stime).as_secs_f64(),
        wall_s: started.elapsed().as_secs_f64(),
        rss_bytes_peak: end.rusage.maxrss,
    };
    Ok((used, end.status))
}

/// A program that runs hosts: `PROGRAM VERB CONFIG`.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    pub(crate) path: PathBuf,
    pub(crate) verb: &'static str,
}

impl Program {
    /// Its output goes to `log`, because a terminal would cost time.
    pub(crate) fn command(&self, config: &Path, log: &Path) -> Result<Command> {
        let mut command = Command::new(&self.path);
        let out = File::create(log).with_context(|| format!("create {}", log.display()))?;
        command.arg(self.verb).arg(config).stdin(Stdio::null());
        command.stdout(out.try_clone()?).stderr(out);
        Ok(command)
    }

    /// Runs a configuration whose sources end by themselves.
    pub(crate) fn run(&self, config: &Path, log: &Path) -> Result<Used> {
        run(&mut self.command(config, log)?).with_context(|| format!("see {}", log.display()))
    }

    /// Starts a host and waits until it is ready.
    pub(crate) fn serve(&self, config: &Path, log: &Path, port: u16) -> Result<Server> {
        self.serve_within(config, log, port, START_MAX)
    }

    /// The same, with patience.
    pub(crate) fn serve_within(
        &self,
        config: &Path,
        log: &Path,
        port: u16,
        longest: Duration,
    ) -> Result<Server> {
        let started = Instant::now();
        let child = self.command(config, log)?.spawn()?;
        let mut server = Server { child, port, ready_s: 0.0, log: log.to_owned(), ended: false };
        while started.elapsed() < longest {
            if Client::connect(port).and_then(|mut client| client.get("/readyz")).is_ok() {
                server.ready_s = started.elapsed().as_secs_f64();
                return Ok(server);
            }
            if let Some(status) = server.child.try_wait()? {
                server.ended = true;
                bail!("{} ended ({status}); see {}", self.path.display(), log.display());
            }
            crate::pause(Duration::from_micros(500));
        }
        bail!("not ready after {} s; see {}", longest.as_secs(), log.display())
    }
}

/// A running host.
pub(crate) struct Server {
    child: Child,
    pub(crate) port: u16,
    pub(crate) ready_s: f64,
    log: PathBuf,
    ended: bool,
}

impl Server {
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Asks it to drain and waits for its end.
    pub(crate) fn stop(mut self) -> Result<()> {
        self.signal(Signal::TERM)?;
        let status = self.child.wait()?;
        self.ended = true;
        ensure!(status.success(), "the host ended with {status}; see {}", self.log.display());
        Ok(())
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let pid =
            i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).context("child without an id")?;
        Ok(kill_process(pid, signal)?)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if !self.ended {
            // It is gone already, or it goes now.
            let _gone = (self.child.kill(), self.child.wait());
        }
    }
}

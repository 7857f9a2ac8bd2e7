//! The real binary as a child process: its log, its signals, its end.
#![expect(
    clippy::expect_used,
    reason = "support of tests: what cannot be set up fails the test that wanted it"
)]

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::wait::wait_for;

/// Log lines that are kept; a test that makes more looks at the first ones only.
const LOG_LINES_MAX: usize = 10_000;
const RUNNING: &str = "wasmill is running";

/// The binary that `WASMILL_BIN` names. `None`, with the reason said, when it is not set: `cargo xtask test` always sets
/// it.
pub fn binary() -> Option<PathBuf> {
    let binary = std::env::var_os("WASMILL_BIN").map(PathBuf::from);
    if binary.is_none() {
        #[expect(clippy::print_stdout, reason = "a test says why it skips")]
        {
            println!("skipped: WASMILL_BIN is not set; `cargo xtask test` sets it");
        }
    }
    binary
}

/// Between two looks at what a process uses.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// The most that a process has used until it ended.
#[derive(Clone, Copy, Debug, Default)]
pub struct Peaks {
    pub resident_bytes: u64,
    pub descriptors: usize,
}

/// A line of `/proc/PID/status`, in bytes; `None`: there is no such process any more.
pub fn status_bytes(process: u32, name: &str) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim_start_matches(':').trim().trim_end_matches(" kB").parse::<u64>().ok().map(|kib| kib << 10)
}

/// `wasmill run CONFIG`; killed when dropped.
pub struct Program {
    child: Child,
    log: Arc<Mutex<Vec<String>>>,
    reading: Option<JoinHandle<()>>,
}

impl Program {
    /// Starts it and waits until it runs.
    pub fn start(binary: &Path, config: &Path) -> Program {
        let mut command = Command::new(binary);
        command.args(["run", "--log-format", "json"]).arg(config);
        let program = Program::spawn(&mut command);
        program.wait_for_log(RUNNING);
        program
    }

    /// Any command of the binary, its log piped.
    pub fn spawn(command: &mut Command) -> Program {
        let mut child = command.stderr(Stdio::piped()).spawn().expect("the binary");
        let log = Arc::new(Mutex::new(Vec::new()));
        let (lines, written) = (child.stderr.take().expect("its stderr"), log.clone());
        let reading = std::thread::spawn(move || {
            for line in BufReader::new(lines).lines().map_while(Result::ok) {
                let mut log = written.lock().unwrap_or_else(PoisonError::into_inner);
                if log.len() < LOG_LINES_MAX {
                    log.push(line);
                }
            }
        });
        Program { child, log, reading: Some(reading) }
    }

    /// Its standard input, which ends when the value is dropped.
    pub fn stdin(&mut self) -> ChildStdin {
        self.child.stdin.take().expect("a piped standard input")
    }

    pub fn log(&self) -> Vec<String> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether a log line has this text by now.
    pub fn says(&self, text: &str) -> bool {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).iter().any(|line| line.contains(text))
    }

    /// How it ended, if it has.
    pub fn end(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("our own child")
    }

    /// The first log line with this text.
    pub fn wait_for_log(&self, text: &str) -> String {
        wait_for(&format!("the log line {text:?}"), || {
            let found = self.log().into_iter().find(|line| line.contains(text));
            let ended = self.reading.as_ref().is_none_or(JoinHandle::is_finished);
            assert!(found.is_some() || !ended, "it ended without {text:?}: {:#?}", self.log());
            found
        })
    }

    /// Where it takes pushes.
    pub fn address(&self) -> SocketAddr {
        let line = self.wait_for_log(RUNNING);
        let rest = line.split("\"http\":\"").nth(1).and_then(|rest| rest.split('"').next());
        rest.and_then(|address| address.parse().ok()).unwrap_or_else(|| panic!("no address in {line}"))
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Looks at it until it ends.
    pub fn watch(&self) -> JoinHandle<Peaks> {
        let process = self.id();
        std::thread::spawn(move || {
            let mut peaks = Peaks::default();
            while let Some(resident) = status_bytes(process, "VmHWM") {
                peaks.resident_bytes = peaks.resident_bytes.max(resident);
                let descriptors = std::fs::read_dir(format!("/proc/{process}/fd")).map_or(0, Iterator::count);
                peaks.descriptors = peaks.descriptors.max(descriptors);
                std::thread::park_timeout(LOOK_AGAIN);
            }
            peaks
        })
    }

    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).expect("a signal to our own child");
    }

    /// Sends it signals until it has ended: those that come close upon one another count as one.
    pub fn insist(&mut self, signal: Signal) -> ExitStatus {
        wait_for("the end of the program", || {
            self.signal(signal);
            self.child.try_wait().expect("our own child")
        })
    }

    /// Waits for its end.
    pub fn ended(&mut self) -> ExitStatus {
        let status = wait_for("the end of the program", || self.child.try_wait().expect("our own child"));
        if let Some(reading) = self.reading.take() {
            reading.join().expect("the log");
        }
        status
    }

    /// Ends it as a power cut would, as far as a process can see. Returns its log.
    pub fn kill(mut self) -> Vec<String> {
        if self.end().is_none() {
            self.signal(Signal::KILL);
        }
        self.ended();
        self.log()
    }

    /// SIGTERM, and an orderly end.
    pub fn stop(mut self) {
        self.signal(Signal::TERM);
        let status = self.ended();
        assert!(status.success(), "{status}: {:#?}", self.log());
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            // It may end by itself at this very moment.
            drop(self.child.kill());
            drop(self.child.wait());
        }
    }
}

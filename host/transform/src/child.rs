//! Looks into plugins and compiles them in a child process with memory, CPU and wall limits, so that a file made to hurt
//! whoever reads it costs a child.
//!
//! The parent trusts the child's output (it is the same program, the same engine settings) and only that: a plugin
//! file reaches parsers and compiler nowhere else. Of a file that was never compiled the parent itself reads no more than
//! where its sections begin, and its manifest.

use std::io::{self, Read, Write};
use std::ops::Range;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::Duration;

use rustix::process::{Resource, Rlimit, Signal, setrlimit};

use crate::engine::{Engine, EngineOptions};
use crate::inspect::inspect;

/// Name of the hidden subcommand.
const SUBCOMMAND: &str = "compile-plugin";
/// Compiled code may be this many times the plugin file.
const CODE_PER_WASM: u64 = 16;
/// And never more than the end of this, which passes through the parent's memory; CPython's is half of it.
const CODE_BYTES: Range<u64> = 16 << 20..256 << 20;
/// Of what the child says about a refusal.
const REASON_BYTES_MAX: u64 = 16 << 10;
/// What runs goes before what is to run.
const NICE: i32 = 10;
/// The compiler recurses deeply on deeply nested input.
const COMPILE_STACK_BYTES: usize = 32 << 20;
const REFUSED: u8 = 1;
const USAGE: u8 = 2;

/// Limits of the compile child.
#[derive(Clone, Copy, Debug)]
pub struct CompileLimits {
    /// Address space, RLIMIT_AS.
    pub memory_bytes: u64,
    /// RLIMIT_CPU, over all of the child's threads.
    pub cpu: Duration,
    pub wall: Duration,
    /// A plugin file over this is refused before anything looks into it.
    pub wasm_bytes: u64,
}

impl Default for CompileLimits {
    fn default() -> Self {
        CompileLimits {
            memory_bytes: 4 << 30,
            cpu: Duration::from_secs(120),
            wall: Duration::from_secs(180),
            wasm_bytes: 64 << 20,
        }
    }
}

/// Why there is no compiled code.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    #[error("plugin file of {bytes} bytes is over the limit of {max}")]
    TooLarge { bytes: u64, max: u64 },
    #[error("{action} the compile process")]
    Process {
        action: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("compiling took longer than {}s", .wall.as_secs_f32())]
    Wall { wall: Duration },
    #[error("compiling used more than {}s of CPU time", .cpu.as_secs())]
    Cpu { cpu: Duration },
    #[error("compiling needed more than {bytes} bytes of memory, or crashed ({status}): {said}")]
    Crashed { bytes: u64, status: String, said: String },
    #[error("compiled code is over the limit of {max} bytes")]
    CodeTooLarge { max: u64 },
    /// The child refused the file; the text says why.
    #[error("{0}")]
    Refused(String),
}

/// Runs `exe compile-plugin`, hands it `wasm` on stdin, and returns the compiled code. Blocks the calling thread.
pub fn compile_in_child(exe: &Path, wasm: &[u8], limits: &CompileLimits) -> Result<Vec<u8>, CompileError> {
    compile_in_child_counted(exe, wasm, limits).0
}

/// The same, and the CPU time that the child has used, whatever came of it.
pub fn compile_in_child_counted(
    exe: &Path,
    wasm: &[u8],
    limits: &CompileLimits,
) -> (Result<Vec<u8>, CompileError>, Duration) {
    let mut cpu = Duration::ZERO;
    let compiled = compile(exe, wasm, limits, &mut cpu);
    (compiled, cpu)
}

fn compile(
    exe: &Path,
    wasm: &[u8],
    limits: &CompileLimits,
    cpu: &mut Duration,
) -> Result<Vec<u8>, CompileError> {
    let bytes = wasm.len() as u64;
    if bytes > limits.wasm_bytes {
        return Err(CompileError::TooLarge { bytes, max: limits.wasm_bytes });
    }
    let failed = |action| move |source| CompileError::Process { action, source };
    let mut child = Command::new(exe)
        .arg(SUBCOMMAND)
        .arg(limits.memory_bytes.to_string())
        .arg(limits.cpu.as_secs().max(1).to_string())
        .arg(limits.wasm_bytes.to_string())
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed("start"))?;
    let code_max = bytes.saturating_mul(CODE_PER_WASM).clamp(CODE_BYTES.start, CODE_BYTES.end);
    let answer = talk(&mut child, wasm, code_max, limits.wall);
    // Dead or done, it is waited for; killing what is done does nothing.
    let _done_already = child.kill();
    *cpu = cpu_of(&child);
    let status = child.wait().map_err(failed("wait for"))?;
    let (code, said) = answer?;
    let said = String::from_utf8_lossy(&said).trim().to_owned();
    judge(status, code, said, code_max, limits)
}

/// CPU time of a child that has ended or is about to, of all its threads. What the system does not tell is nothing.
fn cpu_of(child: &Child) -> Duration {
    let pid = rustix::process::Pid::from_child(child);
    let options = rustix::process::WaitIdOptions::EXITED | rustix::process::WaitIdOptions::NOWAIT;
    // It stays to be waited for, and its times are whole now.
    if rustix::process::waitid(rustix::process::WaitId::Pid(pid), options).is_err() {
        return Duration::ZERO;
    }
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap_or_default();
    // Its name may have anything in it, and ends with the last parenthesis.
    let fields = stat.rsplit_once(')').map(|(_, fields)| fields.split_whitespace().collect::<Vec<_>>());
    let ticks = |place: usize| {
        let field = fields.as_ref().and_then(|fields| fields.get(place));
        field.and_then(|field| field.parse::<u64>().ok()).unwrap_or(0)
    };
    // The fields utime and stime; Linux counts them in hundredths of a second wherever it runs.
    Duration::from_millis((ticks(11) + ticks(12)).saturating_mul(10))
}

/// Writes to the child and reads both its outputs at once, within the wall limit.
fn talk(
    child: &mut Child,
    wasm: &[u8],
    code_max: u64,
    wall: Duration,
) -> Result<(Vec<u8>, Vec<u8>), CompileError> {
    let missing = || CompileError::Process { action: "talk to", source: io::ErrorKind::BrokenPipe.into() };
    let mut stdin = child.stdin.take().ok_or_else(missing)?;
    let stdout = child.stdout.take().ok_or_else(missing)?;
    let stderr = child.stderr.take().ok_or_else(missing)?;
    let (sender, receiver) = sync_channel(1);
    std::thread::scope(|scope| {
        // A child that dies early leaves a broken pipe; its status tells more than this error would.
        scope.spawn(move || stdin.write_all(wasm).is_ok());
        let said = scope.spawn(move || drain(stderr, REASON_BYTES_MAX));
        scope.spawn(move || {
            // The receiver is gone only after the wall limit.
            let _late = sender.send(drain(stdout, code_max + 1));
        });
        let code = receiver.recv_timeout(wall);
        if code.is_err() {
            // Ends the readers, so that the scope can be left.
            let _done_already = child.kill();
        }
        let said = said.join().unwrap_or_default();
        match code {
            Ok(code) => Ok((code, said)),
            Err(RecvTimeoutError::Timeout) => Err(CompileError::Wall { wall }),
            Err(RecvTimeoutError::Disconnected) => Err(missing()),
        }
    })
}

/// Up to `max` bytes; what follows is read and thrown away, so that the writer is not held up.
fn drain(mut from: impl Read, max: u64) -> Vec<u8> {
    let mut kept = Vec::new();
    // An error is the end: the child's status says the rest.
    let _read = from.by_ref().take(max).read_to_end(&mut kept);
    let _rest = io::copy(&mut from, &mut io::sink());
    kept
}

fn judge(
    status: ExitStatus,
    code: Vec<u8>,
    said: String,
    code_max: u64,
    limits: &CompileLimits,
) -> Result<Vec<u8>, CompileError> {
    match status.code() {
        Some(0) if code.len() as u64 > code_max => Err(CompileError::CodeTooLarge { max: code_max }),
        Some(0) => Ok(code),
        Some(refused) if refused == i32::from(REFUSED) => Err(CompileError::Refused(said)),
        _ if status.signal() == Some(Signal::XCPU.as_raw()) => Err(CompileError::Cpu { cpu: limits.cpu }),
        _ => Err(CompileError::Crashed {
            bytes: limits.memory_bytes,
            status: status.to_string(),
            said: crate::fault::cut_text(&said, 512),
        }),
    }
}

/// The body of the hidden subcommand `compile-plugin`: `args` are the arguments after its name. Limits itself, reads a
/// plugin from stdin, writes compiled code to stdout. Returns the exit code; the reason of a refusal is on stderr.
pub fn compile_child_main(args: &[String]) -> u8 {
    let numbers: Vec<u64> = args.iter().map_while(|arg| arg.parse().ok()).collect();
    let &[memory, cpu, wasm_bytes] = numbers.as_slice() else {
        say("usage: compile-plugin MEMORY-BYTES CPU-SECONDS WASM-BYTES < plugin.wasm");
        return USAGE;
    };
    let limit = |bound| Rlimit { current: Some(bound), maximum: Some(bound) };
    let limited = setrlimit(Resource::As, limit(memory))
        .and_then(|()| setrlimit(Resource::Cpu, Rlimit { current: Some(cpu), maximum: Some(cpu + 1) }))
        .and_then(|()| setrlimit(Resource::Core, limit(0)));
    if let Err(error) = limited {
        say(&format!("limit the compile process: {error}"));
        return REFUSED;
    }
    // Where that is not allowed it competes with streams as an equal.
    let _as_before = rustix::process::nice(NICE);
    let worker =
        std::thread::Builder::new().stack_size(COMPILE_STACK_BYTES).spawn(move || compile_here(wasm_bytes));
    match worker.map(std::thread::JoinHandle::join) {
        Ok(Ok(Ok(()))) => 0,
        Ok(Ok(Err(reason))) => {
            say(&reason);
            REFUSED
        }
        Ok(Err(_panic)) => {
            say("the compiler panicked");
            REFUSED
        }
        Err(error) => {
            say(&format!("start the compile thread: {error}"));
            REFUSED
        }
    }
}

fn compile_here(wasm_bytes: u64) -> Result<(), String> {
    let mut wasm = Vec::new();
    io::stdin()
        .lock()
        .take(wasm_bytes + 1)
        .read_to_end(&mut wasm)
        .map_err(|error| format!("read: {error}"))?;
    if wasm.len() as u64 > wasm_bytes {
        return Err(format!("plugin file is over the limit of {wasm_bytes} bytes"));
    }
    // Before the compiler sees it: says all that is wrong at once.
    let inspection = inspect(&wasm).map_err(|fault| fault.reason())?;
    if !inspection.refused.is_empty() {
        return Err(inspection.refused.join("; "));
    }
    // On-demand allocation: the pool's address space would not fit under the limit.
    let options = EngineOptions { pooling: false, ..EngineOptions::default() };
    let engine = Engine::new(options).map_err(|error| error.to_string())?;
    let code = engine.precompile(&wasm).map_err(|error| error.to_string())?;
    let mut stdout = io::stdout().lock();
    stdout.write_all(&code).and_then(|()| stdout.flush()).map_err(|error| format!("write: {error}"))
}

fn say(text: &str) {
    // Nobody is left to tell if stderr is gone.
    let _unheard = writeln!(io::stderr(), "{text}");
}

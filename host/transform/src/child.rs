//! Compiles plugins in a child process with memory, CPU and wall limits, so that a compile bomb costs a child.

use std::path::Path;
use std::time::Duration;

/// Limits of the compile child.
#[derive(Clone, Copy, Debug)]
pub struct CompileLimits {
    /// Address space, RLIMIT_AS.
    pub memory_bytes: u64,
    /// RLIMIT_CPU.
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

#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    #[error("plugin file of {bytes} bytes is over the limit of {max}")]
    TooLarge { bytes: u64, max: u64 },
    #[error("{action} the compile process")]
    Process {
        action: &'static str,
        #[source]
        source: std::io::Error,
    },
    #[error("compiling took longer than {}s", .wall.as_secs())]
    Wall { wall: Duration },
    #[error("compiling used more than {}s of CPU time", .cpu.as_secs())]
    Cpu { cpu: Duration },
    #[error("compiling needed more than {bytes} bytes of memory, or crashed ({status})")]
    Crashed { bytes: u64, status: String },
    /// The child refused the file; the text says why.
    #[error("{0}")]
    Refused(String),
}

/// Runs `exe compile-plugin`, hands it `wasm` on stdin, and returns the compiled code. Blocks the calling thread.
pub fn compile_in_child(_exe: &Path, _wasm: &[u8], _limits: &CompileLimits) -> Result<Vec<u8>, CompileError> {
    unimplemented!()
}

/// The body of the hidden subcommand `wasmill compile-plugin`: limits itself as the arguments say, reads a plugin
/// from stdin, writes compiled code to stdout. Returns the exit code; the reason of a refusal is on stderr.
pub fn compile_child_main(_args: &[String]) -> u8 {
    unimplemented!()
}

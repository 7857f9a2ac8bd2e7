//! The compile child of hosts that run inside a test.

use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(2).collect();
    ExitCode::from(wasmill_transform::compile_child_main(&args))
}

//! The compile child on its own, for tests: the real program has it as a hidden subcommand.

use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(2).collect();
    ExitCode::from(wasmill_transform::compile_child_main(&args))
}

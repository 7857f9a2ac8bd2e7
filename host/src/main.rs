//! The program. The compile child is told apart before anything else: it is started once per plugin version and must
//! cost nothing but compiling.

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut arguments = std::env::args();
    if arguments.nth(1).as_deref() == Some(wasmill::cli::COMPILE_PLUGIN) {
        let rest: Vec<String> = arguments.collect();
        return ExitCode::from(wasmill_transform::compile_child_main(&rest));
    }
    wasmill::cli::main()
}

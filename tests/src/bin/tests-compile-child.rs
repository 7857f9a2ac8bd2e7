//! The processes that a host starts of itself, for hosts that run inside a test: the real program has them as hidden subcommands.

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let subcommand = args.next();
    let rest: Vec<String> = args.collect();
    ExitCode::from(match subcommand.as_deref() {
        Some("run-plugins") => wasmill_transform::plugin_process_main(&rest),
        _ => wasmill_transform::compile_child_main(&rest),
    })
}

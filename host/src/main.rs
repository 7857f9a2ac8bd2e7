//! The program. What the host starts of itself is told apart before anything else: it must cost nothing but its work.

use std::process::ExitCode;

/// Gives back what was freed within seconds, also what threads freed that others had allocated: plugins come and go.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let mut arguments = std::env::args();
    let run = match arguments.nth(1).as_deref() {
        Some(wasmill::cli::COMPILE_PLUGIN) => wasmill_transform::compile_child_main,
        Some(wasmill::cli::RUN_PLUGINS) => wasmill_transform::plugin_process_main,
        _ => return wasmill::cli::main(),
    };
    let rest: Vec<String> = arguments.collect();
    ExitCode::from(run(&rest))
}

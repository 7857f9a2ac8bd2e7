//! Nanoseconds per line of the native plugin alone, over an access log.
//!
//! `cargo run --release -p wasmill-parse --example speed FILE`

use std::sync::Arc;
use std::time::Instant;

use wasmill_chunk::{Chunk, ChunkLimits, ColumnRef, Input, Layout};
use wasmill_parse::Parse;
use wasmill_sdk::native::{Grants, Native};

#[expect(clippy::print_stdout, reason = "a report for a person")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).ok_or("which access log? `cargo xtask generate` makes one")?;
    let log = std::fs::read(path)?;
    let mut plugin = Native::<Parse>::configure(r#"{"format":"combined"}"#, &Grants::default())?;
    let layout = Arc::new(Layout::new(&[plugin.fields().to_vec()])?);
    let mut chunk = Chunk::new(layout, ChunkLimits::default());
    let lines: Vec<&[u8]> = log.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).collect();
    let (mut rows, mut spent) = (0, std::time::Duration::ZERO);
    for _ in 0..100 {
        for lines in lines.chunks(550) {
            let (mut data, mut ends) = (Vec::new(), Vec::new());
            for line in lines {
                data.extend_from_slice(line);
                ends.push(u32::try_from(data.len())?);
            }
            let input = Input::of_payloads(0, ColumnRef { data: &data, ends: &ends });
            chunk.begin(&input, 0..ends.len())?;
            chunk.enter(0, 1);
            let start = Instant::now();
            plugin.process(&mut chunk)?;
            spent += start.elapsed();
            rows += ends.len();
            chunk.discard();
        }
    }
    println!("parse: {:.1} ns per line", spent.as_nanos() as f64 / rows as f64);
    Ok(())
}

//! Appends on a real disk against a bare write + `fdatasync`, interleaved: latency, throughput, CPU.
//!
//! Usage: `append DIR`. CPU covers only the append side of each pair of runs.

#![expect(clippy::print_stdout, reason = "a measurement's result goes to stdout")]

use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Instant;

use wasmill_buffer::{Journal, Options, Position, Records, StreamKey, StreamOptions};

fn cpu_s() -> f64 {
    // Fields 14 and 15 of the process's stat, in ticks of 10 ms.
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let ticks: f64 = stat.split_whitespace().skip(13).take(2).filter_map(|t| t.parse::<f64>().ok()).sum();
    ticks / 100.0
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = std::env::args().nth(1).ok_or(io::Error::other("usage: append DIR"))?;
    let dir = Path::new(&dir);
    let (journal, _) = Journal::open(dir, Options::default())?;
    let key = StreamKey { tenant: "bench".into(), name: "bench".into() };
    let stream = journal.stream(&key, StreamOptions { max_bytes: 8 << 30, retention: None }).await?;
    for (size, rounds) in [(200usize, 500usize), (64 << 10, 300), (1 << 20, 120)] {
        let probe = std::fs::File::create(dir.join("probe"))?;
        let payload = bytes::Bytes::from(vec![b'x'; size]);
        probe.write_all_at(&vec![0; size * rounds], 0)?;
        probe.sync_all()?;
        let (mut bare, mut ours, mut cpu) = (Vec::new(), Vec::new(), 0.0);
        for round in 0..rounds {
            let start = Instant::now();
            probe.write_all_at(&payload, (round * size) as u64)?;
            probe.sync_data()?;
            bare.push(start.elapsed().as_secs_f64() * 1e3);
            let (start, before) = (Instant::now(), cpu_s());
            let ends =
                (1..=size / 200).map(|i| i as u32 * 200).chain((size % 200 > 0).then_some(size as u32));
            let receipt = stream.append(Records::new(payload.clone(), ends.collect(), 1)).await?;
            ours.push(start.elapsed().as_secs_f64() * 1e3);
            cpu += cpu_s() - before;
            stream.checkpoint("", receipt.first_offset, Position(0), false).await?;
        }
        for (name, times) in [("bare", &mut bare), ("journal", &mut ours)] {
            times.sort_by(f64::total_cmp);
            let total: f64 = times.iter().sum::<f64>() / 1e3;
            let rate = (size * rounds) as f64 / 1e6 / total;
            let (p50, p99) = (times[rounds / 2], times[rounds * 99 / 100]);
            println!("{size:>8} B {name:>8}: p50 {p50:.3} p99 {p99:.3} ms {rate:.0} MB/s");
        }
        println!("{size:>8} B journal cpu {:.2} s/GB", cpu / ((size * rounds) as f64 / 1e9));
    }
    journal.close().await?;
    println!("{:?}", journal.stats());
    Ok(())
}

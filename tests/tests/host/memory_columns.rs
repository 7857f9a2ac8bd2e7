//! Bounded memory of a host that writes Parquet with large row groups, while clients push at full speed.

use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::Value;
use wasmill_tests::client::{self, Connection};
use wasmill_tests::program::{Program, binary};
use wasmill_tests::scratch::Scratch;
use wasmill_tests::wait::wait_until;

const CLIENTS: u64 = 4;
/// Of one push: three quarters of a mebibyte.
const RECORDS: u64 = 4096;
/// All clients together.
const PUSHES: u64 = 704;
/// Of records, and one row group of almost as much.
const BATCH: u64 = 48 << 20;
/// By the formula of docs/faults.md: 60 + 2 x 4 + 32 + 64 + 96 + 2 x 12 + 16 MiB, and for each of two workers a row group whose
/// pages are not written yet and the rows of its batch.
const RESIDENT_MAX: u64 = (300 + 2 * (32 + 48)) << 20;
const AGAIN: Duration = Duration::from_millis(20);

/// Words that repeat as those of logs do, and a part that does not.
fn record(n: u64) -> String {
    let drawn = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    format!(
        "{{\"n\":{n},\"at\":{},\"path\":\"/shop/{}/{}\",\"agent\":\"Mozilla/5.0 (X11; Linux x86_64; rv:{}.0)\",\"ratio\":{}.5,\
         \"trace\":\"{drawn:016x}{:016x}\",\"text\":\"{}\"}}",
        1_700_000_000_000 + n,
        drawn % 997,
        drawn % 89,
        n % 40,
        drawn % 1000,
        drawn.rotate_left(17) ^ n,
        ["accepted", "declined because of the limit", "sent again after a while"][(drawn % 3) as usize],
    )
}

#[test]
fn memory_stays_bounded_while_large_row_groups_are_written() {
    let (Some(binary), Some(packages)) = (binary(), std::env::var_os("WASMILL_READERS")) else { return };
    let scratch = Scratch::new(&format!(
        r#"#whole
        [http]
        listen = "127.0.0.1:0"
        [buffer]
        max_bytes = "128MiB"
        journal_file = "16MiB"
        [streams.events]
        source = {{ type = "http" }}
        [[streams.events.outputs]]
        type = "directory"
        path = "out"
        format = "parquet"
        size = "{BATCH}B"
        interval = "1h"
        [streams.events.outputs.parquet]
        schema = "n: int64 required, at: timestamp, path: string, agent: string, ratio: double, trace: string, text: string"
        row_group = "128MiB"
        "#
    ));
    let program = Program::start(&binary, &scratch.config());
    let watched = program.watch();
    let next = AtomicU64::new(0);
    let offered = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                let mut connection = Connection::open(program.address()).unwrap();
                loop {
                    let push = next.fetch_add(1, Ordering::Relaxed);
                    if push >= PUSHES {
                        return;
                    }
                    let lines: Vec<String> = (push * RECORDS..(push + 1) * RECORDS).map(record).collect();
                    let body = lines.join("\n");
                    offered.fetch_add(body.len() as u64, Ordering::Relaxed);
                    loop {
                        let answer = connection.push("events", &body).unwrap();
                        match answer.status {
                            200 => break,
                            // The buffer is full until a batch has been written.
                            429 => std::thread::park_timeout(AGAIN),
                            other => panic!("{other}: {}", answer.body),
                        }
                    }
                }
            });
        }
    });
    // A batch after the other, as long as there are whole ones: what is left is less than the buffer holds.
    let delivered = || {
        let text = client::get(program.address(), "/metrics").unwrap().body;
        let series = "wasmill_output_records_delivered_total{stream=\"events\",output=\"default\"} ";
        text.lines().find_map(|line| line.strip_prefix(series)).unwrap().parse::<u64>().unwrap()
    };
    let of_batch = BATCH * PUSHES * RECORDS / offered.load(Ordering::Relaxed);
    for some in (0..PUSHES * RECORDS - of_batch).step_by(usize::try_from(of_batch).unwrap()) {
        wait_until("another batch is delivered", || delivered() >= some);
    }
    program.stop();
    let peaks = watched.join().unwrap();
    let offered = offered.into_inner();
    println!("{} MiB in batches of {} MiB: {peaks:?}", offered >> 20, BATCH >> 20);
    assert!(offered > RESIDENT_MAX, "too little to show anything: {offered}");
    assert!(peaks.resident_bytes < RESIDENT_MAX, "{peaks:?}");

    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/clients/row_groups.py");
    let read =
        Command::new("python3").arg(script).arg(scratch.out()).env("PYTHONPATH", packages).output().unwrap();
    assert!(read.status.success(), "{}", String::from_utf8_lossy(&read.stderr));
    let files: Vec<Value> = String::from_utf8(read.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let mut numbers: Vec<u64> = Vec::new();
    for file in &files {
        assert_eq!(file["groups"].as_array().unwrap().len(), 1, "{}", file["groups"]);
        numbers.extend(file["n"].as_array().unwrap().iter().map(|n| n.as_u64().unwrap()));
    }
    let largest = files.iter().map(|file| file["groups"][0].as_u64().unwrap()).max().unwrap();
    println!("{} files, the largest row group has {} MiB", files.len(), largest >> 20);
    assert!(largest > BATCH / 4, "{largest}");
    numbers.sort_unstable();
    assert!(numbers.iter().copied().eq(0..PUSHES * RECORDS), "{} rows", numbers.len());
}

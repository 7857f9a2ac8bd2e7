//! Bounded memory: a destination that is down for as long as the buffer lasts, and clients that push at full speed.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use wasmill_tests::client::Connection;
use wasmill_tests::objects;
use wasmill_tests::program::{Program, binary, status_bytes};
use wasmill_tests::scratch::Scratch;
use wasmill_tests::serve::{self, answer};
use wasmill_tests::wait::wait_until;

const CLIENTS: u64 = 6;
/// Of one push: with its filler a mebibyte.
const RECORDS: u64 = 1024;
const FILLER: usize = 1000;
/// All clients together, each time that the destination is down.
const OFFERED_MIN: u64 = 1 << 30;
/// How long nothing but 429 is answered before the destination comes back.
const FULL_FOR: Duration = Duration::from_secs(2);
/// What this host may use by the formula of docs/faults.md.
const RESIDENT_MAX: u64 = 400 << 20;
const OUTAGES_MIN: usize = 3;
/// A leak grows with each; bounds that are met late, since the machine is busy, are met within a few.
const OUTAGES_MAX: usize = 6;
/// What the last outage may take more than the one before, for what the allocator keeps; each stores 64 MiB and offers a
/// gibibyte.
const GROWTH_MAX: u64 = 96 << 20;

/// What the destination does and has.
#[derive(Default)]
struct Sink {
    up: AtomicBool,
    refused: AtomicU64,
    taken: Mutex<Vec<u64>>,
}

/// Pushes from all clients at full speed until the buffer has been full for a while; the numbers that were
/// acknowledged, and the bytes that were offered.
fn flood(program: &Program, from: u64) -> (Vec<u64>, u64) {
    let filler = "x".repeat(FILLER);
    let (next, offered) = (AtomicU64::new(from), AtomicU64::new(0));
    let last_taken = Mutex::new(Instant::now());
    let acknowledged = Mutex::new(Vec::new());
    let refused: Vec<AtomicU64> = (0..CLIENTS).map(|_| AtomicU64::new(0)).collect();
    let address = program.address();
    let over = || {
        offered.load(Ordering::Relaxed) >= OFFERED_MIN
            && last_taken.lock().unwrap().elapsed() >= FULL_FOR
            && refused.iter().all(|refused| refused.load(Ordering::Relaxed) > 0)
    };
    std::thread::scope(|scope| {
        for refused in &refused {
            let (next, offered, last_taken, acknowledged, filler, over) =
                (&next, &offered, &last_taken, &acknowledged, &filler, &over);
            scope.spawn(move || {
                let mut connection = Connection::open(address).unwrap();
                while !over() {
                    let first = next.fetch_add(RECORDS, Ordering::Relaxed);
                    let lines: Vec<String> = (first..first + RECORDS)
                        .map(|n| format!("{{\"n\":{n},\"filler\":\"{filler}\"}}"))
                        .collect();
                    let body = lines.join("\n");
                    let answer = connection.push("events", &body).unwrap();
                    offered.fetch_add(body.len() as u64, Ordering::Relaxed);
                    match answer.status {
                        200 => {
                            *last_taken.lock().unwrap() = Instant::now();
                            acknowledged.lock().unwrap().extend(first..first + RECORDS);
                        }
                        429 => {
                            let after = answer.header("retry-after").unwrap().parse::<u64>().unwrap();
                            assert!(after >= 1, "{}", answer.head);
                            refused.fetch_add(1, Ordering::Relaxed);
                        }
                        other => panic!("{other}: {}", answer.body),
                    }
                }
            });
        }
    });
    (acknowledged.into_inner().unwrap(), offered.into_inner())
}

#[test]
fn memory_stays_bounded_while_a_destination_is_down_and_clients_push_at_full_speed() {
    let Some(binary) = binary() else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let sink = Arc::new(Sink::default());
    let served = sink.clone();
    let endpoint = serve::start(&runtime, move |request| {
        let sink = served.clone();
        async move {
            let body = serve::whole(request.into_body()).await?;
            if !sink.up.load(Ordering::Relaxed) {
                sink.refused.fetch_add(1, Ordering::Relaxed);
                return Ok(answer(503, String::new()));
            }
            let text = String::from_utf8_lossy(&body);
            sink.taken.lock().unwrap().extend(text.lines().map(|line| objects::number(line, "n")));
            Ok(answer(200, String::new()))
        }
    })
    .unwrap();
    let scratch = Scratch::new(&format!(
        r#"#whole
        [http]
        listen = "127.0.0.1:0"
        [buffer]
        max_bytes = "64MiB"
        journal_file = "16MiB"
        [streams.events]
        source = {{ type = "http" }}
        [[streams.events.outputs]]
        type = "http"
        url = "http://{endpoint}/"
        size = "128KiB"
        interval = "1s"
        retry = {{ initial = "10ms", max = "500ms" }}
        "#
    ));
    let program = Program::start(&binary, &scratch.config());
    let mut acknowledged = Vec::new();
    let mut peaks: Vec<u64> = Vec::new();
    let settled = |peaks: &[u64]| {
        peaks.len() >= OUTAGES_MIN && peaks[peaks.len() - 1] < peaks[peaks.len() - 2] + GROWTH_MAX
    };
    while !settled(&peaks) && peaks.len() < OUTAGES_MAX {
        let round = peaks.len() as u64;
        sink.up.store(false, Ordering::Relaxed);
        let refused = sink.refused.load(Ordering::Relaxed);
        let (taken, offered) = flood(&program, round << 40);
        assert!(sink.refused.load(Ordering::Relaxed) > refused, "the destination was not down");
        let full = status_bytes(program.id(), "VmHWM").unwrap();
        sink.up.store(true, Ordering::Relaxed);
        acknowledged.extend(taken);
        wait_until("everything acknowledged is delivered", || {
            sink.taken.lock().unwrap().len() >= acknowledged.len()
        });
        let drained = status_bytes(program.id(), "VmHWM").unwrap();
        println!(
            "outage {round}: {} MiB offered, {} records acknowledged in all, peak {} MiB full, {} MiB drained, now {} MiB",
            offered >> 20,
            acknowledged.len(),
            full >> 20,
            drained >> 20,
            status_bytes(program.id(), "VmRSS").unwrap() >> 20
        );
        peaks.push(drained);
    }
    program.stop();
    let taken = sink.taken.lock().unwrap();
    let unique: HashSet<u64> = taken.iter().copied().collect();
    assert_eq!(unique.len(), taken.len(), "records were delivered twice");
    assert_eq!(unique, acknowledged.iter().copied().collect::<HashSet<_>>());
    assert!(peaks.iter().all(|peak| *peak < RESIDENT_MAX), "{peaks:?} bytes were in memory");
    // The first need not have met every bound; at some time another outage adds nothing.
    assert!(settled(&peaks), "memory grew from outage to outage: {peaks:?}");
}

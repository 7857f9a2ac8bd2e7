//! Chains whose guests run in processes of their own: the same results, and what a process that ends costs.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use wasmill_transform::{ChainOptions, Manifest, ProcessOptions, Processes};

use crate::support::{Bench, ENGINE, Guest, picky, spec, text_of};

const CHILD: &str = env!("CARGO_BIN_EXE_compile-child");

pub(crate) fn processes() -> Processes {
    Processes::new(&ENGINE, ProcessOptions::new(CHILD.into()))
}

fn apart(processes: &Processes, guests: &[&Guest]) -> Bench {
    let specs = guests.iter().enumerate().map(|(index, guest)| guest.spec(&format!("t{index}"))).collect();
    Bench::try_apart(&processes.of("a"), specs, ChainOptions::default()).unwrap()
}

/// CPU time of each process that runs this program, in clock ticks (of 10 ms).
fn running(program: &Path) -> BTreeMap<i32, u64> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir("/proc").unwrap().filter_map(Result::ok) {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let read = |name: &str| std::fs::read_to_string(entry.path().join(name)).unwrap_or_default();
        let (stat, line) = (read("stat"), read("cmdline"));
        let Some((_, fields)) = stat.rsplit_once(") ") else { continue };
        let fields: Vec<&str> = fields.split(' ').collect();
        if line.split('\0').next() == program.to_str() {
            found.insert(pid, fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap());
        }
    }
    found
}

#[test]
fn chain_apart_does_what_it_does_here() {
    let processes = processes();
    let lines: Vec<String> = (0..3000)
        .map(|row| match row {
            17 | 2000 => "x".to_owned(),
            18 => "end".to_owned(),
            900 => "loop".to_owned(),
            row if row % 7 == 0 => format!("drop {row}"),
            row => format!("row {row} {}", "y".repeat(row % 300)),
        })
        .collect();
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let guests = [&picky(), &picky()];
    let (rows, report) = Bench::new(&guests).run(&lines);
    let flows = |report: &wasmill_transform::SliceReport| {
        let each = report.transforms.iter().map(|transform| {
            let ins = (transform.records_in, transform.bytes_in);
            (ins, (transform.records_out, transform.bytes_out), transform.dead_letters)
        });
        each.collect::<Vec<_>>()
    };
    let [first, second] = flows(&report)[..] else { panic!("{report:?}") };
    let bytes: usize = lines.iter().map(|line| line.len()).sum();
    assert_eq!(first.0, (3000, bytes as u64), "every record once, however often it ran");
    assert_eq!(first.1, second.0);
    assert_eq!((first.2 + second.2, second.1.0), (report.failures.len() as u64, report.emitted));
    let left: usize = rows.iter().map(|row| row.split_once(':').unwrap().1.len()).sum();
    assert_eq!(second.1.1, left as u64);
    let mut bench = apart(&processes, &guests);
    for _ in 0..2 {
        let (rows_apart, report_apart) = bench.run(&lines);
        assert_eq!(rows_apart, rows);
        assert_eq!(report_apart.failures, report.failures);
        let counts = |report: &wasmill_transform::SliceReport| {
            (report.passed, report.dropped, report.emitted, report.chunks, report.unrunnable.clone())
        };
        assert_eq!(counts(&report_apart), counts(&report));
        assert_eq!(flows(&report_apart), flows(&report));
        assert!(report_apart.cpu_elsewhere > Duration::from_millis(200), "{:?}", report_apart.cpu_elsewhere);
        assert_eq!(report.cpu_elsewhere, Duration::ZERO);
    }
    assert_eq!((processes.stats().started, processes.stats().lost), (1, 0));
}

#[test]
fn chain_apart_gets_its_files_and_secrets_and_says_what_it_logs() {
    let guest = Guest {
        imports: r#"
          (import "wasmill:plugin/setup@0.1.3" "secret" (func $secret (param i32 i32 i32)))
          (import "wasmill:plugin/setup@0.1.3" "file" (func $file (param i32 i32 i64 i32 i32)))"#,
        items: r#"(data (i32.const 1024) "key") (data (i32.const 1040) "table")"#,
        configure: r#"
          (call $secret (i32.const 1024) (i32.const 3) (i32.const 32))
          (call $log (i32.const 1) (i32.load (i32.const 36)) (i32.load (i32.const 40)))
          (call $file (i32.const 1040) (i32.const 5) (i64.const 2) (i32.const 4) (i32.const 32))
          (call $log (i32.const 2) (i32.load (i32.const 36)) (i32.load (i32.const 40)))"#,
        ..Guest::default()
    };
    let bench = apart(&processes(), &[&guest]);
    assert_eq!(bench.log.text(), "hush\n2345\n");
}

#[test]
fn chain_apart_that_is_refused_says_what_it_says_here() {
    let processes = processes();
    let endless = Guest { configure: "(loop $ever (br $ever))", ..Guest::default() };
    let traps = Guest { configure: "unreachable", ..Guest::default() };
    for guest in [&endless, &traps] {
        let specs = || {
            let mut bad = guest.spec("bad");
            bad.limits.configure_deadline = Duration::from_millis(100);
            vec![picky().spec("good"), bad]
        };
        let here = Bench::try_new(specs(), ChainOptions::default()).err().unwrap();
        let there = Bench::try_apart(&processes.of("a"), specs(), ChainOptions::default()).err().unwrap();
        assert_eq!(text_of(&there), text_of(&here));
    }
    assert_eq!(processes.stats().started, 1, "a refusal costs no process");
}

#[test]
fn process_that_a_record_ends_costs_that_record() {
    // Under a name of its own, so that those of other tests are left alone.
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("ends-often");
    std::os::unix::fs::symlink(CHILD, &program).unwrap();
    let processes = Processes::new(&ENGINE, ProcessOptions::new(program.clone()));
    let mut spec = picky().spec("t0");
    spec.limits.deadline = Duration::from_secs(60);
    let mut bench = Bench::try_apart(&processes.of("a"), vec![spec], ChainOptions::default()).unwrap();
    let lines: Vec<_> = (0..300).map(|row| if row == 137 { "loop" } else { "ok" }).collect();
    let done = AtomicBool::new(false);
    let (rows, report) = std::thread::scope(|scope| {
        // Who runs for so long has met the record.
        scope.spawn(|| {
            while !done.load(Ordering::Acquire) {
                for (pid, _) in running(&program).into_iter().filter(|(_, ticks)| *ticks > 80) {
                    let pid = rustix::process::Pid::from_raw(pid).unwrap();
                    let killed = rustix::process::kill_process(pid, rustix::process::Signal::ABORT);
                    assert!(killed.is_ok() || killed == Err(rustix::io::Errno::SRCH));
                }
                std::thread::park_timeout(Duration::from_millis(20));
            }
        });
        let result = bench.run(&lines);
        done.store(true, Ordering::Release);
        result
    });
    assert_eq!(rows.len(), 299);
    assert_eq!(report.failures.len(), 1, "{:?}", report.failures);
    let letter = &report.failures[0];
    assert_eq!((letter.offset, letter.input, letter.row, &*letter.transform), (237, 0, 137, "t0"));
    assert!(letter.reason.contains("the process of its plugins ended: signal: 6"), "{}", letter.reason);
    assert_eq!((report.passed, report.dropped, report.unrunnable), (299, 0, None));
    let stats = processes.stats();
    assert!(stats.lost > 1 && stats.lost < 20, "{stats:?}");
    // What comes after it finds a process again.
    assert_eq!(bench.run(&["ok"]).0.len(), 1);
}

#[test]
fn program_that_does_not_speak_is_told_as_what_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let program = |name: &str, script: &str| -> PathBuf {
        let path = directory.path().join(name);
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path
    };
    let refused = |program: PathBuf| {
        let processes = Processes::new(&ENGINE, ProcessOptions::new(program));
        let specs = vec![picky().spec("t0")];
        let started = Instant::now();
        let error = Bench::try_apart(&processes.of("a"), specs, ChainOptions::default()).err().unwrap();
        assert!(started.elapsed() < Duration::from_secs(30));
        text_of(&error)
    };
    let text = refused(program("ends", "echo nothing doing >&2; exit 3"));
    assert!(text.contains("process of its plugins ended: exit status: 3"), "{text}");
    let text = refused(program("babbles", "yes wasmill >&0"));
    assert!(text.contains("frame of"), "{text}");
    let text = refused(directory.path().join("nowhere"));
    assert!(text.contains("start a process for plugins: No such file"), "{text}");
}

#[test]
fn tenants_never_share_a_process_and_idle_ones_are_bounded() {
    let mut options = ProcessOptions::new(CHILD.into());
    options.idle_max = 2;
    let processes = Processes::new(&ENGINE, options);
    let mut benches: Vec<Bench> = ["a", "b", "c"]
        .iter()
        .map(|tenant| {
            let specs = vec![picky().spec("t0")];
            Bench::try_apart(&processes.of(tenant), specs, ChainOptions::default()).unwrap()
        })
        .collect();
    assert_eq!(processes.stats().started, 3);
    // That of `a` waited longest, and had to go; it comes back when it is needed, and the chain with it.
    for bench in benches.iter_mut().rev() {
        assert_eq!(bench.run(&["one", "x", "two"]).0, ["100:one", "102:two"]);
    }
    assert_eq!(processes.stats().started, 4);
    assert_eq!(processes.stats().lost, 0);
}

#[test]
fn process_lets_go_of_chains_that_are_gone_or_do_not_fit() {
    let processes = processes();
    let isolation = processes.of("a");
    let chain = |memory: u64| {
        let mut spec = spec("t0", picky().load(Manifest::default()).unwrap());
        spec.limits.memory_bytes = memory;
        Bench::try_apart(&isolation, vec![spec], ChainOptions::default()).unwrap()
    };
    // Three of them do not fit into one process together, and still take turns in it.
    let mut benches: Vec<Bench> = (0..3).map(|_| chain(400 << 20)).collect();
    for _ in 0..2 {
        for bench in &mut benches {
            assert_eq!(bench.run(&["one", "drop"]).0, ["100:one"]);
        }
    }
    drop(benches);
    assert_eq!(chain(64 << 20).run(&["one"]).0, ["100:one"]);
    assert_eq!((processes.stats().started, processes.stats().lost), (1, 0));
    // One that needs more than a process usually has gets one that has it.
    assert_eq!(chain(1200 << 20).run(&["one"]).0, ["100:one"]);
    assert_eq!(processes.stats().started, 2);
}

#[test]
fn process_of_a_guest_that_logs_a_lot_takes_its_next_versions() {
    let processes = processes();
    let isolation = processes.of("a");
    let wordy = Guest {
        items: r#"(data (i32.const 1024) "said")"#,
        process: r#"
          (loop $again
            (call $log (i32.const 2) (i32.const 1024) (i32.const 4))
            (local.set $i (i32.add (local.get $i) (i32.const 1)))
            (br_if $again (i32.lt_u (local.get $i) (i32.const 1000))))"#,
        ..Guest::default()
    };
    for _version in 0..4 {
        // What it had to drop of its lines is told when it goes, which is when the next one comes.
        let mut bench =
            Bench::try_apart(&isolation, vec![wordy.spec("t0")], ChainOptions::default()).unwrap();
        assert_eq!(bench.run(&["one", "two"]).0, ["100:one", "101:two"]);
        assert!(!bench.log.text().is_empty());
    }
    assert_eq!((processes.stats().started, processes.stats().lost), (1, 0));
}

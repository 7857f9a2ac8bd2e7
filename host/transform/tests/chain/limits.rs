//! Deadlines, memory, output, log, handles.

use std::time::{Duration, Instant};

use wasmill_transform::{ChainOptions, Chunks, Manifest, PluginFault, TransformSpec};

use crate::support::{Bench, Guest, picky, refusal, spec, text_of};

fn first_fault(report: &wasmill_transform::SliceReport) -> &PluginFault {
    &report.faults.first().expect("a fault").1
}

#[test]
fn guest_endless_loop_is_stopped_by_its_deadline_and_costs_one_record() {
    let mut bench = Bench::new(&[&picky()]);
    let lines: Vec<_> = (0..300).map(|row| if row == 137 { "loop" } else { "ok" }).collect();
    let started = Instant::now();
    let (rows, report) = bench.run(&lines);
    assert!(matches!(first_fault(&report), PluginFault::Deadline { .. }), "{:?}", report.faults);
    assert_eq!(rows.len(), 299);
    assert_eq!(report.failures.len(), 1);
    assert_eq!(report.failures[0].offset, 237);
    assert_eq!((report.failures[0].input, report.failures[0].row), (0, 137));
    assert!(report.failures[0].reason.contains("CPU time"), "{}", report.failures[0].reason);
    // 200 ms, then parts with ever smaller deadlines; never a full one per halving.
    assert!(report.transforms[0].cpu < Duration::from_millis(1000), "{:?}", report.transforms[0]);
    assert!(started.elapsed() < Duration::from_secs(20));
}

#[test]
fn guest_loops_on_every_record_ends_within_the_budget() {
    let mut bench = Bench::new(&[&picky()]);
    let (rows, report) = bench.run(&["loop"; 500]);
    assert_eq!(rows.len(), 0);
    assert_eq!(report.failures.len(), 500);
    // The first run and at most four deadlines of bisection, plus the ticker's slack.
    assert!(report.transforms[0].cpu < Duration::from_millis(1500), "{:?}", report.transforms[0]);
    let offsets: Vec<_> = report.failures.iter().map(|letter| letter.offset).collect();
    assert_eq!(offsets, (100..600).collect::<Vec<_>>());
    assert!(report.failures.iter().any(|letter| letter.reason.contains("not enough to find which")));
}

#[test]
fn configure_endless_loop_is_refused() {
    let guest = Guest { configure: "(loop $ever (br $ever))", ..Guest::default() };
    let mut spec = guest.spec("t0");
    spec.limits.configure_deadline = Duration::from_millis(100);
    let error = Bench::try_new(vec![spec], ChainOptions::default()).err().unwrap();
    assert!(crate::support::text_of(&error).contains("deadline"), "{error:?}");
}

#[test]
fn start_function_endless_loop_is_refused() {
    let guest = Guest { items: "(func $begin (loop $ever (br $ever))) (start $begin)", ..Guest::default() };
    let mut spec = guest.spec("t0");
    spec.limits.configure_deadline = Duration::from_millis(100);
    let error = Bench::try_new(vec![spec], ChainOptions::default()).err().unwrap();
    assert!(crate::support::text_of(&error).contains("deadline"), "{error:?}");
}

#[test]
fn guest_memory_bomb_hits_its_limit() {
    let guest = Guest::process(
        "(if (call $len (local.get $rows)) (then
           (loop $more (drop (call $alloc (i32.const 1048576))) (br $more))))",
    );
    let mut bench = Bench::new(&[&guest]);
    let (rows, report) = bench.run(&["a"]);
    assert_eq!(rows.len(), 0);
    assert!(
        matches!(first_fault(&report), PluginFault::Memory { limit_bytes, .. } if *limit_bytes == 32 << 20)
    );
    let peak = report.transforms[0].memory_bytes_peak;
    assert!((30 << 20..=32 << 20).contains(&peak), "{peak}");
}

#[test]
fn guest_memories_count_together() {
    // 16 MiB in the first memory; the second and the third get what is left of 32 MiB.
    let guest = Guest {
        items: "(memory $second 0) (memory $third 1)",
        process: "(if (call $len (local.get $rows)) (then
                   (drop (call $alloc (i32.const 16777216)))
                   (loop $more
                     (drop (memory.grow $third (i32.const 1)))
                     (br_if $more (i32.ne (memory.grow $second (i32.const 16)) (i32.const -1))))
                   unreachable))",
        ..Guest::default()
    };
    let mut bench = Bench::new(&[&guest]);
    let (rows, report) = bench.run(&["a"]);
    assert_eq!(rows.len(), 0);
    assert!(
        matches!(first_fault(&report), PluginFault::Memory { limit_bytes, .. } if *limit_bytes == 32 << 20),
        "{:?}",
        report.faults
    );
    let peak = report.transforms[0].memory_bytes_peak;
    assert!((30 << 20..=32 << 20).contains(&peak), "{peak}");
}

#[test]
fn guest_with_more_memories_than_allowed_is_refused() {
    let with = |items| Guest { items, ..Guest::default() };
    let refused = with("(memory 0) (memory 0) (memory 0) (memory 0)");
    let text = match refused.load(Manifest::default()) {
        Ok(plugin) => {
            let error = Bench::try_new(vec![spec("t0", plugin)], ChainOptions::default()).err().unwrap();
            text_of(&error)
        }
        Err(error) => text_of(&error),
    };
    assert!(text.contains("memories") && text.contains('4'), "{text}");
    let (rows, _) = Bench::new(&[&with("(memory 0) (memory 0) (memory 0)")]).run(&["a"]);
    assert_eq!(rows.len(), 1);
}

#[test]
fn guest_recurses_without_end_is_a_clean_trap() {
    let guest = Guest {
        items: "(func $deep (param i32) (result i32)
                  (i32.add (call $deep (i32.add (local.get 0) (i32.const 1))) (i32.const 1)))",
        process: "(if (call $len (local.get $rows)) (then (drop (call $deep (i32.const 0)))))",
        ..Guest::default()
    };
    let mut bench = Bench::new(&[&guest]);
    let (_, report) = bench.run(&["a"]);
    assert!(report.failures[0].reason.contains("call stack exhausted"), "{}", report.failures[0].reason);
}

#[test]
fn guest_output_bomb_is_stopped() {
    let guest = Guest {
        imports: r#"(import "wasmill:plugin/records@0.1.3" "[method]chunk.derive" (func $derive (param i32 i32 i32) (result i32)))"#,
        process: "(if (call $len (local.get $rows)) (then
                   (local.set $j (call $alloc (i32.const 4194304)))
                   (memory.fill (local.get $j) (i32.const 0) (i32.const 4194304))
                   (loop $more
                     (drop (call $derive (local.get $rows) (local.get $j) (i32.const 1048576)))
                     (br $more))))",
        ..Guest::default()
    };
    let mut bench = Bench::new(&[&guest]);
    let (rows, report) = bench.run(&["a"]);
    assert_eq!(rows.len(), 0);
    assert!(matches!(first_fault(&report), PluginFault::OutputTooLarge { .. }), "{:?}", report.faults);
}

#[test]
fn guest_log_flood_is_capped_and_counted() {
    let guest = Guest {
        items: r#"(data (i32.const 1024) "the same line again")"#,
        process: "(loop $more
                    (call $log (i32.const 2) (i32.const 1024) (i32.const 19))
                    (local.set $i (i32.add (local.get $i) (i32.const 1)))
                    (br_if $more (i32.lt_u (local.get $i) (i32.const 10000))))",
        ..Guest::default()
    };
    let mut bench = Bench::new(&[&guest]);
    let (rows, report) = bench.run(&["a", "b"]);
    assert_eq!((rows.len(), report.failures.len()), (2, 0));
    let log = std::sync::Arc::clone(&bench.log);
    drop(bench);
    let lines = log.lines.lock().unwrap().len() as u64;
    // The probe's instance and the worker's have a burst each.
    assert!((200..=500).contains(&lines), "{lines}");
    assert_eq!(lines + *log.dropped.lock().unwrap(), 20_000);
}

#[test]
fn guest_keeps_handles_without_end_is_stopped() {
    let guest = Guest {
        imports: r#"(import "wasmill:plugin/records@0.1.3" "[static]chunk.fresh" (func $fresh (param i32) (result i32)))"#,
        process: "(if (call $len (local.get $rows)) (then
                    (loop $more (drop (call $fresh (i32.const 1))) (br $more))))",
        ..Guest::default()
    };
    let mut bench = Bench::new(&[&guest]);
    let (rows, report) = bench.run(&["a"]);
    assert_eq!((rows.len(), report.failures.len()), (0, 1));
}

#[test]
fn guest_leaks_a_few_handles_per_call_is_recycled_and_loses_nothing() {
    let guest = Guest {
        imports: r#"(import "wasmill:plugin/records@0.1.3" "[static]chunk.fresh" (func $fresh (param i32) (result i32)))"#,
        process: "(loop $more
                    (drop (call $fresh (i32.const 1)))
                    (local.set $i (i32.add (local.get $i) (i32.const 1)))
                    (br_if $more (i32.lt_u (local.get $i) (i32.const 1000))))",
        ..Guest::default()
    };
    let mut bench = Bench::new(&[&guest]);
    for _ in 0..20 {
        let (rows, report) = bench.run(&["a", "b"]);
        assert_eq!((rows.len(), report.failures.len()), (2, 0), "{:?}", report.faults);
    }
}

#[test]
fn instance_is_replaced_after_its_calls_and_keeps_answering() {
    let specs = vec![picky().spec("t0")];
    let options = ChainOptions { calls_per_instance: 4, ..ChainOptions::default() };
    let mut bench = Bench::try_new(specs, options).unwrap();
    let mut instances = 0;
    for _ in 0..40 {
        let (rows, report) = bench.run(&["a", "drop"]);
        assert_eq!(rows, ["100:a"]);
        instances += report.transforms[0].instances;
    }
    assert!((7..=20).contains(&instances), "{instances}");
}

#[test]
fn slice_is_uncut_up_to_its_bounds_for_a_chain_with_a_plugin_that_asks_for_it() {
    let asking = Manifest { chunk: Chunks { slice: true }, ..Manifest::default() };
    let asking = || spec("asks", picky().load(asking.clone()).unwrap());
    let chunks = |specs: Vec<TransformSpec>, records: usize, uncut: bool| {
        let options = ChainOptions { uncut, ..ChainOptions::default() };
        let lines = vec!["a"; records];
        let (rows, report) = Bench::try_new(specs, options).unwrap().run(&lines);
        assert_eq!((rows.len(), report.failures.len()), (records, 0), "{:?}", report.faults);
        report.chunks
    };
    let beside = || vec![picky().spec("t0"), asking()];
    assert_eq!(chunks(vec![picky().spec("t0")], 32_768, true), 8);
    assert_eq!(chunks(beside(), 32_768, true), 1);
    assert_eq!(chunks(beside(), 32_769, true), 2);
    assert_eq!(chunks(beside(), 32_768, false), 8);
}

#[test]
fn configure_returns_an_error_is_refused_with_its_text() {
    let guest = Guest {
        items: r#"(data (i32.const 1024) "unknown key: colour")"#,
        configure: "(i32.store (i32.const 16) (i32.const 1))
                    (i32.store (i32.const 20) (i32.const 1024))
                    (i32.store (i32.const 24) (i32.const 19))
                    (return (i32.const 16))",
        ..Guest::default()
    };
    let text = refusal(&guest);
    assert!(text.contains("unknown key: colour") && text.contains("t0"), "{text}");
}

#[test]
fn strings_more_than_there_are_rows_are_refused_before_any_is_copied() {
    // 5,000 times the same MiB.
    let guest = Guest {
        imports: r#"
          (import "wasmill:plugin/records@0.1.3" "[method]chunk.set-strings" (func $set-strings (param i32 i32 i32 i32)))
          (import "wasmill:plugin/setup@0.1.3" "field" (func $field (param i32 i32) (result i32)))"#,
        items: r#"
          (data (i32.const 1024) "a")
          (data (i32.const 1040) "\00\04\00\00\01\00\00\00")"#,
        configure: "(drop (call $field (i32.const 1040) (i32.const 1)))",
        process: "
          (if (call $len (local.get $rows)) (then
            (local.set $j (call $alloc (i32.const 1048576)))
            (local.set $n (call $alloc (i32.const 60000)))
            (loop $next
              (i32.store (i32.add (local.get $n) (i32.mul (local.get $i) (i32.const 12))) (i32.const 1))
              (i32.store offset=4 (i32.add (local.get $n) (i32.mul (local.get $i) (i32.const 12))) (local.get $j))
              (i32.store offset=8 (i32.add (local.get $n) (i32.mul (local.get $i) (i32.const 12))) (i32.const 1048576))
              (local.set $i (i32.add (local.get $i) (i32.const 1)))
              (br_if $next (i32.lt_u (local.get $i) (i32.const 5000))))
            (call $set-strings (local.get $rows) (i32.const 0) (local.get $n)
              (select (i32.const 5000) (i32.const 20) (i32.eq (call $len (local.get $rows)) (i32.const 1))))))",
        ..Guest::default()
    };
    let mut bench = Bench::new(&[&guest]);
    let (_, report) = bench.run(&["{}"]);
    let text = first_fault(&report).to_string();
    assert_eq!(text, "bad output: chunk.set-strings: a list of 5000 rows where the chunk has 1");
    let (_, report) = bench.run(&["{}"; 20]);
    let text = first_fault(&report).to_string();
    assert!(text.contains("chunk.set-strings: more than 16777216 bytes written"), "{text}");
}

#[test]
fn keys_of_fields_beyond_their_limit_are_refused() {
    let guest = Guest {
        imports: r#"
          (import "wasmill:plugin/setup@0.1.3" "field" (func $field (param i32 i32) (result i32)))"#,
        configure: "
          (i32.store (i32.const 1024) (i32.const 65536))
          (i32.store (i32.const 1028) (i32.const 60000))
          (loop $next
            (drop (call $field (i32.const 1024) (i32.const 1)))
            (local.set $i (i32.add (local.get $i) (i32.const 1)))
            (br_if $next (i32.lt_u (local.get $i) (i32.const 18))))",
        ..Guest::default()
    };
    let text = refusal(&guest);
    assert!(text.contains("setup.field: fields declared whose keys take more than 1048576 bytes"), "{text}");
}

#[test]
fn slice_over_its_cpu_time_has_no_outcome_and_begins_no_further_chunk() {
    let over = ChainOptions { chunk_rows: 1, slice_cpu_max: Some(Duration::ZERO), ..ChainOptions::default() };
    let mut bench = Bench::try_new(vec![picky().spec("t0")], over.clone()).unwrap();
    let (_, report) = bench.run(&["ok", "ok", "ok"]);
    assert!(matches!(&report.unrunnable, Some((0, PluginFault::Deadline { .. }))), "{:?}", report.unrunnable);
    assert_eq!(report.chunks, 1);
    let enough = ChainOptions { slice_cpu_max: Some(Duration::from_secs(60)), ..over };
    let mut bench = Bench::try_new(vec![picky().spec("t0")], enough).unwrap();
    let (rows, report) = bench.run(&["ok", "ok", "ok"]);
    assert!(report.unrunnable.is_none());
    assert_eq!((rows.len(), report.chunks), (3, 3));
}

//! Transforms that are told how far event time has come: when, in which order, and what becomes of what they do wrong.

use wasmill_chunk::{Column, FinishOptions, Input};
use wasmill_transform::{ChainOptions, PluginFault, RowTimes, Slice, SliceReport, Times};

use crate::isolation::processes;
use crate::places::{Place, in_both_places};
use crate::support::{Bench, Guest, Rows};

const IMPORTS: &str = r#"
  (import "wasmill:plugin/records@0.1.3" "[static]chunk.fresh" (func $fresh (param i32) (result i32)))
  (import "wasmill:plugin/records@0.1.3" "emit" (func $emit (param i32)))
  (import "wasmill:plugin/event-clock@0.1.3" "tracked" (func $tracked (result i32)))
  (import "wasmill:plugin/event-clock@0.1.3" "watermarks" (func $watermarks (param i32 i32)))
  (import "wasmill:plugin/event-clock@0.1.3" "more" (func $more))"#;

/// Gives one row whenever it is told.
const GIVES: &str = "(call $emit (call $fresh (i32.const 1)))";

in_both_places! {
    transforms_are_told_after_the_chunk_that_moved_the_watermark_and_not_otherwise,
    what_one_gives_goes_through_the_next_before_that_one_is_told,
    who_has_more_to_do_is_told_again_and_so_often_at_most,
    failure_when_told_leaves_the_slice_without_an_outcome_and_blames_no_record,
}

fn windower(on_watermark: &'static str) -> Guest {
    Guest {
        world_imports: vec!["wasmill:plugin/event-clock@0.1.3"],
        imports: IMPORTS,
        items: "(global $calls (mut i32) (i32.const 0))",
        on_watermark,
        ..Guest::default()
    }
}

fn bench(place: Place, guests: &[Guest], chunk_rows: usize) -> Bench {
    let specs = guests.iter().enumerate().map(|(index, guest)| guest.spec(&format!("t{index}"))).collect();
    let options = ChainOptions { chunk_rows, event_time: true, ..ChainOptions::default() };
    match place {
        Place::Here => Bench::try_new(specs, options).unwrap(),
        Place::Apart => Bench::try_apart(&processes().of("a"), specs, options).unwrap(),
    }
}

/// Runs records that are named like their times; none is late, and nothing is waited for.
fn run(bench: &mut Bench, times: &[i64], before: i64, due: bool) -> (Vec<String>, SliceReport, bool) {
    let mut payloads = Column::default();
    let mut watermarks = Vec::new();
    let mut watermark = before;
    for time in times {
        payloads.push(time.to_string().as_bytes());
        watermarks.push(watermark);
        watermark = watermark.max(*time);
    }
    let inputs = [Input::of_payloads(100, payloads.as_ref())];
    let rows = [RowTimes { times, watermarks: &watermarks }];
    let times = Times { rows: &rows, before, after: watermark, due, arrival: 5 };
    let slice = Slice { id: 100, stream_seed: 7, inputs: &inputs };
    let mut rows = Rows::default();
    let (report, _, owed) =
        bench.worker.run_timed(&slice, Some(times), &FinishOptions::default(), &mut rows, None);
    (rows.rows, report, owed)
}

fn transforms_are_told_after_the_chunk_that_moved_the_watermark_and_not_otherwise(place: Place) {
    let mut bench = bench(place, &[windower(GIVES)], 1);
    let (rows, report, owed) = run(&mut bench, &[10, 5, 20, 20], i64::MIN, false);
    assert_eq!(rows, ["100:10", "-1:{}", "101:5", "102:20", "-1:{}", "103:20"]);
    assert_eq!((report.passed, report.emitted, owed), (4, 6, false));
    // Nothing has come: told only where that is due, and never before there is a watermark.
    assert!(run(&mut bench, &[], 20, false).0.is_empty());
    assert_eq!(run(&mut bench, &[], 20, true).0, ["-1:{}"]);
    assert!(run(&mut bench, &[], i64::MIN, true).0.is_empty());
}

fn what_one_gives_goes_through_the_next_before_that_one_is_told(place: Place) {
    // The second one drops all rows that it is handed, and gives one whenever it is told.
    let drops = Guest {
        process: "(local.set $n (call $len (local.get $rows)))
                  (call $keep (local.get $rows) (i32.const 2048) (local.get $n))",
        ..windower(GIVES)
    };
    let (rows, report, _) = run(&mut bench(place, &[windower(GIVES), drops], 100), &[1, 2], 0, false);
    assert_eq!((report.passed, report.dropped, report.unrunnable), (0, 2, None));
    assert_eq!(rows, ["-1:{}"]);
    // One that takes no watermarks sees what the other gives.
    let plain = Guest::process("(call $log (i32.const 1) (i32.const 1024) (call $len (local.get $rows)))");
    let mut bench = bench(place, &[windower(GIVES), plain], 100);
    assert_eq!(run(&mut bench, &[1, 2], 0, false).0, ["100:1", "101:2", "-1:{}"]);
    assert_eq!(bench.log.lines.lock().unwrap().iter().filter(|(_, line)| line.len() == 1).count(), 1);
}

fn who_has_more_to_do_is_told_again_and_so_often_at_most(place: Place) {
    let thrice = "(global.set $calls (i32.add (global.get $calls) (i32.const 1)))
                  (call $emit (call $fresh (i32.const 1)))
                  (if (i32.lt_u (global.get $calls) (i32.const 3)) (then (call $more)))";
    let (rows, _, owed) = run(&mut bench(place, &[windower(thrice)], 100), &[1], 0, false);
    assert_eq!((rows.len(), owed), (4, false));
    let ever = "(call $emit (call $fresh (i32.const 1))) (call $more)";
    let mut bench = bench(place, &[windower(ever)], 100);
    let (rows, _, owed) = run(&mut bench, &[1], 0, false);
    assert_eq!((rows.len(), owed), (17, true));
}

fn failure_when_told_leaves_the_slice_without_an_outcome_and_blames_no_record(place: Place) {
    for (body, text) in [
        ("unreachable", "unreachable"),
        ("(loop $ever (br $ever))", "200ms"),
        (
            "(i32.store (i32.const 16) (i32.const 1)) (i32.store (i32.const 20) (i32.const 1024))
             (i32.store (i32.const 24) (i32.const 0)) (return (i32.const 16))",
            "",
        ),
    ] {
        let (_, report, _) =
            run(&mut bench(place, &[Guest::default(), windower(body)], 100), &[1, 2, 3], 0, false);
        let (transform, fault) = report.unrunnable.unwrap();
        assert!(transform == 1 && fault.to_string().contains(text), "{body}: {fault}");
        assert!(!matches!(fault, PluginFault::Host { .. }) && report.failures.is_empty());
    }
}

#[test]
fn misuse_of_the_event_clock_traps_and_names_the_function() {
    let watermarks = "(call $watermarks (local.get $rows) (i32.const 48))";
    let reason = |process: &'static str, event_time: bool| {
        let guest = Guest { process, ..windower("") };
        let options = ChainOptions { event_time, ..ChainOptions::default() };
        match Bench::try_new(vec![guest.spec("t0")], options) {
            Ok(mut bench) if event_time => run(&mut bench, &[1], 0, false).1.failures[0].reason.clone(),
            Ok(mut bench) => bench.run(&["a"]).1.failures[0].reason.clone(),
            Err(error) => crate::support::text_of(&error),
        }
    };
    let more = "(if (call $len (local.get $rows)) (then (call $more)))";
    assert!(reason(more, true).contains("event-clock.more: may be called inside on-watermark only"));
    let outside = reason(watermarks, false);
    assert!(outside.contains("event-clock.watermarks: the stream has no event time"), "{outside}");
    // Whoever asks first knows.
    let asks = "(if (call $tracked) (then (call $watermarks (local.get $rows) (i32.const 48))))";
    let guest = Guest { process: asks, ..windower("") };
    for event_time in [false, true] {
        let options = ChainOptions { event_time, ..ChainOptions::default() };
        let mut bench = Bench::try_new(vec![guest.spec("t0")], options).unwrap();
        let rows = if event_time { run(&mut bench, &[1], 0, false).0 } else { bench.run(&["1"]).0 };
        assert_eq!(rows, ["100:1"]);
    }
}

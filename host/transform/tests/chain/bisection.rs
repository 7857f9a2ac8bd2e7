//! One bad record costs one record.

use wasmill_transform::PluginFault;

use crate::support::{Bench, Guest, picky};

fn lines(count: usize, bad: &[(usize, &'static str)]) -> Vec<&'static str> {
    (0..count).map(|row| bad.iter().find(|(at, _)| *at == row).map_or("ok", |(_, line)| line)).collect()
}

#[test]
fn chunk_with_poison_records_loses_exactly_those_in_order() {
    for (count, bad) in [(1, vec![0]), (2, vec![1]), (7, vec![0, 6]), (300, vec![5, 6, 150, 299])] {
        let mut bench = Bench::new(&[&picky(), &picky()]);
        let poison: Vec<_> = bad.iter().map(|&row| (row, "x poison")).collect();
        let (rows, report) = bench.run(&lines(count, &poison));
        let expected: Vec<_> =
            (0..count).filter(|row| !bad.contains(row)).map(|row| format!("{}:ok", 100 + row)).collect();
        assert_eq!(rows, expected, "{bad:?} of {count}");
        let failed: Vec<_> = report.failures.iter().map(|letter| letter.row as usize).collect();
        assert_eq!(failed, bad);
        assert_eq!(report.passed + report.dropped + report.failures.len() as u64, count as u64);
        assert_eq!(report.chunks_bisected, 1);
        assert!(report.failures.iter().all(|letter| &*letter.transform == "t0"));
        assert!(report.failures[0].reason.contains("unreachable"), "{}", report.failures[0].reason);
    }
}

#[test]
fn chunk_fails_in_the_second_transform_is_bisected_from_the_start() {
    // The first drops rows with `d`; the second traps on `x`.
    let first = Guest { process: "", ..picky() };
    let mut bench = Bench::new(&[&first, &picky()]);
    let (rows, report) = bench.run(&["a", "x", "drop", "b"]);
    assert_eq!(rows, ["100:a", "103:b"]);
    assert_eq!((report.passed, report.dropped, report.failures.len()), (2, 1, 1));
    assert_eq!(&*report.failures[0].transform, "t1");
}

#[test]
fn guest_returns_an_error_is_bisected_with_its_text() {
    let mut bench = Bench::new(&[&picky()]);
    let (rows, report) = bench.run(&["a", "e", "b"]);
    assert_eq!(rows, ["100:a", "102:b"]);
    assert_eq!(report.failures[0].reason, "no e, please");
    assert!(matches!(report.faults[0].1, PluginFault::Returned { .. }));
}

#[test]
fn every_record_poison_fails_every_record() {
    let mut bench = Bench::new(&[&picky()]);
    let (rows, report) = bench.run(&["x"; 200]);
    assert!(rows.is_empty());
    assert_eq!(report.failures.len(), 200);
    let offsets: Vec<_> = report.failures.iter().map(|letter| letter.offset).collect();
    assert_eq!(offsets, (100..300).collect::<Vec<_>>());
}

#[test]
fn chunk_after_a_bisected_one_is_untouched() {
    let mut bench = Bench::new(&[&picky()]);
    assert_eq!(bench.run(&["a", "x"]).1.failures.len(), 1);
    let (rows, report) = bench.run(&["a", "b"]);
    assert_eq!(rows.len(), 2);
    assert_eq!(report.chunks_bisected, 0);
}

#[test]
fn instance_cannot_be_started_leaves_the_slice_without_outcome() {
    // Configures well once per process start... and traps in a start function when asked by the memory limit.
    let mut spec = picky().spec("t0");
    spec.limits.memory_bytes = 1 << 20;
    let mut bench = Bench::try_new(vec![spec], wasmill_transform::ChainOptions::default()).unwrap();
    // 4 pages at start; a chunk of more than the limit traps with memory, which is a verdict and no failure to start.
    let long = "o".repeat(2 << 20);
    let (rows, report) = bench.run(&["ok", &long]);
    assert_eq!(rows, ["100:ok"]);
    assert!(report.unrunnable.is_none());
    assert!(matches!(report.faults[0].1, PluginFault::Memory { .. }), "{:?}", report.faults);
}

//! A short torture of the real binary; `cargo xtask torture` has the long one.
#![expect(clippy::print_stdout, reason = "a test says what it did")]

use wasmill_tests::program::binary;
use wasmill_torture::{Options, run};

#[test]
fn every_record_is_accounted_for_after_ten_kills() {
    let Some(wasmill) = binary() else { return };
    let dir = tempfile::tempdir().unwrap();
    // Any seed must do; this one is kept so that a failure can be looked into.
    let options = Options { wasmill, work: dir.path().join("work"), seed: 5, restarts: 10, time: None };
    let report =
        run(&options, &mut |progress| println!("{progress}")).unwrap_or_else(|error| panic!("{error:#}"));
    println!("{report}");
    let findings = &report.findings;
    if !report.good() {
        // It would go with the test.
        println!("everything is in {}", dir.keep().display());
    }
    assert!(report.good(), "{:#?}", findings);
    assert_eq!(report.restarts, 10);
    assert!(findings.acknowledged > 1_000 && findings.objects > 20 && findings.dropped > 100, "{findings:?}");
    assert!(findings.letters > 0 && !options.work.exists(), "{findings:?}");
}

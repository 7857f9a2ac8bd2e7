//! Judges a plugin version by the share of records that it fails, of the last one to two thousand: what it did long ago
//! does not excuse it. Records that do not fit their output are not the plugins' failure.

/// Records after which a version is judged.
const JUDGE_AFTER: u64 = 1_000;

/// See the head of this file.
#[derive(Debug)]
pub(crate) struct Judge {
    /// Share of failed records, 0 to 1, past which a version is bad.
    bound: f64,
    generation: u64,
    records: u64,
    failed: u64,
}

impl Judge {
    pub(crate) fn new(bound: f64) -> Judge {
        Judge { bound, generation: 0, records: 0, failed: 0 }
    }

    /// Counts a slice that `generation` ran; the reason when that makes the version a bad one.
    pub(crate) fn slice(&mut self, generation: u64, records: u64, failed: u64) -> Option<String> {
        if self.generation != generation {
            *self = Judge { generation, ..Judge::new(self.bound) };
        }
        self.records += records;
        self.failed += failed;
        #[expect(clippy::cast_precision_loss, reason = "a rate needs no 64 bits")]
        let rate = self.failed as f64 / self.records.max(1) as f64;
        if self.records < JUDGE_AFTER || rate <= self.bound {
            while self.records >= 2 * JUDGE_AFTER {
                self.records /= 2;
                self.failed /= 2;
            }
            return None;
        }
        let reason = format!(
            "{} of {} records failed ({:.1} %), the bound is {:.1} %",
            self.failed,
            self.records,
            rate * 100.0,
            self.bound * 100.0
        );
        self.records = 0;
        self.failed = 0;
        Some(reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_with_few_records_is_not_judged() {
        assert_eq!(Judge::new(0.05).slice(1, 999, 999), None);
    }

    #[test]
    fn version_over_the_bound_is_bad_and_at_the_bound_is_not() {
        let mut judge = Judge::new(0.05);
        assert_eq!(judge.slice(1, 1_000, 50), None);
        let reason = judge.slice(1, 100, 10).unwrap();
        assert!(reason.contains("60 of 1100 records failed (5.5 %)"), "{reason}");
    }

    #[test]
    fn version_that_was_good_for_long_is_bad_soon_after_it_fails() {
        let mut judge = Judge::new(0.05);
        for _ in 0..1_000 {
            assert_eq!(judge.slice(1, 10_000, 0), None);
        }
        assert!(judge.slice(1, 1_000, 1_000).is_some());
    }

    #[test]
    fn next_version_starts_with_a_clean_record() {
        let mut judge = Judge::new(0.05);
        assert_eq!(judge.slice(1, 900, 900), None);
        assert_eq!(judge.slice(2, 900, 0), None);
        assert_eq!(judge.slice(2, 900, 10), None);
    }
}

//! Tells the operator of records that passed the transforms and do not fit the format of their output: once at first,
//! then at most once a minute with how many there were. No payloads, and nothing per record.

use std::time::Duration;

use bytes::Bytes;

use tokio::time::Instant;

use super::outcome::Letter;

/// Between two warnings of a stream.
const WARN_EVERY: Duration = Duration::from_secs(60);

/// See the head of this file.
#[derive(Debug, Default)]
pub(crate) struct Unfit {
    records: u64,
    warned: Option<Instant>,
}

impl Unfit {
    /// Counts those among a slice's letters and warns if it is time to.
    pub(crate) fn note(&mut self, stream: &str, letters: &[(Letter, Bytes)], now: Instant) {
        let mut unfit = letters.iter().map(|(letter, _)| letter).filter(|letter| letter.output.is_some());
        let Some(first) = unfit.next() else { return };
        self.records += 1 + unfit.count() as u64;
        if self.due(now) {
            tracing::warn!(
                stream,
                output = first.output,
                reason = first.reason,
                offset = first.offset,
                records = std::mem::take(&mut self.records),
                "records do not fit the format of their output and became dead letters of stage encode; a transform \
                 that parses them, or format = \"raw\", would let them pass"
            );
        }
    }

    fn due(&mut self, now: Instant) -> bool {
        let due = self.warned.is_none_or(|warned| now >= warned + WARN_EVERY);
        if due {
            self.warned = Some(now);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warning_comes_at_once_and_then_once_a_minute() {
        let mut unfit = Unfit::default();
        let start = Instant::now();
        let due: Vec<bool> =
            [0, 1, 59, 60, 61, 119, 120].map(|s| unfit.due(start + Duration::from_secs(s))).into();
        assert_eq!(due, [true, false, false, true, false, false, true]);
    }
}

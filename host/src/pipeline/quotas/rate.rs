//! Records and bytes that arrive, each at its rate: a request takes of both or of neither.

use std::time::Duration;

use wasmill_tenant::{Bucket, Quota, Quotas as Limits};

use super::{Past, QuotaRefusal};

/// What arrives.
#[derive(Debug, Default)]
pub(super) struct Rate {
    pub(super) records: Option<Bucket>,
    pub(super) bytes: Option<Bucket>,
}

impl Rate {
    pub(super) fn change(&mut self, limits: &Limits, now: u64) {
        let changed = |before: Option<Bucket>, limit: Option<u64>| {
            limit.map(|limit| match before {
                Some(before) => before.with_rate(limit, now),
                None => Bucket::new(limit, now),
            })
        };
        self.records = changed(self.records, limits.records_per_second);
        self.bytes = changed(self.bytes, limits.bytes_per_second);
    }

    /// Both or nothing; who is refused waits for both.
    pub(super) fn look(&self, records: u64, bytes: u64, now: u64) -> Result<(), QuotaRefusal> {
        let look = |quota, bucket: &Option<Bucket>, n| match bucket {
            Some(bucket) => bucket
                .look(n, now)
                .map_err(|short| QuotaRefusal::of_bucket(quota, bucket.per_second(), n, short)),
            None => Ok(()),
        };
        let of_records = look(Quota::RecordsPerSecond, &self.records, records);
        let of_bytes = look(Quota::BytesPerSecond, &self.bytes, bytes);
        match (of_records, of_bytes) {
            (Err(one), Err(other)) => Err(longer(one, other)),
            (one, other) => one.and(other),
        }
    }

    /// How long a batch waits that is as large as it is.
    pub(super) fn wait_for_any(&self, records: u64, bytes: u64, now: u64) -> Option<Duration> {
        let wait = |bucket: &Option<Bucket>, n: u64| bucket.as_ref()?.wait_for_any(n, now);
        wait(&self.records, records).max(wait(&self.bytes, bytes))
    }

    pub(super) fn charge(&mut self, records: u64, bytes: u64, now: u64) {
        if let Some(bucket) = &mut self.records {
            bucket.charge(records, now);
        }
        if let Some(bucket) = &mut self.bytes {
            bucket.charge(bytes, now);
        }
    }

    pub(super) fn give_back(&mut self, records: u64, bytes: u64) {
        if let Some(bucket) = &mut self.records {
            bucket.give_back(records);
        }
        if let Some(bucket) = &mut self.bytes {
            bucket.give_back(bytes);
        }
    }
}

/// Of two refusals the one that takes longer to be over.
fn longer(one: QuotaRefusal, other: QuotaRefusal) -> QuotaRefusal {
    match (one.why, other.why) {
        (Past::Ever { .. } | Past::Full { .. }, _) => one,
        (_, Past::Ever { .. } | Past::Full { .. }) => other,
        (Past::Now { retry_after: one_after }, Past::Now { retry_after: other_after }) => {
            if one_after >= other_after { one } else { other }
        }
    }
}

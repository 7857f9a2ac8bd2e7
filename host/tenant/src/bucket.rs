//! A token bucket: so much a second, and no more than a burst at once.
//!
//! Whoever is refused is told a time after which the same is let through, if nobody else takes of it meanwhile. What
//! could not be known before may be charged after (a bucket in debt lets nothing through until it is out of it). Moments
//! are nanoseconds of any clock that does not go back; they are handed in.

use std::time::Duration;

const NANOS: i128 = 1_000_000_000;

/// Why nothing was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Short {
    /// It is there after this time.
    Wait(Duration),
    /// More than a burst is never there.
    Never { burst: u64 },
}

/// See the head of this file.
#[derive(Clone, Copy, Debug)]
pub struct Bucket {
    per_second: u64,
    burst: u64,
    /// In billionths.
    level: i128,
    at: u64,
}

impl Bucket {
    /// A full one that is filled with so much a second; a burst is what comes in a second.
    pub fn new(per_second: u64, now: u64) -> Bucket {
        let per_second = per_second.max(1);
        Bucket::with_burst(per_second, per_second, now)
    }

    /// A full one.
    pub fn with_burst(per_second: u64, burst: u64, now: u64) -> Bucket {
        let (per_second, burst) = (per_second.max(1), burst.max(1));
        Bucket { per_second, burst, level: i128::from(burst) * NANOS, at: now }
    }

    /// The same with another rate: who is in debt stays in debt.
    #[must_use]
    pub fn with_rate(self, per_second: u64, now: u64) -> Bucket {
        let next = Bucket::new(per_second, now);
        Bucket { level: self.after(now).min(next.level), ..next }
    }

    /// This full one with what is missing of another.
    #[must_use]
    pub fn spent_as(self, other: &Bucket, now: u64) -> Bucket {
        let missing = i128::from(other.burst) * NANOS - other.after(now);
        Bucket { level: self.level - missing, ..self }
    }

    pub fn burst(&self) -> u64 {
        self.burst
    }

    pub fn per_second(&self) -> u64 {
        self.per_second
    }

    fn after(&self, now: u64) -> i128 {
        let passed = i128::from(now.saturating_sub(self.at));
        (self.level + passed * i128::from(self.per_second)).min(i128::from(self.burst) * NANOS)
    }

    fn fill(&mut self, now: u64) {
        self.level = self.after(now);
        self.at = self.at.max(now);
    }

    /// Time until so many billionths are there.
    fn until(&self, level: i128) -> Option<Duration> {
        let missing = level - self.level;
        let wait = missing.div_euclid(i128::from(self.per_second))
            + i128::from(missing.rem_euclid(i128::from(self.per_second)) > 0);
        (missing > 0).then(|| Duration::from_nanos(u64::try_from(wait).unwrap_or(u64::MAX)))
    }

    /// Whether [`Bucket::take`] would succeed.
    ///
    /// # Errors
    /// See [`Short`].
    pub fn look(&self, n: u64, now: u64) -> Result<(), Short> {
        if n > self.burst {
            return Err(Short::Never { burst: self.burst });
        }
        let filled = Bucket { level: self.after(now), ..*self };
        filled.until(i128::from(n) * NANOS).map_or(Ok(()), |wait| Err(Short::Wait(wait)))
    }

    /// Takes all of it or nothing.
    ///
    /// # Errors
    /// See [`Short`].
    pub fn take(&mut self, n: u64, now: u64) -> Result<(), Short> {
        self.look(n, now)?;
        self.charge(n, now);
        Ok(())
    }

    /// For who cannot ask for less: more than a burst is let through once a whole burst is there, and is paid for
    /// afterwards. How long to wait for that; then it is to be charged.
    pub fn wait_for_any(&self, n: u64, now: u64) -> Option<Duration> {
        match self.look(n.min(self.burst), now) {
            Err(Short::Wait(wait)) => Some(wait),
            Ok(()) | Err(Short::Never { .. }) => None,
        }
    }

    /// Takes it whether it is there or not.
    pub fn charge(&mut self, n: u64, now: u64) {
        self.fill(now);
        self.level -= i128::from(n) * NANOS;
    }

    /// What was taken is not needed after all.
    pub fn give_back(&mut self, n: u64) {
        self.level = (self.level + i128::from(n) * NANOS).min(i128::from(self.burst) * NANOS);
    }

    /// Time until it is out of debt; `None`: something is there.
    pub fn debt(&self, now: u64) -> Option<Duration> {
        let filled = Bucket { level: self.after(now), ..*self };
        filled.until(1)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn nanos(duration: Duration) -> u64 {
        u64::try_from(duration.as_nanos()).unwrap()
    }

    fn take_any(bucket: &mut Bucket, n: u64, now: u64) -> Result<(), Duration> {
        match bucket.wait_for_any(n, now) {
            Some(wait) => Err(wait),
            None => {
                bucket.charge(n, now);
                Ok(())
            }
        }
    }

    #[test]
    fn burst_is_there_at_once_and_more_than_it_never() {
        let mut bucket = Bucket::new(10, 5);
        assert_eq!(bucket.take(11, 5), Err(Short::Never { burst: 10 }));
        assert_eq!(bucket.take(10, 5), Ok(()));
        assert_eq!(bucket.take(1, 5), Err(Short::Wait(Duration::from_millis(100))));
        assert_eq!(bucket.take(1, 100_000_005), Ok(()));
        // A clock that goes back gives nothing.
        assert!(bucket.take(1, 0).is_err());
    }

    #[test]
    fn more_than_a_burst_is_paid_for_afterwards_where_it_is_let_through() {
        let mut bucket = Bucket::new(10, 0);
        assert_eq!(take_any(&mut bucket, 30, 0), Ok(()));
        assert_eq!(take_any(&mut bucket, 30, 0), Err(Duration::from_secs(3)));
        // One billionth more than nothing takes a nanosecond more.
        assert_eq!(bucket.debt(0), Some(Duration::from_nanos(2_000_000_001)));
        assert_eq!(bucket.debt(2_000_000_001), None);
        assert_eq!(take_any(&mut bucket, 30, 3_000_000_000), Ok(()));
    }

    #[test]
    fn rate_that_changes_forgives_no_debt() {
        let mut bucket = Bucket::new(100, 0);
        bucket.charge(300, 0);
        let mut bucket = bucket.with_rate(10, 0);
        assert_eq!(bucket.take(1, 0), Err(Short::Wait(Duration::from_millis(20_100))));
        assert_eq!(bucket.with_rate(1000, 0).look(1, 0), Err(Short::Wait(Duration::from_millis(201))));
    }

    proptest! {
        #[test]
        fn no_more_than_rate_and_burst_is_let_through(
            per_second in 1u64..5000,
            asks in prop::collection::vec((0u64..3_000_000_000, 0u64..6000, any::<bool>()), 1..200),
        ) {
            let mut bucket = Bucket::new(per_second, 0);
            let (mut now, mut taken, mut given) = (0u64, 0u64, 0u64);
            for (pause, n, give_back) in asks {
                now += pause;
                if bucket.take(n, now).is_ok() {
                    taken += n;
                    if give_back {
                        bucket.give_back(n);
                        given += n;
                    }
                }
                let most = u128::from(per_second) * u128::from(now) / 1_000_000_000 + u128::from(per_second);
                prop_assert!(u128::from(taken - given) <= most, "{taken} - {given} of {most}");
            }
        }

        #[test]
        fn who_waits_as_long_as_told_is_let_through_and_who_waits_less_is_not(
            per_second in 1u64..1_000_000_000,
            spent in 0u64..2_000_000_000,
            n in 1u64..1_000_000_000,
            now in 0u64..1_000_000_000_000,
        ) {
            let mut bucket = Bucket::new(per_second, now);
            bucket.charge(spent, now);
            match bucket.look(n, now) {
                Ok(()) => prop_assert!(bucket.take(n, now).is_ok()),
                Err(Short::Never { burst }) => prop_assert!(n > burst),
                Err(Short::Wait(wait)) => {
                    prop_assert!(bucket.look(n, now + nanos(wait) - 1).is_err());
                    prop_assert!(bucket.take(n, now + nanos(wait)).is_ok());
                }
            }
        }

        #[test]
        fn long_run_of_what_cannot_be_smaller_keeps_to_the_rate(
            per_second in 1u64..1000,
            asks in prop::collection::vec(1u64..5000, 1..50),
        ) {
            let mut bucket = Bucket::new(per_second, 0);
            let (mut now, mut taken) = (0u64, 0u64);
            for n in asks {
                if let Err(wait) = take_any(&mut bucket, n, now) {
                    now += nanos(wait);
                    prop_assert!(take_any(&mut bucket, n, now).is_ok());
                }
                taken += n;
                let most = u128::from(per_second) * u128::from(now) / 1_000_000_000 + u128::from(per_second);
                prop_assert!(u128::from(taken) <= most + u128::from(n.saturating_sub(bucket.burst())));
            }
        }
    }
}

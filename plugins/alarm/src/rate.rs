//! How many notices may leave: the generic cell rate algorithm (ITU-T I.371), which keeps one moment.
//!
//! That moment is when everything that left will have been paid for, each notice with `per / notices`. So
//! `notices` may leave at once, and then as many in each `per`.

use serde::{Deserialize, Serialize};

/// So many notices in a span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Nanoseconds that a notice costs.
    cost: i64,
    /// Nanoseconds that may be owed before another is taken.
    credit: i64,
}

impl Rate {
    /// `notices` at once and in each `per` (nanoseconds); none where a notice would cost nothing.
    #[must_use]
    pub fn new(notices: i64, per: i64) -> Option<Self> {
        let cost = per.checked_div(notices)?;
        (cost > 0).then(|| Self { cost, credit: cost.saturating_mul(notices - 1) })
    }
}

/// What has left: the moment (nanoseconds) when it is paid for; none = nothing is owed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spent(Option<i64>);

impl Spent {
    /// Whether another notice may leave at `now`.
    #[must_use]
    pub fn allows(self, rate: Rate, now: i64) -> bool {
        self.0.is_none_or(|paid| paid.saturating_sub(now) <= rate.credit)
    }

    /// It has left.
    pub fn take(&mut self, rate: Rate, now: i64) {
        let from = self.0.map_or(now, |paid| paid.max(now));
        self.0 = Some(from.saturating_add(rate.cost));
    }

    /// Forgets what is paid for.
    pub fn settle(&mut self, now: i64) {
        self.0 = self.0.filter(|paid| *paid > now);
    }

    /// Whether nothing is owed.
    #[must_use]
    pub fn is_clear(self) -> bool {
        self.0.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn left(rate: Rate, times: &[i64]) -> Vec<i64> {
        let mut spent = Spent::default();
        let taken = times.iter().copied().filter(|now| {
            let allowed = spent.allows(rate, *now);
            if allowed {
                spent.take(rate, *now);
            }
            allowed
        });
        taken.collect()
    }

    #[test]
    fn as_many_as_allowed_leave_at_once_and_then_one_by_one() {
        let rate = Rate::new(3, 30).unwrap();
        assert_eq!(
            left(rate, &[0, 0, 0, 0, 9, 10, 10, 19, 20, 200, 200, 200, 200]),
            [0, 0, 0, 10, 20, 200, 200, 200]
        );
        assert_eq!(left(Rate::new(1, 5).unwrap(), &[-7, -3, -2, 2, 3]), [-7, -2, 3]);
    }

    #[test]
    fn what_is_paid_for_is_forgotten() {
        let (rate, mut spent) = (Rate::new(1, 5).unwrap(), Spent::default());
        spent.take(rate, 10);
        spent.settle(14);
        assert!(!spent.is_clear());
        spent.settle(15);
        assert!(spent.is_clear());
    }

    #[test]
    fn a_rate_of_nothing_is_none() {
        assert_eq!(Rate::new(0, 5), None);
        assert_eq!(Rate::new(6, 5), None);
        let rate = Rate::new(1, i64::MAX).unwrap();
        assert_eq!(left(rate, &[i64::MIN, -1, i64::MAX - 2]), [i64::MIN, -1]);
    }

    proptest::proptest! {
        #[test]
        fn no_span_has_more_than_twice_what_is_allowed(mut times: Vec<u16>, notices in 1_i64..20) {
            times.sort_unstable();
            let times: Vec<i64> = times.into_iter().map(i64::from).collect();
            let left = left(Rate::new(notices, 1000).unwrap(), &times);
            for first in &left {
                let within = left.iter().filter(|time| (*first..*first + 1000).contains(*time)).count();
                assert!(within as i64 <= 2 * notices, "{within} of {notices}");
            }
        }
    }
}

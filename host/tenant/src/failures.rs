//! How often a client address may present what is no valid key.
//!
//! One bucket of tokens an address (of IPv6 a /64, which is what one client has). A token is taken before a key is
//! verified, and given back when it was one; so verifying is bounded however many requests come at once. The table is
//! bounded too: addresses that have no place in it share one bucket.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use crate::Moment;

/// Failures at once.
const BURST: f64 = 20.0;
/// Failures for good.
const PER_SECOND: f64 = 1.0;
/// Addresses that have a bucket of their own.
const ADDRESSES_MAX: usize = 10_000;
/// Of all addresses without one.
const SHARED_BURST: f64 = 200.0;
const SHARED_PER_SECOND: f64 = 20.0;

/// When to come again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryAfter(pub Duration);

#[derive(Clone, Copy, Debug)]
struct Bucket {
    tokens: f64,
    at: Moment,
}

impl Bucket {
    fn at(self, now: Moment, burst: f64, per_second: f64) -> Bucket {
        let seconds = now.saturating_sub(self.at) as f64 / 1000.0;
        Bucket { tokens: (self.tokens + seconds * per_second).min(burst), at: now.max(self.at) }
    }
}

/// See the head of this file.
#[derive(Clone, Debug)]
pub struct Failures {
    buckets: HashMap<IpAddr, Bucket>,
    shared: Bucket,
    max: usize,
}

impl Default for Failures {
    fn default() -> Failures {
        Failures::new(ADDRESSES_MAX)
    }
}

fn enough(bucket: Bucket, per_second: f64) -> Result<(), RetryAfter> {
    match bucket.tokens {
        tokens if tokens < 1.0 => Err(RetryAfter(Duration::from_secs_f64((1.0 - tokens) / per_second))),
        _ => Ok(()),
    }
}

/// What one client has.
fn client(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & (!0 << 64))),
        address => address,
    }
}

impl Failures {
    pub fn new(max: usize) -> Failures {
        Failures { buckets: HashMap::new(), shared: Bucket { tokens: SHARED_BURST, at: 0 }, max: max.max(1) }
    }

    /// Before an attempt.
    ///
    /// # Errors
    /// Too many have failed.
    pub fn take(&mut self, address: IpAddr, now: Moment) -> Result<(), RetryAfter> {
        let address = client(address);
        if !self.buckets.contains_key(&address) && self.buckets.len() >= self.max {
            self.buckets.retain(|_, bucket| bucket.at(now, BURST, PER_SECOND).tokens < BURST);
        }
        let room = self.buckets.len() < self.max;
        let (bucket, burst, per_second) = match self.buckets.get_mut(&address) {
            Some(bucket) => (bucket, BURST, PER_SECOND),
            None if room => {
                let full = Bucket { tokens: BURST, at: now };
                (self.buckets.entry(address).or_insert(full), BURST, PER_SECOND)
            }
            None => (&mut self.shared, SHARED_BURST, SHARED_PER_SECOND),
        };
        *bucket = bucket.at(now, burst, per_second);
        enough(*bucket, per_second)?;
        bucket.tokens -= 1.0;
        Ok(())
    }

    /// Whether an attempt would be refused now, without making one.
    ///
    /// # Errors
    /// Too many have failed.
    pub fn look(&self, address: IpAddr, now: Moment) -> Result<(), RetryAfter> {
        let room = self.buckets.len() < self.max;
        let (bucket, burst, per_second) = match self.buckets.get(&client(address)) {
            Some(bucket) => (bucket, BURST, PER_SECOND),
            None if room => return Ok(()),
            None => (&self.shared, SHARED_BURST, SHARED_PER_SECOND),
        };
        enough(bucket.at(now, burst, per_second), per_second)
    }

    /// The attempt did not fail after all.
    pub fn give_back(&mut self, address: IpAddr) {
        let bucket = self.buckets.get_mut(&client(address)).unwrap_or(&mut self.shared);
        bucket.tokens += 1.0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u32) -> IpAddr {
        IpAddr::from((0x0a00_0000 + last).to_be_bytes())
    }

    #[test]
    fn failures_beyond_the_burst_are_refused_until_time_has_passed_and_others_are_not() {
        let mut failures = Failures::default();
        for _ in 0..20 {
            failures.take(address(1), 1000).unwrap();
        }
        assert_eq!(failures.look(address(1), 1000), failures.clone().take(address(1), 1000));
        assert_eq!(failures.look(address(2), 1000), Ok(()));
        let RetryAfter(wait) = failures.take(address(1), 1000).unwrap_err();
        assert_eq!(wait, Duration::from_secs(1));
        failures.take(address(2), 1000).unwrap();
        failures.take(address(1), 2000).unwrap();
        assert!(failures.take(address(1), 2000).is_err());
        // A clock that goes back gives nothing.
        assert!(failures.take(address(1), 10).is_err());
    }

    #[test]
    fn success_costs_nothing() {
        let mut failures = Failures::default();
        for _ in 0..1000 {
            failures.take(address(1), 1000).unwrap();
            failures.give_back(address(1));
        }
    }

    #[test]
    fn addresses_of_one_network_share_and_mapped_ones_are_the_same() {
        let mut failures = Failures::default();
        let of = |text: &str| text.parse::<IpAddr>().unwrap();
        for n in 0..20 {
            failures.take(of(&format!("2001:db8:0:1::{n}")), 0).unwrap();
            failures.take(of("10.0.0.1"), 0).unwrap();
        }
        assert!(failures.take(of("2001:db8:0:1:ffff::"), 0).is_err());
        assert!(failures.take(of("::ffff:10.0.0.1"), 0).is_err());
        failures.take(of("2001:db8:0:2::"), 0).unwrap();
    }

    #[test]
    fn table_is_bounded_and_who_has_no_place_in_it_is_bounded_together() {
        let mut failures = Failures::new(100);
        let refused = (0..1000).filter(|n| failures.take(address(*n), 5).is_err()).count();
        assert_eq!((failures.buckets.len(), refused), (100, 700));
        // Those that are whole again make room.
        failures.take(address(5000), 60_000).unwrap();
        assert_eq!(failures.buckets.len(), 1);
    }
}

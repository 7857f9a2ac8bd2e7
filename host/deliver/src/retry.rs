//! When to try again: exponential back-off with jitter as a small state machine, and a loop over it.
//!
//! The state machine (`Backoff`) takes the time as an argument, so that a thread without a runtime
//! can use it too. Nothing here sleeps without a way to be cancelled.

use std::time::Duration;

use tokio::time::Instant;

use crate::fault::{DeliverError, Retry};

/// How long and how often to try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Ceiling of the first wait.
    pub initial: Duration,
    /// Ceiling of every wait.
    pub max: Duration,
    /// Since the first failure; `None` = for ever.
    pub for_: Option<Duration>,
    pub manner: Manner,
}

/// How waits are drawn, and what of the time counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Manner {
    /// Evenly from zero to the ceiling; all time counts.
    #[default]
    Full,
    /// Within 15 % of the ceiling; only waits count, not the time in which answers are waited for. As Amazon Data Firehose does it.
    Near,
}

/// Of the ceiling, in which a wait is drawn that is near to it.
const NEAR: f64 = 0.15;

impl Default for RetryPolicy {
    fn default() -> Self {
        RetryPolicy {
            initial: Duration::from_millis(200),
            max: Duration::from_secs(30),
            for_: Some(Duration::from_secs(24 * 60 * 60)),
            manner: Manner::Full,
        }
    }
}

/// What to do after a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// Try again after this long (zero = at once).
    Wait(Duration),
    /// The policy's time is over.
    Expired,
    /// Trying again cannot help.
    Refused,
}

/// The back-off of one delivery.
#[derive(Clone, Debug)]
pub struct Backoff {
    policy: RetryPolicy,
    failures: u32,
    first_failure: Option<Instant>,
    last_was_now: bool,
    /// In waits that were handed out.
    waited: Duration,
}

impl Backoff {
    pub fn new(policy: RetryPolicy) -> Backoff {
        Backoff { policy, failures: 0, first_failure: None, last_was_now: false, waited: Duration::ZERO }
    }

    /// Failures so far.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// The step after a failure at `now`. Waits are drawn up to, or near, a ceiling that doubles
    /// with each failure; `Retry-After` is a lower bound; nothing waits past the policy's end.
    /// `Retry::Now` is honoured once in a row, so that it cannot become a busy loop.
    pub fn failed(&mut self, retry: Retry, now: Instant) -> Step {
        let first_failure = *self.first_failure.get_or_insert(now);
        self.failures = self.failures.saturating_add(1);
        let after = match retry {
            Retry::Never => return Step::Refused,
            Retry::Now if !self.last_was_now => {
                self.last_was_now = true;
                Some(Duration::ZERO)
            }
            Retry::Now => None,
            Retry::Later { after } => {
                self.last_was_now = false;
                let wait = self.draw();
                Some(after.map_or(wait, |after| after.saturating_add(wait)))
            }
        };
        let wait = match after {
            Some(wait) => wait,
            None => self.draw(),
        };
        let Some(limit) = self.policy.for_ else { return Step::Wait(wait) };
        let used = match self.policy.manner {
            Manner::Full => now.saturating_duration_since(first_failure),
            Manner::Near => self.waited,
        };
        let left = limit.saturating_sub(used);
        if left.is_zero() {
            return Step::Expired;
        }
        let wait = wait.min(left);
        self.waited = self.waited.saturating_add(wait);
        Step::Wait(wait)
    }

    fn draw(&self) -> Duration {
        let doublings = self.failures.saturating_sub(1).min(31);
        let ceiling = self.policy.initial.saturating_mul(1 << doublings).min(self.policy.max);
        match self.policy.manner {
            Manner::Full => ceiling.mul_f64(rand::random::<f64>()),
            Manner::Near => ceiling.mul_f64(1.0 - NEAR + 2.0 * NEAR * rand::random::<f64>()),
        }
    }
}

/// A retry that is about to happen, for logs and metrics.
#[derive(Clone, Copy, Debug)]
pub struct Retrying<'a> {
    pub error: &'a DeliverError,
    /// Failures so far, including this one.
    pub failures: u32,
    pub wait: Duration,
}

/// Why `with_retry` ended without success.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GaveUp {
    #[error("the delivery was cancelled")]
    Cancelled,
    #[error("the time for retries is over after {failures} attempts: {last}")]
    Expired { failures: u32, last: DeliverError },
    #[error("{0}")]
    Refused(DeliverError),
}

/// Runs `attempt` until it succeeds, is refused for good, or the policy's time is over.
///
/// `cancel` ends a wait as well as an attempt in flight; what an attempt that was cut off did is
/// then unknown, and the next run finds out (`Delivered::AlreadyOurs`).
pub async fn with_retry<T, F>(
    policy: &RetryPolicy,
    cancel: impl Future<Output = ()>,
    mut on_retry: impl FnMut(Retrying<'_>),
    mut attempt: impl FnMut() -> F,
) -> Result<T, GaveUp>
where
    F: Future<Output = Result<T, DeliverError>>,
{
    let mut cancel = std::pin::pin!(cancel);
    let mut backoff = Backoff::new(policy.clone());
    loop {
        let error = tokio::select! {
            biased;
            () = &mut cancel => return Err(GaveUp::Cancelled),
            result = attempt() => match result {
                Ok(value) => return Ok(value),
                Err(error) => error,
            },
        };
        let wait = match backoff.failed(error.retry, Instant::now()) {
            Step::Refused => return Err(GaveUp::Refused(error)),
            Step::Expired => return Err(GaveUp::Expired { failures: backoff.failures(), last: error }),
            Step::Wait(wait) => wait,
        };
        on_retry(Retrying { error: &error, failures: backoff.failures(), wait });
        tokio::select! {
            biased;
            () = &mut cancel => return Err(GaveUp::Cancelled),
            () = tokio::time::sleep(wait) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::Fault;

    const LATER: Retry = Retry::Later { after: None };

    fn policy(for_: Option<Duration>) -> RetryPolicy {
        RetryPolicy {
            initial: Duration::from_millis(200),
            max: Duration::from_secs(30),
            for_,
            manner: Manner::Full,
        }
    }

    fn failure(retry: Retry) -> DeliverError {
        DeliverError::new(Fault::Destination, retry, "down", "")
    }

    fn waited(step: Step) -> Duration {
        match step {
            Step::Wait(wait) => wait,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn backoff_many_failures_stays_under_doubling_ceiling_and_max() {
        let mut backoff = Backoff::new(policy(None));
        let now = Instant::now();
        for failure in 0..200_u32 {
            let ceiling =
                Duration::from_millis(200).saturating_mul(1 << failure.min(20)).min(Duration::from_secs(30));
            assert!(waited(backoff.failed(LATER, now)) <= ceiling);
        }
    }

    #[tokio::test]
    async fn backoff_waits_differ() {
        let mut backoff = Backoff::new(policy(None));
        let now = Instant::now();
        let waits: std::collections::HashSet<_> = (0..50).map(|_| backoff.failed(LATER, now)).collect();
        assert!(waits.len() > 40);
    }

    #[tokio::test]
    async fn backoff_retry_after_is_lower_bound() {
        let mut backoff = Backoff::new(policy(None));
        let after = Duration::from_secs(90);
        let wait = waited(backoff.failed(Retry::Later { after: Some(after) }, Instant::now()));
        assert!(wait >= after && wait <= after + Duration::from_millis(200), "{wait:?}");
    }

    #[tokio::test]
    async fn backoff_past_policy_end_expires() {
        let mut backoff = Backoff::new(policy(Some(Duration::from_secs(10))));
        let start = Instant::now();
        assert!(matches!(backoff.failed(LATER, start), Step::Wait(_)));
        let near_end = start + Duration::from_millis(9_990);
        let after = Some(Duration::from_secs(60));
        assert!(waited(backoff.failed(Retry::Later { after }, near_end)) <= Duration::from_millis(10));
        assert_eq!(backoff.failed(LATER, start + Duration::from_secs(10)), Step::Expired);
    }

    #[tokio::test]
    async fn backoff_now_twice_waits_the_second_time() {
        let mut backoff = Backoff::new(RetryPolicy {
            initial: Duration::from_secs(1 << 20),
            max: Duration::from_secs(1 << 20),
            for_: None,
            manner: Manner::Full,
        });
        let now = Instant::now();
        assert_eq!(backoff.failed(Retry::Now, now), Step::Wait(Duration::ZERO));
        assert!(waited(backoff.failed(Retry::Now, now)) > Duration::ZERO);
    }

    #[tokio::test]
    async fn backoff_near_its_ceiling_counts_waits_alone() {
        let policy = RetryPolicy {
            initial: Duration::from_secs(1),
            max: Duration::from_secs(120),
            for_: Some(Duration::from_secs(300)),
            manner: Manner::Near,
        };
        let mut backoff = Backoff::new(policy);
        let mut now = Instant::now();
        let mut sum = Duration::ZERO;
        for ceiling in [1_u32, 2, 4, 8, 16, 32, 64, 120, 120] {
            // An answer that takes its time costs nothing.
            now += Duration::from_secs(170);
            let Step::Wait(wait) = backoff.failed(LATER, now) else { panic!("ended after {sum:?}") };
            sum += wait;
            let ceiling = Duration::from_secs(ceiling.into());
            let is_last = sum == Duration::from_secs(300);
            assert!(wait <= ceiling.mul_f64(1.15) && (is_last || wait >= ceiling.mul_f64(0.85)), "{wait:?}");
            if is_last {
                break;
            }
        }
        assert_eq!((sum, backoff.failed(LATER, now)), (Duration::from_secs(300), Step::Expired));
        let none = RetryPolicy { for_: Some(Duration::ZERO), manner: Manner::Near, ..RetryPolicy::default() };
        assert_eq!(Backoff::new(none).failed(LATER, now), Step::Expired);
    }

    #[tokio::test(start_paused = true)]
    async fn with_retry_fails_then_succeeds_reports_each_retry() {
        let (mut attempts, mut reported) = (0, Vec::new());
        let result = with_retry(
            &policy(None),
            std::future::pending(),
            |retrying| reported.push(retrying.failures),
            || {
                attempts += 1;
                std::future::ready(if attempts < 4 { Err(failure(LATER)) } else { Ok(attempts) })
            },
        )
        .await;
        assert_eq!(result, Ok(4));
        assert_eq!(reported, [1, 2, 3]);
    }

    #[tokio::test(start_paused = true)]
    async fn with_retry_never_gives_up_at_once() {
        let mut attempts = 0;
        let result: Result<(), _> = with_retry(
            &policy(None),
            std::future::pending(),
            |_| {},
            || {
                attempts += 1;
                std::future::ready(Err(failure(Retry::Never)))
            },
        )
        .await;
        assert_eq!(result, Err(GaveUp::Refused(failure(Retry::Never))));
        assert_eq!(attempts, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn with_retry_destination_stays_down_expires_with_last_error() {
        let limit = Duration::from_secs(60);
        let start = Instant::now();
        let result: Result<(), _> = with_retry(
            &policy(Some(limit)),
            std::future::pending(),
            |_| {},
            || std::future::ready(Err(failure(LATER))),
        )
        .await;
        assert!(matches!(result, Err(GaveUp::Expired { failures: 2.., .. })), "{result:?}");
        assert!(start.elapsed() >= limit && start.elapsed() < limit + Duration::from_secs(1));
    }

    #[tokio::test(start_paused = true)]
    async fn with_retry_cancelled_during_wait_and_during_attempt_ends() {
        let cancel = || tokio::time::sleep(Duration::from_secs(5));
        let after = Some(Duration::from_secs(1000));
        let result: Result<(), _> = with_retry(
            &policy(None),
            cancel(),
            |_| {},
            || std::future::ready(Err(failure(Retry::Later { after }))),
        )
        .await;
        assert_eq!(result, Err(GaveUp::Cancelled));
        let result: Result<(), _> = with_retry(&policy(None), cancel(), |_| {}, std::future::pending).await;
        assert_eq!(result, Err(GaveUp::Cancelled));
    }
}

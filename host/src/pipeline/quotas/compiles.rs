//! Turns of the compiler: a few at a time over all tenants, one at a time of each, in the order in which they asked.
//!
//! A compile that takes long gives its place to another one, so that the bomb of one tenant holds up no other: the system
//! shares its processors among them. How many there are in all stays bounded.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use wasmill_catalog::CompileGate;

use super::{TenantQuota, now};

/// From when on a compile is a long one.
const LONG_NS: u64 = 5_000_000_000;
/// Compiles that run in all, for each that may be a short one.
const IN_ALL: usize = 4;
/// How often one that waits looks whether another has become a long one.
const LOOK_EVERY: Duration = Duration::from_millis(250);

#[derive(Debug)]
struct Running {
    tenant: String,
    since_ns: u64,
}

#[derive(Debug, Default)]
struct State {
    running: Vec<Running>,
    /// Those that wait, each with a number of its own.
    waiting: VecDeque<(u64, String)>,
    numbers: u64,
}

impl State {
    /// Whether it is this one's turn.
    fn may(&self, number: u64, max: usize, now_ns: u64) -> bool {
        let short = self.running.iter().filter(|running| now_ns.saturating_sub(running.since_ns) < LONG_NS);
        if short.count() >= max || self.running.len() >= max * IN_ALL {
            return false;
        }
        let runs = |tenant: &str| self.running.iter().any(|running| running.tenant == tenant);
        let first = self.waiting.iter().find(|(_, tenant)| !runs(tenant));
        first.is_some_and(|(first, _)| *first == number)
    }
}

/// See the head of this file.
#[derive(Debug)]
pub(crate) struct Compiles {
    /// At a time, long ones aside.
    max: usize,
    state: Mutex<State>,
    changed: Condvar,
}

impl Default for Compiles {
    fn default() -> Compiles {
        Compiles { max: 2, state: Mutex::default(), changed: Condvar::new() }
    }
}

impl Compiles {
    /// `max` at a time, and at least two: one tenant must not hold all.
    pub(crate) fn new(max: usize) -> Arc<Compiles> {
        Arc::new(Compiles { max: max.max(2), ..Compiles::default() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait_for_turn(&self, tenant: &str) {
        let mut state = self.state();
        state.numbers += 1;
        let number = state.numbers;
        state.waiting.push_back((number, tenant.to_owned()));
        while !state.may(number, self.max, now()) {
            let waited = self.changed.wait_timeout(state, LOOK_EVERY);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        state.waiting.retain(|(waiting, _)| *waiting != number);
        state.running.push(Running { tenant: tenant.to_owned(), since_ns: now() });
        drop(state);
        // The one behind it may have a turn too.
        self.changed.notify_all();
    }

    fn end(&self, tenant: &str) {
        let mut state = self.state();
        if let Some(place) = state.running.iter().position(|running| running.tenant == tenant) {
            state.running.swap_remove(place);
        }
        drop(state);
        self.changed.notify_all();
    }
}

/// That of one tenant.
#[derive(Debug)]
pub(crate) struct TenantGate {
    pub(crate) quota: Arc<TenantQuota>,
    pub(crate) compiles: Arc<Compiles>,
}

impl CompileGate for TenantGate {
    fn takes(&self, bytes: u64) -> Result<(), String> {
        self.quota.takes_plugin(bytes).map_err(|refusal| refusal.to_string())
    }

    fn takes_another(&self, there: u64) -> Result<(), String> {
        self.quota.takes_another_plugin(there).map_err(|refusal| refusal.to_string())
    }

    fn begin(&self) -> Result<(), String> {
        self.quota.may_compile().map_err(|refusal| refusal.to_string())?;
        self.compiles.wait_for_turn(self.quota.tenant());
        Ok(())
    }

    fn end(&self, cpu: Duration) {
        self.quota.charge_compile(cpu);
        self.compiles.end(self.quota.tenant());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting(state: &mut State, tenants: &[&str]) {
        for tenant in tenants {
            state.numbers += 1;
            state.waiting.push_back((state.numbers, (*tenant).to_owned()));
        }
    }

    fn run(state: &mut State, number: u64, now_ns: u64) {
        let place = state.waiting.iter().position(|(waiting, _)| *waiting == number).unwrap();
        let (_, tenant) = state.waiting.remove(place).unwrap();
        state.running.push(Running { tenant, since_ns: now_ns });
    }

    fn whose_turn(state: &State, now_ns: u64) -> Option<u64> {
        state.waiting.iter().map(|(number, _)| *number).find(|number| state.may(*number, 2, now_ns))
    }

    #[test]
    fn tenant_has_one_at_a_time_and_others_do_not_wait_for_its_next() {
        let mut state = State::default();
        waiting(&mut state, &["a", "a", "a", "b", "c"]);
        assert_eq!(whose_turn(&state, 0), Some(1));
        run(&mut state, 1, 0);
        assert_eq!(whose_turn(&state, 0), Some(4));
        run(&mut state, 4, 0);
        assert_eq!(whose_turn(&state, 0), None, "two at a time");
        state.running.retain(|running| running.tenant != "a");
        assert_eq!(whose_turn(&state, 0), Some(2));
    }

    #[test]
    fn compiles_that_take_long_hold_up_nobody_and_are_bounded_all_the_same() {
        let mut state = State::default();
        waiting(&mut state, &["a", "b", "c", "d", "e", "f", "g", "h", "i"]);
        let mut now = 0;
        for pair in [[1, 2], [3, 4], [5, 6], [7, 8]] {
            for number in pair {
                assert_eq!(whose_turn(&state, now), Some(number));
                run(&mut state, number, now);
            }
            assert_eq!(whose_turn(&state, now), None);
            now += LONG_NS;
        }
        assert_eq!(whose_turn(&state, now), None, "eight are enough");
        state.running.pop();
        assert_eq!(whose_turn(&state, now), Some(9));
    }

    #[test]
    fn turns_are_taken_and_given_back_by_threads() {
        let compiles = Compiles::new(1);
        std::thread::scope(|scope| {
            for n in 0..8 {
                let compiles = &compiles;
                scope.spawn(move || {
                    let tenant = format!("t{}", n % 3);
                    compiles.wait_for_turn(&tenant);
                    assert!(compiles.state().running.len() <= 2);
                    compiles.end(&tenant);
                });
            }
        });
        assert!(compiles.state().running.is_empty() && compiles.state().waiting.is_empty());
    }
}

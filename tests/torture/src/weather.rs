//! How destinations misbehave: for the one request by chance, and for a while as a storm or an outage.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use wasmill_tests::serve::{Fault, Refusal};

const CALM: u8 = 0;
const STORM: u8 = 1;
const OUTAGE: u8 = 2;

/// The weather of one destination.
#[derive(Debug)]
pub struct Weather {
    state: AtomicU8,
    fine: AtomicBool,
    rng: Mutex<SmallRng>,
}

impl Weather {
    pub fn new(seed: u64) -> Weather {
        let rng = Mutex::new(SmallRng::seed_from_u64(seed));
        Weather { state: AtomicU8::new(CALM), fine: AtomicBool::new(false), rng }
    }

    /// From now on everything works.
    pub fn clear(&self) {
        self.fine.store(true, Ordering::Relaxed);
    }

    /// What happens to the next request.
    pub fn draw(&self) -> Fault {
        if self.fine.load(Ordering::Relaxed) {
            return Fault::None;
        }
        let state = self.state.load(Ordering::Relaxed);
        let mut rng = self.rng.lock().unwrap_or_else(PoisonError::into_inner);
        let of = match state {
            CALM => 1_000,
            STORM => 150,
            _ => 60,
        };
        match rng.random_range(0..of) {
            0..12 => Fault::Refused(Refusal::SLOW_DOWN),
            12..20 => Fault::Refused(Refusal::INTERNAL),
            20..28 => Fault::BrokenBefore,
            28..36 => Fault::BrokenAfterBody,
            36..50 => Fault::AnswerLost,
            50..60 => Fault::Refused(Refusal { status: 429, ..Refusal::SLOW_DOWN }),
            _ if state == OUTAGE => Fault::Refused(Refusal::SLOW_DOWN),
            60..75 => Fault::SlowBody(Duration::from_millis(rng.random_range(5..200))),
            75..90 => Fault::SlowAnswer(Duration::from_millis(rng.random_range(5..200))),
            90..100 => Fault::UploadGone,
            _ => Fault::None,
        }
    }

    /// Lets the weather change until it is over.
    pub fn change(&self, over: &AtomicBool, seed: u64) {
        let mut rng = SmallRng::seed_from_u64(seed ^ 0x7765_6174);
        while !over.load(Ordering::Relaxed) {
            let (state, length) = match rng.random_range(0..10) {
                0..5 => (CALM, rng.random_range(300..3_000)),
                5..9 => (STORM, rng.random_range(300..3_000)),
                _ => (OUTAGE, rng.random_range(200..1_500)),
            };
            self.state.store(state, Ordering::Relaxed);
            let end = Instant::now() + Duration::from_millis(length);
            while Instant::now() < end && !over.load(Ordering::Relaxed) {
                std::thread::park_timeout(Duration::from_millis(10));
            }
        }
    }
}

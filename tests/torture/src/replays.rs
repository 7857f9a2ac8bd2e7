//! Somebody who has dead letters replayed all the time, with whatever version of the plugins is there just then.
//!
//! Nothing is remembered of the answers but how many letters passed: a letter is with its record in the end, wherever
//! the checker finds it.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use wasmill_tests::client;

use crate::scene::STREAMS;

/// See the head of this file.
pub struct Replayer {
    pub seed: u64,
    /// Letters that passed, as far as the host could still say so.
    passed: AtomicU64,
}

impl Replayer {
    pub fn new(seed: u64) -> Replayer {
        Replayer { seed, passed: AtomicU64::new(0) }
    }

    pub fn passed(&self) -> u64 {
        self.passed.load(Ordering::Relaxed)
    }

    /// Replays some letters of one stream after another until it is over.
    pub fn run(&self, to: SocketAddr, over: &AtomicBool) -> Result<()> {
        let mut rng = SmallRng::seed_from_u64(self.seed ^ 0x7265_706c);
        let mut after = [0; STREAMS.len()];
        loop {
            let end = Instant::now() + Duration::from_millis(rng.random_range(5..400));
            while Instant::now() < end {
                if over.load(Ordering::Relaxed) {
                    return Ok(());
                }
                std::thread::park_timeout(Duration::from_millis(5));
            }
            let index = rng.random_range(0..STREAMS.len());
            let (Some(stream), Some(after)) = (STREAMS.get(index), after.get_mut(index)) else { continue };
            let limit = rng.random_range(1..200);
            let path = format!("/v1/streams/{stream}/dead-letters/replay?limit={limit}&after={after}");
            // The host may be down, or be killed in the middle.
            let Ok(answer) = client::request(to, "POST", &path, &[], b"") else { continue };
            let body = answer.json();
            match answer.status {
                200 => {
                    self.passed.fetch_add(body["passed"].as_u64().unwrap_or_default(), Ordering::Relaxed);
                    // Round and round.
                    *after = body["next"].as_u64().unwrap_or_default();
                }
                // Another replay, a stream that opens or a host that stops.
                409 | 503 => {}
                status => bail!("unexpected answer to a replay: {status} {}", answer.body),
            }
        }
    }
}

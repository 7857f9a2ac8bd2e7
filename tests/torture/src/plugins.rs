//! Plugins that come and go while records pass: good versions by renaming and in place, and broken ones.
//!
//! All good versions do the same to every record but for the stamp and for records that only some let pass; a broken one must never be used. Broken and half
//! written ones are there also while a host starts, once there is a version that it ran before.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use wasmill_tests::events::{Event, Events};
use wasmill_tests::guest::Guest;

use crate::record::{KEY_AT, OUTPUT_AT, VERDICT_AT};

/// In the order of the chain.
pub const NAMES: [&str; 3] = ["obey", "stamp", "place"];
const STAMPS: &[u8] = b"0123456789abcdefghijklmnopqrstuvwxyz";

/// Puts plugins into a directory.
pub struct Deployer<'a> {
    pub dir: &'a Path,
    pub seed: u64,
    pub events: &'a Events,
    /// Whether the host ever ran.
    pub ran: AtomicBool,
}

impl Deployer<'_> {
    fn good(name: &str, salt: u32) -> Vec<u8> {
        let stamp = STAMPS.get(salt as usize % STAMPS.len()).copied().unwrap_or(b'0');
        let guest = match name {
            "obey" if salt.is_multiple_of(2) => Guest::obey(VERDICT_AT),
            "obey" => Guest::obey_strictly(VERDICT_AT),
            "place" => Guest::place(OUTPUT_AT, KEY_AT, "sbh"),
            _ => Guest::stamp(stamp.into()),
        };
        guest.salted(salt).wasm()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}.wasm"))
    }

    fn rename(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let part = self.dir.join(format!(".{name}.part"));
        fs::write(&part, bytes).with_context(|| format!("write {}", part.display()))?;
        Ok(fs::rename(&part, self.file(name))?)
    }

    /// As a careless copy does: what is there is cut, and the new bytes come piece by piece.
    fn in_place(&self, name: &str, bytes: &[u8], pause: Duration) -> Result<()> {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).open(self.file(name))?;
        let (one, other) = bytes.split_at(bytes.len() / 2);
        file.write_all(one)?;
        std::thread::park_timeout(pause);
        Ok(file.write_all(other)?)
    }

    /// A good version of each, by renaming.
    pub fn all(&self, salt: u32) -> Result<()> {
        NAMES.iter().try_for_each(|name| self.rename(name, &Self::good(name, salt)))
    }

    fn ran(&self) -> bool {
        self.ran.load(Ordering::Relaxed)
    }

    /// Replaces one plugin after another until it is over.
    pub fn run(&self, over: &AtomicBool) -> Result<()> {
        let mut rng = SmallRng::seed_from_u64(self.seed ^ 0x706c_7567);
        for salt in 1.. {
            let end = Instant::now() + Duration::from_millis(rng.random_range(100..1_500));
            while Instant::now() < end {
                if over.load(Ordering::Relaxed) {
                    return Ok(());
                }
                std::thread::park_timeout(Duration::from_millis(10));
            }
            let name = NAMES[rng.random_range(0..NAMES.len())];
            let good = Self::good(name, salt);
            let pause = Duration::from_millis(rng.random_range(0..40));
            let way = rng.random_range(0..100);
            match way {
                50..75 if self.ran() => self.in_place(name, &good, pause)?,
                75..83 if self.ran() => self.rename(name, b"no component at all")?,
                83..91 if self.ran() => self.rename(name, good.get(..good.len() / 2).unwrap_or_default())?,
                91.. if self.ran() => self.rename(name, &Guest::unconfigurable().salted(salt).wasm())?,
                _ => self.rename(name, &good)?,
            }
            self.events.happened(Event::PluginReplaced);
        }
        Ok(())
    }
}

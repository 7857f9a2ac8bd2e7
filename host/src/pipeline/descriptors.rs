//! File descriptors of this process: a new stream is let in only while enough of them are left for what runs already.

use rustix::process::{Resource, getrlimit};

/// Of those that the system lets this process have, the tenth part is kept for what runs; this many at most.
const RESERVE_MAX: u64 = 256;

/// Why no stream is added now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the host may open {free} files more, and keeps {reserve} for the streams and connections that are there: raise its limit of open files (ulimit -n, LimitNOFILE), or remove streams"
)]
pub struct TooFew {
    free: u64,
    reserve: u64,
}

/// Looks how many are left. Where the system does not tell, there are enough. Blocks for as long as it takes to count them.
pub(super) fn enough() -> Result<(), TooFew> {
    let Some(limit) = getrlimit(Resource::Nofile).current else { return Ok(()) };
    let open = std::fs::read_dir("/proc/self/fd").map(|open| open.count() as u64);
    open.map_or(Ok(()), |open| enough_of(limit, open))
}

fn enough_of(limit: u64, open: u64) -> Result<(), TooFew> {
    let reserve = (limit / 10).min(RESERVE_MAX);
    let free = limit.saturating_sub(open);
    if free > reserve { Ok(()) } else { Err(TooFew { free, reserve }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserve_is_a_tenth_and_has_a_bound() {
        assert_eq!(enough_of(100, 89), Ok(()));
        assert_eq!(enough_of(100, 90), Err(TooFew { free: 10, reserve: 10 }));
        assert_eq!(enough_of(100, 200), Err(TooFew { free: 0, reserve: 10 }));
        assert_eq!(enough_of(1 << 20, (1 << 20) - 257), Ok(()));
        assert_eq!(enough_of(1 << 20, (1 << 20) - 256), Err(TooFew { free: 256, reserve: 256 }));
        assert_eq!(enough(), Ok(()));
    }
}

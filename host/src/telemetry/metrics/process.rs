//! What the process uses, as the operating system tells it.
//!
//! It reads `/proc` and refuses to guess: where there is no `/proc`, there is no answer.

use rustix::time::{ClockId, clock_gettime};

/// What `/proc/self` says.
pub(super) struct Process {
    pub(super) resident_bytes: u64,
    pub(super) threads: u64,
    pub(super) open_files: u64,
    /// Seconds since the epoch.
    pub(super) started_s: f64,
}

/// CPU time of all threads, user and system.
pub(super) fn cpu_seconds() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

pub(super) fn read() -> Option<Process> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The second field is the program's name in brackets, which may hold anything.
    let (_, fields) = stat.rsplit_once(") ")?;
    let field = |number: usize| fields.split(' ').nth(number - 3)?.parse::<u64>().ok();
    let ticks_per_second = rustix::param::clock_ticks_per_second();
    let since_boot_s = field(22)? as f64 / ticks_per_second as f64;
    Some(Process {
        resident_bytes: field(24)? * rustix::param::page_size() as u64,
        threads: field(20)?,
        // The directory that is being read is open too.
        open_files: (std::fs::read_dir("/proc/self/fd").ok()?.count() as u64).saturating_sub(1),
        started_s: booted_s()? + since_boot_s,
    })
}

/// When the machine started: the clocks' difference, as `btime` has whole seconds only.
fn booted_s() -> Option<f64> {
    let seconds = |clock| {
        let time = clock_gettime(clock);
        time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
    };
    #[cfg(target_os = "linux")]
    return Some(seconds(ClockId::Realtime) - seconds(ClockId::Boottime));
    #[cfg(not(target_os = "linux"))]
    return None;
}

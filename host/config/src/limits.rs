//! From raw keys to what one instance of a plugin may use: ranges that nothing can work outside of.

use crate::raw;
use crate::resolve::Resolver;
use crate::settings::Limits;

impl Resolver<'_> {
    pub(crate) fn limits(&mut self, key: &str, limits: &raw::Limits) -> Limits {
        // Below 1 MiB no toolchain's start-up fits; 4 GiB is what 32-bit memory can have.
        if !(1 << 20..=4 << 30).contains(&limits.memory.0) {
            self.problem(&format!("{key}.memory"), "\"memory\" must be from 1MiB to 4GiB");
        }
        if !(64 << 10..=1 << 30).contains(&limits.output.0) {
            self.problem(&format!("{key}.output"), "\"output\" must be from 64KiB to 1GiB");
        }
        if limits.log.0 > 1 << 20 {
            self.problem(&format!("{key}.log"), "\"log\" must be at most 1MiB");
        }
        for (name, deadline) in [
            ("deadline", limits.deadline),
            ("configure_deadline", limits.configure_deadline),
            ("http_deadline", limits.http_deadline),
        ] {
            if deadline.0.as_millis() < 1 || deadline.0.as_secs() > 3600 {
                self.problem(&format!("{key}.{name}"), format!("\"{name}\" must be from 1ms to 1h"));
            }
        }
        // Plugins are tried with limits that they can work with.
        let limits = if self.sound(key) { limits } else { &raw::Limits::default() };
        Limits {
            memory: limits.memory.0,
            deadline: limits.deadline.0,
            configure_deadline: limits.configure_deadline.0,
            output: limits.output.0,
            log: limits.log.0,
            http_deadline: limits.http_deadline.0,
        }
    }
}

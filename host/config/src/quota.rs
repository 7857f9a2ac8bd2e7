//! From raw keys to settings of what tenants may use.

use crate::raw;
use crate::resolve::Resolver;
use crate::settings::Quota;
use crate::units::Size;

impl Resolver<'_> {
    pub(crate) fn quota(&mut self, key: &str, quota: &raw::Quota) -> Quota {
        let mut size = |name: &str, least: u64, size: Option<Size>| {
            if size.is_some_and(|size| size.0 < least) {
                let message = format!("\"{name}\" must be at least {}", Size(least));
                self.problem(&format!("{key}.{name}"), message);
            }
            size.map(|size| size.0)
        };
        Quota {
            records_per_second: quota.records_per_second.map(u64::from),
            bytes_per_second: size("bytes_per_second", 1, quota.bytes_per_second),
            requests: quota.requests.map(u64::from),
            body_bytes: size("body_bytes", 1 << 10, quota.body_bytes),
            buffered_bytes: size("buffered_bytes", 64 << 10, quota.buffered_bytes),
            cpu_thousandths: quota.cpu.map(|cores| cores.0),
            plugin_memory: size("plugin_memory", 1 << 20, quota.plugin_memory),
            warm_memory: size("warm_memory", 0, quota.warm_memory),
            plugins: quota.plugins.map(u64::from),
            plugin_bytes: size("plugin_bytes", 1 << 10, quota.plugin_bytes),
            streams: quota.streams.map(u64::from),
            dead_letter_bytes: size("dead_letter_bytes", 64 << 10, quota.dead_letter_bytes),
            state_bytes: size("state_bytes", 4 << 10, quota.state_bytes),
            compile_seconds: quota.compile_seconds.map(u64::from),
            deliveries: quota.deliveries.map(u64::from),
        }
    }
}

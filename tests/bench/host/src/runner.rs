//! A host of this program's own: the same pipeline as `wasmill run`, with plugins of the caller's choice.
//!
//! It runs one configuration whose sources end by themselves, drains, and prints what only the inside knows as one JSON
//! object. It owns no measurement.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use wasmill::pipeline::{GivenPlugins, Host, HostOptions};
use wasmill_config::Settings;

/// Longest run, and longest drain after it.
const RUN_MAX: Duration = Duration::from_secs(600);

/// Where the plugins come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Plugins {
    /// The configuration's plugin directory.
    Wasm,
    /// The same crates, compiled into this program.
    Native,
}

/// Runs a configuration to its end.
pub(crate) fn run(config: &Path, plugins: Plugins) -> Result<Value> {
    let settings = Settings::load(config)?;
    let given = match plugins {
        Plugins::Wasm => GivenPlugins::default(),
        Plugins::Native => native(&settings)?,
    };
    let options = HostOptions { compiler: std::env::current_exe()? };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let stats = runtime.block_on(async {
        let host = Host::start_with(settings, options, given).await?;
        let ended = tokio::time::timeout(RUN_MAX, host.ended()).await;
        if ended.is_err() {
            bail!("not done after {} s; waiting: {}", RUN_MAX.as_secs(), host.waiting());
        }
        host.drain(RUN_MAX).await?;
        Ok(stats(&host))
    })?;
    runtime.shutdown_timeout(Duration::from_secs(5));
    Ok(stats)
}

fn native(settings: &Settings) -> Result<GivenPlugins> {
    let mut given = BTreeMap::new();
    for transform in settings.streams.iter().flat_map(|stream| &stream.transforms) {
        let name = &transform.plugin.name;
        let plugin =
            wasmill_tests::native::plugin(name).with_context(|| format!("no native plugin {name}"))?;
        given.insert(name.clone(), plugin);
    }
    Ok(Arc::new(given))
}

fn stats(host: &Host) -> Value {
    let journal = host.journal_stats();
    let streams = host.stats();
    let outputs = || streams.iter().flat_map(|stream| &stream.outputs);
    json!({
        "records_in": streams.iter().map(|stream| stream.records_in.get()).sum::<u64>(),
        "bytes_in": streams.iter().map(|stream| stream.bytes_in.get()).sum::<u64>(),
        "failed": streams.iter().map(|stream| stream.failed.get()).sum::<u64>(),
        "delivered": outputs().map(|output| output.delivered.get()).sum::<u64>(),
        "batches": outputs().map(|output| output.objects.get()).sum::<u64>(),
        "object_bytes": outputs().map(|output| output.bytes.get()).sum::<u64>(),
        "journal_syncs": journal.syncs,
        "journal_bytes_written": journal.bytes_written,
        "journal_groups": journal.groups,
        "destination_syncs": host.destination_syncs(),
        "commits": streams.iter().map(|stream| stream.commits.get()).sum::<u64>(),
        "slices": streams.iter().map(|stream| stream.slices.get()).sum::<u64>(),
    })
}

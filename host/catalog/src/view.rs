//! What is known, as [`PluginState`]s.

use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use wasmill_transform::Digest;

use crate::known::{Beside, Known, Name, Version};
use crate::scan::wasm_path;
use crate::shared::Shared;
use crate::state::{CatalogStats, PluginState, ProbeFailure, VersionState};

pub(crate) fn plugins(shared: &Shared) -> Vec<PluginState> {
    let directory = &shared.options.plugin_dir;
    let known = shared.known();
    let mut all = Vec::with_capacity(known.versions.len() + known.files.len());
    for (name, state) in &known.names {
        all.extend(current(&known, shared, name, state));
    }
    for (digest, version) in &known.versions {
        for name in &version.names {
            if known.names.get(name).is_none_or(|state| state.plugin.digest != *digest) {
                let state = match &version.refused {
                    Some(reason) => VersionState::Refused { reason: reason.clone() },
                    // Of a name that nobody has asked for since the start.
                    None if !known.names.contains_key(name) && known.uploaded(name) == Some(*digest) => {
                        VersionState::Current
                    }
                    None => VersionState::Kept,
                };
                all.push(of_version(name, *digest, version, shared.store.path(*digest), state));
            }
        }
    }
    for state in &mut all {
        let runs = |stream: &&String| {
            let ran = known.ran.get(*stream).and_then(|ran| ran.get(&state.name));
            ran.is_some() && ran == state.digest.as_ref()
        };
        state.streams = known.running.iter().filter(runs).cloned().collect();
        let (Some(control), Some(digest)) = (known.controls.get(&state.name), state.digest) else { continue };
        state.uploaded = control.uploaded == Some(digest);
        state.pinned = control.pinned == Some(digest);
        state.shadow = control.shadow.is_some_and(|shadow| shadow.digest == digest);
        state.live_since_ms =
            control.live.iter().find(|live| live.digest == digest).map(|live| live.since_ms);
        state.demoted =
            control.demoted.iter().filter(|demotion| demotion.digest == digest).cloned().collect();
    }
    all.extend(known.files.iter().filter_map(|(stem, file)| {
        let refused = file.refused.as_ref()?;
        Some(PluginState {
            name: file.name.clone(),
            file: wasm_path(directory, stem),
            digest: file.digest,
            version: file.version.clone(),
            bytes: file.bytes,
            state: VersionState::Refused { reason: refused.refusal.reason.clone() },
            narrowed: file.beside != Beside::Nothing,
            ..PluginState::default()
        })
    }));
    let accepted = |state: &PluginState| {
        state.digest.and_then(|digest| Some(known.versions.get(&digest)?.accepted)).unwrap_or(UNIX_EPOCH)
    };
    all.sort_by(|a, b| {
        let by_age = || accepted(b).cmp(&accepted(a));
        a.name.cmp(&b.name).then_with(|| rank(&a.state).cmp(&rank(&b.state))).then_with(by_age)
    });
    all
}

fn rank(state: &VersionState) -> u8 {
    match state {
        VersionState::Current | VersionState::Removed => 0,
        VersionState::Refused { .. } => 1,
        VersionState::Kept => 2,
    }
}

fn current(known: &Known, shared: &Shared, name: &str, state: &Name) -> Option<PluginState> {
    let digest = state.plugin.digest;
    let version = known.versions.get(&digest)?;
    let (file, is) = match &state.holder {
        Some(stem) => (wasm_path(&shared.options.plugin_dir, stem), VersionState::Current),
        None if known.uploaded(name) == Some(digest) => (shared.store.path(digest), VersionState::Current),
        None => (shared.store.path(digest), VersionState::Removed),
    };
    let (narrowed, door) = (state.sidecar.is_some(), state.plugin.door());
    Some(PluginState { narrowed, door, ..of_version(name, digest, version, file, is) })
}

fn of_version(
    name: &str,
    digest: Digest,
    version: &Version,
    file: impl AsRef<Path>,
    state: VersionState,
) -> PluginState {
    let failures = version.probe_failures.iter();
    PluginState {
        name: name.to_owned(),
        file: file.as_ref().to_owned(),
        digest: Some(digest),
        version: version.version.clone(),
        bytes: version.bytes,
        door: version.pinned.as_ref().and_then(|(plugin, _)| plugin.upgrade()?.door()),
        state,
        narrowed: version.pinned.as_ref().is_some_and(|(_, sidecar)| sidecar.is_some()),
        loaded_at_ms: version
            .loaded_at
            .and_then(|at| at.duration_since(SystemTime::UNIX_EPOCH).ok())
            .map(millis),
        compile_ms: version.compile.map(millis),
        probe_failures: failures
            .map(|(stream, reason)| ProbeFailure { stream: stream.clone(), reason: reason.clone() })
            .collect(),
        ..PluginState::default()
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

pub(crate) fn stats(shared: &Shared) -> CatalogStats {
    let known = shared.known();
    CatalogStats {
        reloads: known.reloads,
        refusals: known.refusals,
        compiles: shared.loader.compiles.load(Ordering::Relaxed),
        cache_hits: shared.loader.cache_hits.load(Ordering::Relaxed),
        current: known.names.len() as u64,
        refused: known.files.values().filter(|file| file.refused.is_some()).count() as u64,
        polling: known.polling,
    }
}

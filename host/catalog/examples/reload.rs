//! How long a catalog takes to start and to reload: `reload DIRECTORY [ROUNDS]`, where DIRECTORY holds components.
//!
//! Prints milliseconds: opening with a cold cache, opening with a warm one, and for every plugin the time from closed
//! file to found version, of which compiling.
#![expect(clippy::print_stdout, reason = "its output is what it is for")]

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use wasmill_catalog::{Catalog, CatalogOptions};
use wasmill_transform::{
    CompileLimits, Digest, Engine, EngineOptions, Manifest, compile_child_main, embed_manifest,
};

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let args: Vec<String> = std::env::args().collect();
    if args.get(1).is_some_and(|arg| arg == "compile-plugin") {
        return Ok(ExitCode::from(compile_child_main(&args[2..])));
    }
    let source = PathBuf::from(args.get(1).ok_or("usage: reload DIRECTORY [ROUNDS]")?);
    let rounds: u32 = args.get(2).map_or(Ok(5), |text| text.parse())?;
    let root = tempfile::tempdir()?;
    let plugin_dir = root.path().join("plugins");
    fs::create_dir(&plugin_dir)?;
    let mut names = Vec::new();
    for entry in fs::read_dir(&source)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "wasm")
            && let Some(name) = path.file_stem().and_then(|stem| stem.to_str())
        {
            fs::copy(&path, plugin_dir.join(format!("{name}.wasm")))?;
            names.push(name.to_owned());
        }
    }
    names.sort();
    let options = CatalogOptions {
        plugin_dir: plugin_dir.clone(),
        data_dir: root.path().join("data"),
        compiler: std::env::current_exe()?,
        compile: CompileLimits::default(),
        gate: std::sync::Arc::new(wasmill_catalog::OpenGate),
        signing: None,
    };
    let started = Instant::now();
    let engine = Engine::new(EngineOptions::default())?;
    println!("engine: {:.1}", millis(started.elapsed()));

    for (what, rounds) in [("cold", 1), ("warm", rounds.max(1))] {
        for _ in 0..rounds {
            let started = Instant::now();
            let catalog = Catalog::open(engine.clone(), options.clone())?;
            let stats = catalog.counters();
            println!("open {what}, {} plugins: {:.1}", stats.current, millis(started.elapsed()));
        }
    }
    let catalog = Catalog::open(engine, options)?;
    catalog.start_watching()?;
    for name in &names {
        reload(&catalog, &plugin_dir, name, rounds)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn reload(catalog: &Catalog, plugin_dir: &Path, name: &str, rounds: u32) -> Result<(), Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let mut changes = catalog.changes();
    let path = plugin_dir.join(format!("{name}.wasm"));
    let wasm = fs::read(&path)?;
    let (mut totals, mut compiles) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        let manifest = catalog.find(name, None)?.manifest.clone();
        let newer = Manifest { name: name.to_owned(), version: format!("99.0.{round}"), ..manifest };
        let newer = embed_manifest(&wasm, &newer)?;
        let digest = Digest::of(&newer);
        changes.mark_unchanged();
        fs::write(&path, &newer)?;
        let closed = Instant::now();
        while catalog.find(name, None)?.digest != digest {
            let change = async { tokio::time::timeout(Duration::from_secs(60), changes.changed()).await };
            runtime.block_on(change)??;
        }
        totals.push(millis(closed.elapsed()));
        let state = catalog.plugins().into_iter().find(|state| state.digest == Some(digest));
        compiles.push(state.and_then(|state| state.compile_ms).unwrap_or_default());
    }
    println!("reload {name}, {} KiB: {totals:.1?}, of which compiling {compiles:?}", wasm.len() >> 10);
    Ok(())
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

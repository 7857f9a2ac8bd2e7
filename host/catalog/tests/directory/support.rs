//! Makes plugin files, and waits for what the catalog does about them.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use wasmill_catalog::{Catalog, CatalogError, CatalogOptions, PluginState, VersionState};
use wasmill_transform::{
    CompileLimits, Digest, Engine, EngineOptions, Grants, Manifest, ManifestLimits, Plugin, embed_manifest,
};
use wit_component::StringEncoding;
use wit_parser::Resolve;

const WIT: &str = include_str!("../../../../wit/plugin.wit");
pub(crate) const COMPILER: &str = env!("CARGO_BIN_EXE_catalog-compile-child");
/// Long: the machine may be busy. Nothing waits this long unless it fails.
const PATIENCE: Duration = Duration::from_secs(60);

static ENGINE: LazyLock<Engine> =
    LazyLock::new(|| Engine::new(EngineOptions { instances_max: 10, ..EngineOptions::default() }).unwrap());

static CORE: LazyLock<Vec<u8>> = LazyLock::new(|| core("", ""));

/// A core module with component metadata that passes every record.
pub(crate) fn core(wit_import: &str, wasm_import: &str) -> Vec<u8> {
    let text = format!(
        r#"(module
          (import "wasmill:plugin/records@0.1.3" "[resource-drop]chunk" (func $drop (param i32)))
          {wasm_import}
          (memory (export "memory") 1)
          (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024))
          (func (export "wasmill:plugin/transform@0.1.3#configure") (param i32 i32) (result i32)
            (i32.store (i32.const 16) (i32.const 0)) (i32.const 16))
          (func (export "wasmill:plugin/transform@0.1.3#process") (param i32) (result i32)
            (call $drop (local.get 0)) (i32.store (i32.const 16) (i32.const 0)) (i32.const 16)))"#
    );
    let mut module = wat::parse_str(&text).unwrap();
    let mut resolve = Resolve::default();
    resolve.push_str("plugin.wit", WIT).unwrap();
    if !wit_import.is_empty() {
        let package = "package wasi:http@0.2.12;\ninterface client { fetch: func() -> u32; }";
        resolve.push_str("http.wit", package).unwrap();
    }
    let world = format!(
        "package test:guest;\nworld guest {{ include wasmill:plugin/transformer@0.1.3; {wit_import} }}"
    );
    let package = resolve.push_str("guest.wit", &world).unwrap();
    let world = resolve.select_world(&[package], Some("guest")).unwrap();
    wit_component::embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).unwrap();
    module
}

pub(crate) fn manifest(name: &str, version: &str) -> Manifest {
    Manifest {
        name: name.to_owned(),
        version: version.to_owned(),
        grants: Grants {
            files: vec!["table".to_owned()],
            secrets: vec!["key".to_owned()],
            ..Grants::default()
        },
        limits: ManifestLimits { memory_bytes: Some(64 << 20), ..ManifestLimits::default() },
        ..Manifest::default()
    }
}

/// A plugin file; every version has other bytes.
pub(crate) fn plugin(name: &str, version: &str) -> Vec<u8> {
    embed_manifest(&CORE, &manifest(name, version)).unwrap()
}

/// A plugin file without manifest.
pub(crate) fn nameless() -> Vec<u8> {
    CORE.clone()
}

/// A plugin directory, a data directory, and at times a catalog over them.
pub(crate) struct Bench {
    root: tempfile::TempDir,
    pub(crate) options: CatalogOptions,
}

impl Bench {
    pub(crate) fn new(files: &[(&str, &[u8])]) -> Bench {
        let root = tempfile::tempdir().unwrap();
        let options = CatalogOptions {
            plugin_dir: root.path().join("plugins"),
            data_dir: root.path().join("data"),
            compiler: PathBuf::from(COMPILER),
            compile: CompileLimits { wasm_bytes: 4 << 20, ..CompileLimits::default() },
            gate: std::sync::Arc::new(wasmill_catalog::OpenGate),
            signing: None,
        };
        fs::create_dir(&options.plugin_dir).unwrap();
        let bench = Bench { root, options };
        files.iter().for_each(|(name, bytes)| bench.write(name, bytes));
        bench
    }

    /// Below the plugin directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.options.plugin_dir.join(name)
    }

    /// Beside the plugin directory, in the same file system.
    pub(crate) fn beside(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, bytes: &[u8]) {
        fs::write(self.path(name), bytes).unwrap();
    }

    /// Writes beside and renames, as careful people do.
    pub(crate) fn replace(&self, name: &str, bytes: &[u8]) {
        let staged = self.path(&format!(".{name}.new"));
        fs::write(&staged, bytes).unwrap();
        fs::rename(&staged, self.path(name)).unwrap();
    }

    pub(crate) fn try_open(&self) -> Result<Catalog, CatalogError> {
        Catalog::open(ENGINE.clone(), self.options.clone())
    }

    pub(crate) fn open(&self) -> Catalog {
        self.try_open().unwrap()
    }

    pub(crate) fn open_for(&self, wanted: &[(String, Option<Digest>)]) -> Catalog {
        Catalog::open_for(ENGINE.clone(), self.options.clone(), wanted).unwrap()
    }

    pub(crate) fn watching(&self) -> Catalog {
        let catalog = self.open();
        catalog.start_watching().unwrap();
        catalog
    }

    /// Compiled code and kept copies.
    pub(crate) fn stored(&self, below: &str, extension: &str) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.options.data_dir.join(below)).unwrap();
        let paths = entries.map(|entry| entry.unwrap().path());
        paths.filter(|path| path.extension().is_some_and(|found| found == extension)).collect()
    }
}

/// Waits until `done` gives something; looks whenever the catalog says that something changed, and now and then.
pub(crate) fn wait<T>(catalog: &Catalog, what: &str, mut done: impl FnMut(&Catalog) -> Option<T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let mut changes = catalog.changes();
    let started = Instant::now();
    loop {
        changes.mark_unchanged();
        if let Some(got) = done(catalog) {
            return got;
        }
        assert!(started.elapsed() < PATIENCE, "{what} never happened: {:#?}", catalog.plugins());
        let news = async { tokio::time::timeout(Duration::from_millis(100), changes.changed()).await };
        assert!(!matches!(runtime.block_on(news), Ok(Err(_))), "the catalog has ended");
    }
}

pub(crate) fn wait_for_digest(catalog: &Catalog, name: &str, wasm: &[u8]) -> Arc<Plugin> {
    let digest = Digest::of(wasm);
    wait(catalog, &format!("{name} is {digest}"), |catalog| {
        catalog.find(name, None).ok().filter(|plugin| plugin.digest == digest)
    })
}

/// Lets everything that happened so far take effect: a new file, written later, is loaded.
pub(crate) fn let_pass(bench: &Bench, catalog: &Catalog, marker: &str) {
    let wasm = plugin(marker, "0.0.1");
    bench.replace(&format!("{marker}.wasm"), &wasm);
    wait_for_digest(catalog, marker, &wasm);
}

/// The reason why a file is refused.
pub(crate) fn refusal(catalog: &Catalog, file: &Path) -> Option<String> {
    catalog.plugins().into_iter().filter(|state| state.file == file).find_map(|state| match state.state {
        VersionState::Refused { reason } => Some(reason),
        _ => None,
    })
}

pub(crate) fn wait_for_refusal(catalog: &Catalog, file: &Path) -> String {
    wait(catalog, &format!("{} is refused", file.display()), |catalog| refusal(catalog, file))
}

pub(crate) fn state(catalog: &Catalog, digest: Digest) -> PluginState {
    catalog.plugins().into_iter().find(|state| state.digest == Some(digest)).unwrap()
}

/// A file that somebody goes on writing to.
pub(crate) fn opened(path: &Path) -> File {
    File::create(path).unwrap()
}

//! The demo's directory: configuration, a copy of the plugins that can be replaced, and what comes out.
//!
//! It refuses to touch a directory that is not its own: one that is not empty must begin with the demo's configuration.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use wasmill_config::Settings;
use wasmill_transform::{Digest, Manifest, embed_manifest, read_manifest};

/// The configuration, as `--print-config` shows it.
pub(super) const CONFIG: &str = include_str!("config.toml");
/// The stream of that configuration.
pub(super) const STREAM: &str = "access";
/// The plugins of that configuration, in the order of the stream.
const PLUGINS: [&str; 4] = ["parse", "filter", "enrich", "features"];
/// The plugin that is replaced while the stream runs.
const REPLACED: &str = "filter";
/// What the replacement's version has behind its own.
const VERSION_SUFFIX: &str = "+reloaded";
/// Everything that a demo puts into its directory.
const ENTRIES: [&str; 5] = ["data", "plugins", "out", "dead-letters.ndjson", "wasmill.toml"];

/// A directory that is ready for a host.
pub(super) struct Stage {
    pub(super) dir: PathBuf,
}

/// A plugin file that takes the place of another.
pub(super) struct Replacement {
    pub(super) plugin: &'static str,
    pub(super) from: String,
    pub(super) to: String,
    pub(super) digest: Digest,
    bytes: Vec<u8>,
    file: PathBuf,
}

impl Stage {
    /// Makes the directory, or takes over that of an earlier demo, and copies the plugins into it.
    pub(super) fn set(dir: &Path, plugins: Option<&Path>) -> Result<Stage> {
        let source = plugin_source(plugins)?;
        clear(dir)?;
        let live = dir.join("plugins");
        std::fs::create_dir_all(&live).with_context(|| format!("make {}", live.display()))?;
        for plugin in PLUGINS {
            let file = format!("{plugin}.wasm");
            std::fs::copy(source.join(&file), live.join(&file))
                .with_context(|| format!("copy {file} from {} to {}", source.display(), live.display()))?;
        }
        let config = dir.join("wasmill.toml");
        std::fs::write(&config, CONFIG).with_context(|| format!("write {}", config.display()))?;
        Ok(Stage { dir: dir.to_owned() })
    }

    pub(super) fn settings(&self) -> Result<Settings> {
        Settings::load(&self.dir.join("wasmill.toml")).context("load the demo's own configuration")
    }

    /// Where the objects are.
    pub(super) fn out(&self) -> PathBuf {
        self.dir.join("out")
    }

    /// The host's file of dead letters; there is none as long as there are no letters.
    pub(super) fn dead_letters(&self) -> PathBuf {
        self.dir.join("data/dead-letters/default").join(STREAM).join("letters.ndjson")
    }

    /// The same plugin with another version in its manifest: another file, another digest, a real reload.
    pub(super) fn replacement(&self) -> Result<Replacement> {
        let file = self.dir.join("plugins").join(format!("{REPLACED}.wasm"));
        let wasm = std::fs::read(&file).with_context(|| format!("read {}", file.display()))?;
        let named = |found: Option<Manifest>| {
            found.unwrap_or_else(|| Manifest { name: REPLACED.to_owned(), ..Manifest::default() })
        };
        let manifest = named(read_manifest(&wasm).context("read the plugin's manifest")?);
        let from = manifest.version.clone();
        let to = format!("{from}{VERSION_SUFFIX}");
        let bytes = embed_manifest(&wasm, &Manifest { version: to.clone(), ..manifest })
            .context("write another version into the plugin's manifest")?;
        Ok(Replacement { plugin: REPLACED, from, to, digest: Digest::of(&bytes), bytes, file })
    }

    /// Leaves what people look at: objects, dead letters if there are any, configuration.
    pub(super) fn tidy(&self, has_letters: bool) -> Result<()> {
        let letters = self.dead_letters();
        if has_letters {
            let kept = self.dir.join("dead-letters.ndjson");
            std::fs::rename(&letters, &kept)
                .with_context(|| format!("move the dead letters to {}", kept.display()))?;
        }
        for entry in ["data", "plugins"] {
            remove(&self.dir.join(entry))?;
        }
        Ok(())
    }
}

impl Replacement {
    /// Puts the file into the live directory, whole or not at all: written beside its place, then renamed.
    pub(super) fn put(&self) -> Result<()> {
        let staged = self.file.with_extension("wasm.new");
        std::fs::write(&staged, &self.bytes).with_context(|| format!("write {}", staged.display()))?;
        std::fs::rename(&staged, &self.file).with_context(|| format!("rename to {}", self.file.display()))
    }
}

/// The directory that has the demo's plugins: the one that was asked for, else one beside this program.
fn plugin_source(asked: Option<&Path>) -> Result<PathBuf> {
    let mut candidates = Vec::new();
    if let Some(asked) = asked {
        candidates.push(asked.to_owned());
    } else {
        let program = std::env::current_exe().context("find the path of this program")?;
        let beside = program.parent().unwrap_or(Path::new("."));
        candidates.extend([beside.join("plugins"), beside.join("../plugins"), PathBuf::from("plugins")]);
    }
    let missing = |dir: &Path| PLUGINS.iter().find(|plugin| !dir.join(format!("{plugin}.wasm")).is_file());
    let mut searched = Vec::new();
    for dir in candidates {
        match missing(&dir) {
            None => return Ok(dir),
            Some(plugin) => searched.push(format!("no {plugin}.wasm in {}", dir.display())),
        }
    }
    bail!(
        "the demo needs the plugins {}: {}; build them with `cargo xtask plugins`, or name their directory with \
         --plugins DIR",
        PLUGINS.join(", "),
        searched.join(", ")
    )
}

/// Empties the directory of an earlier demo.
fn clear(dir: &Path) -> Result<()> {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).with_context(|| format!("read {}", dir.display())),
    };
    let mut foreign = Vec::new();
    for entry in entries {
        let name = entry.with_context(|| format!("read {}", dir.display()))?.file_name();
        let name = name.to_string_lossy().into_owned();
        if !ENTRIES.contains(&name.as_str()) {
            foreign.push(name);
        }
    }
    let first_line = |text: &str| text.lines().next().map(str::to_owned);
    let config = std::fs::read_to_string(dir.join("wasmill.toml")).unwrap_or_default();
    let is_empty = std::fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_none());
    if !is_empty && (first_line(&config) != first_line(CONFIG) || !foreign.is_empty()) {
        bail!(
            "{} holds something else than an earlier demo; name another directory with --dir DIR",
            dir.display()
        );
    }
    // The configuration is the mark of a demo, so it goes last.
    ENTRIES.iter().try_for_each(|entry| remove(&dir.join(entry)))
}

fn remove(path: &Path) -> Result<()> {
    let removed = match std::fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => std::fs::remove_dir_all(path),
        Ok(_) => std::fs::remove_file(path),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    };
    removed.with_context(|| format!("remove {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The smallest file with a place for a manifest.
    const MODULE: &[u8] = b"\0asm\x01\0\0\0";

    fn plugins() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for plugin in PLUGINS {
            let manifest =
                Manifest { name: plugin.to_owned(), version: "0.1.0".to_owned(), ..Manifest::default() };
            std::fs::write(
                dir.path().join(format!("{plugin}.wasm")),
                embed_manifest(MODULE, &manifest).unwrap(),
            )
            .unwrap();
        }
        dir
    }

    #[test]
    fn config_is_valid_and_has_the_plugins_that_are_copied() {
        let settings = Settings::from_toml(CONFIG, Path::new("wasmill.toml")).unwrap();
        let [stream] = settings.streams.as_slice() else { panic!("one stream") };
        assert_eq!(stream.name, STREAM);
        let plugins: Vec<&str> =
            stream.transforms.iter().map(|transform| transform.plugin.name.as_str()).collect();
        assert_eq!(plugins, PLUGINS);
    }

    #[test]
    fn stage_of_an_earlier_demo_is_taken_over_and_a_foreign_directory_is_not() {
        let (plugins, dir) = (plugins(), tempfile::tempdir().unwrap());
        let stage = Stage::set(dir.path(), Some(plugins.path())).unwrap();
        std::fs::create_dir_all(stage.out()).unwrap();
        std::fs::write(stage.out().join("old.ndjson.zst"), "").unwrap();
        let again = Stage::set(dir.path(), Some(plugins.path())).unwrap();
        assert!(!again.out().exists());

        std::fs::write(dir.path().join("thesis.tex"), "years of work").unwrap();
        let error = Stage::set(dir.path(), Some(plugins.path())).err().unwrap();
        assert!(error.to_string().contains("--dir DIR"), "{error:#}");
        assert!(dir.path().join("thesis.tex").exists() && dir.path().join("wasmill.toml").exists());

        let foreign = tempfile::tempdir().unwrap();
        std::fs::write(foreign.path().join("wasmill.toml"), "data_dir = \"mine\"\n").unwrap();
        assert!(Stage::set(foreign.path(), Some(plugins.path())).is_err());
    }

    #[test]
    fn replacement_has_another_version_and_digest() {
        let (plugins, dir) = (plugins(), tempfile::tempdir().unwrap());
        let stage = Stage::set(dir.path(), Some(plugins.path())).unwrap();
        let replacement = stage.replacement().unwrap();
        assert_eq!((replacement.from.as_str(), replacement.to.as_str()), ("0.1.0", "0.1.0+reloaded"));
        replacement.put().unwrap();
        let live = std::fs::read(dir.path().join("plugins/filter.wasm")).unwrap();
        assert_eq!(Digest::of(&live), replacement.digest);
        assert_eq!(read_manifest(&live).unwrap().unwrap().version, "0.1.0+reloaded");
        assert_ne!(live, std::fs::read(plugins.path().join("filter.wasm")).unwrap());
    }

    #[test]
    fn stage_that_is_tidied_keeps_objects_dead_letters_and_configuration() {
        let (plugins, dir) = (plugins(), tempfile::tempdir().unwrap());
        let stage = Stage::set(dir.path(), Some(plugins.path())).unwrap();
        std::fs::create_dir_all(stage.out()).unwrap();
        std::fs::create_dir_all(stage.dead_letters().parent().unwrap()).unwrap();
        std::fs::write(stage.dead_letters(), "{}\n").unwrap();
        stage.tidy(true).unwrap();
        let mut left: Vec<String> = std::fs::read_dir(dir.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        assert_eq!(left, ["dead-letters.ndjson", "out", "wasmill.toml"]);
    }

    #[test]
    fn plugins_that_are_missing_are_named_with_the_directory() {
        let (empty, dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let error = Stage::set(dir.path(), Some(empty.path())).err().unwrap().to_string();
        assert!(
            error.contains("parse.wasm") && error.contains(&empty.path().display().to_string()),
            "{error}"
        );
    }
}

//! Where the bench works: its directory, its input, its configurations.
//!
//! Every measurement gets a directory of its own with fresh data, so that no run sees what another left. Only compiled
//! plugins are carried over, because a host that restarts has them too.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use wasmill_access_log::{AccessLog, DEFAULT_SEED};

use crate::child::Program;

/// Lines of the generated log that is repeated; what the real one has.
const GENERATED_LINES: usize = 10_000;

/// The access-log job.
pub(crate) const JOB: &str = r#"
[[streams.access.transforms]]
plugin = "parse"
config = { format = "combined" }
[[streams.access.transforms]]
plugin = "filter"
config = { drop = 'path =~ "^/images/"' }
[[streams.access.transforms]]
plugin = "derive"
config = { set = 'class = if agent ~ "bot|spider" then "bot" else "human"' }
"#;

/// Plugins of [`JOB`].
pub(crate) const JOB_PLUGINS: [&str; 3] = ["parse", "filter", "derive"];

/// What all measurements share.
#[derive(Debug)]
pub(crate) struct Scene {
    /// Everything is written below it.
    pub(crate) dir: PathBuf,
    /// The product.
    pub(crate) product: Program,
    /// This program, whose plugins are native.
    pub(crate) native: Program,
    /// This program with plugins in Wasm, which tells what only the inside knows.
    pub(crate) inside: Program,
    pub(crate) plugins: PathBuf,
    /// Components that only tests and measurements use.
    pub(crate) guests: PathBuf,
    pub(crate) log: Log,
    pub(crate) runs: usize,
    pub(crate) quick: bool,
    /// How many there are where there are many.
    pub(crate) tenants: usize,
    /// What was asked for by name, such as `latency` or `neighbours.cpu_burner`; everything usual if nothing was.
    pub(crate) only: Vec<String>,
}

/// An access log as it is repeated to make a large one.
#[derive(Debug)]
pub(crate) struct Log {
    pub(crate) text: Vec<u8>,
    /// What must come out of one copy: kept records and, of these, bots. Known for the real log only.
    pub(crate) expected: Option<(u64, u64)>,
}

impl Log {
    /// The real log.
    pub(crate) fn read(path: &Path) -> Result<Log> {
        let text = fs::read(path).with_context(|| format!("read {}", path.display()))?;
        ensure!(text.ends_with(b"\n"), "{} does not end with a line feed", path.display());
        Ok(Log { text, expected: Some((8_757, 1_250)) })
    }

    pub(crate) fn generate() -> Log {
        let mut log = AccessLog::new(DEFAULT_SEED);
        let mut text = Vec::new();
        (0..GENERATED_LINES).for_each(|_| log.append_line(&mut text));
        Log { text, expected: None }
    }

    pub(crate) fn lines(&self) -> impl Iterator<Item = &[u8]> {
        self.text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty())
    }
}

/// A large input file.
#[derive(Debug)]
pub(crate) struct Input {
    pub(crate) path: PathBuf,
    pub(crate) bytes: u64,
    pub(crate) copies: u64,
}

impl Scene {
    /// Makes the log of at least `megabytes`.
    pub(crate) fn input(&self, megabytes: u64) -> Result<Input> {
        let size = self.log.text.len() as u64;
        let copies = (megabytes * 1_000_000).div_ceil(size);
        let path = self.dir.join("access.log");
        let mut file = BufWriter::new(File::create(&path)?);
        for _ in 0..copies {
            file.write_all(&self.log.text)?;
        }
        file.into_inner()?.sync_all()?;
        Ok(Input { path, bytes: copies * size, copies })
    }

    /// An empty directory of this name.
    pub(crate) fn place(&self, name: &str) -> Result<Place> {
        let dir = self.dir.join(name);
        remove(&dir)?;
        fs::create_dir_all(dir.join("data"))?;
        settle();
        Ok(Place { dir })
    }

    /// The head of every configuration.
    pub(crate) fn head(&self, port: Option<u16>, plugins: &Path) -> String {
        let listen = port.map_or("off".to_owned(), |port| format!("127.0.0.1:{port}"));
        format!(
            "plugin_dir = {:?}\ndata_dir = \"data\"\n[http]\nlisten = {listen:?}\n",
            plugins.display().to_string()
        )
    }
}

/// What was written before is on the disk when something is measured, and is no part of it.
fn settle() {
    rustix::fs::sync();
}

/// A directory with a configuration, data and output.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) dir: PathBuf,
}

impl Place {
    pub(crate) fn config(&self, text: &str) -> Result<PathBuf> {
        let path = self.dir.join("wasmill.toml");
        fs::write(&path, text)?;
        Ok(path)
    }

    /// A directory with these plugins and no others: what else lies in one is compiled behind, and takes its time.
    pub(crate) fn plugins(&self, scene: &Scene, names: &[&str]) -> Result<PathBuf> {
        let plugins = self.dir.join("plugins");
        fs::create_dir_all(&plugins)?;
        for name in names {
            let file = format!("{name}.wasm");
            fs::copy(scene.plugins.join(&file), plugins.join(&file))
                .with_context(|| format!("copy {file}"))?;
        }
        Ok(plugins)
    }

    pub(crate) fn out(&self) -> PathBuf {
        self.dir.join("out")
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.dir.join("log")
    }

    /// Forgets data and output, but for compiled plugins.
    pub(crate) fn renew(&self) -> Result<()> {
        remove(&self.out())?;
        for entry in fs::read_dir(self.dir.join("data"))? {
            let path = entry?.path();
            let plugins = path.file_name().is_some_and(|name| name == "plugins" || name == "code");
            match path.is_dir() {
                true if !plugins => fs::remove_dir_all(path)?,
                true => {}
                false => fs::remove_file(path)?,
            }
        }
        settle();
        Ok(())
    }

    /// Objects below the output directory, in the order of their names.
    pub(crate) fn objects(&self) -> Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        let mut directories = vec![self.out()];
        while let Some(dir) = directories.pop() {
            for entry in fs::read_dir(&dir).with_context(|| format!("read {}", dir.display()))? {
                let path = entry?.path();
                if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.')) {
                    continue;
                }
                if path.is_dir() { directories.push(path) } else { found.push(path) }
            }
        }
        found.sort();
        Ok(found)
    }
}

fn remove(dir: &Path) -> Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("remove {}", dir.display()))
        }
        _ => Ok(()),
    }
}

//! JavaScript and TypeScript: one module by esbuild of what the author and the SDK wrote, then a component by the package
//! that holds the engine. The tools run on the Node that is there; they are fetched from npm into a cache of the user's.
//!
//! TypeScript is JavaScript whose types are checked first; both have one SDK.

mod npm;
mod quickjs;
mod source_map;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use include_dir::{Dir, include_dir};
use serde_json::Value;

use crate::language::{Need, Template};
use crate::project::{BuildOptions, Project};
use crate::scaffold::vendor;
use crate::{WIT, process};
pub use npm::NpmPackages;
use npm::{ESBUILD, QUICKJS, STARLINGMONKEY, TYPESCRIPT};

static TEMPLATE: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../../plugins/sdk/javascript/template");
static TYPESCRIPT_TEMPLATE: Dir<'_> =
    include_dir!("$CARGO_MANIFEST_DIR/../../plugins/sdk/typescript/template");
static SDK: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../../plugins/sdk/javascript/src");

/// Where the SDK lies in a project.
const SDK_DIR: &str = "vendor/wasmill";
/// Stands in the entry for the table of lines, which is not known before the bundle is.
const PLACES: &str = "@wasmill-places@";

/// Async functions as functions over promises, for an engine that runs no jobs while a call lasts: the SDK's promises take
/// the place of its own (`promise.js`).
const OVER_PROMISES: [&str; 3] =
    ["--supported:async-await=false", "--supported:async-generator=false", "--supported:for-await=false"];

pub(crate) fn needs() -> Vec<Need> {
    vec![
        Need { what: "node", found: npm::node().ok(), how: npm::how_to_get_node(), installs: false },
        need("esbuild", &ESBUILD),
        need("componentize-js, for the engine StarlingMonkey", &STARLINGMONKEY),
        need("componentize-qjs, for the engine QuickJS", &QUICKJS),
    ]
}

pub(crate) fn typescript_needs() -> Vec<Need> {
    let mut needs = needs();
    needs.push(need("typescript", &TYPESCRIPT));
    needs
}

fn need(what: &'static str, tool: &npm::Tool) -> Need {
    let found = tool.present(None).ok().flatten().map(|file| file.display().to_string());
    Need { what, found, how: tool.how(), installs: true }
}

pub(crate) fn template() -> Template {
    Template { files: &TEMPLATE, vendored: sdk() }
}

pub(crate) fn typescript_template() -> Template {
    Template { files: &TYPESCRIPT_TEMPLATE, vendored: sdk() }
}

fn sdk() -> Vec<(String, String)> {
    let mut vendored = Vec::new();
    vendor(&SDK, SDK_DIR, &mut vendored);
    vendored
}

/// What the project's `package.json` says.
struct Package {
    /// The plugin's module.
    main: PathBuf,
    engine: Engine,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Engine {
    /// Fast, large.
    StarlingMonkey,
    /// Small, soon loaded, slower.
    QuickJs,
}

impl Package {
    fn read(dir: &Path) -> Result<Package> {
        let file = dir.join("package.json");
        let text = std::fs::read(&file).with_context(|| format!("read {}", file.display()))?;
        let package: Value =
            serde_json::from_slice(&text).with_context(|| format!("{}: not JSON", file.display()))?;
        let Some(main) = package["main"].as_str() else {
            bail!("{}: no \"main\", which names the plugin's module", file.display());
        };
        let engine = Engine::of(&package["wasmill"]["engine"]).with_context(|| file.display().to_string())?;
        let main = dir.join(main);
        if !main.is_file() {
            bail!("{}: \"main\" is {}, which is no file", file.display(), main.display());
        }
        Ok(Package { main, engine })
    }
}

impl Engine {
    fn of(named: &Value) -> Result<Engine> {
        match named {
            Value::Null => Ok(Engine::StarlingMonkey),
            Value::String(name) if name == "starlingmonkey" => Ok(Engine::StarlingMonkey),
            Value::String(name) if name == "quickjs" => Ok(Engine::QuickJs),
            other => {
                bail!("\"wasmill\": {{\"engine\": {other}}}: there are \"starlingmonkey\" and \"quickjs\"")
            }
        }
    }
}

pub(crate) fn build(project: &Project, options: &BuildOptions) -> Result<Vec<u8>> {
    npm::node()?;
    let package = Package::read(&project.dir)?;
    let work = project.work(options);
    std::fs::create_dir_all(work.join("wit")).with_context(|| format!("create {}", work.display()))?;
    write(&work.join("wit/plugin.wit"), WIT)?;
    bundle(project, &package, &work, options.install)?;
    let built = work.join("plugin.wasm");
    let read = || std::fs::read(&built).with_context(|| format!("read {}", built.display()));
    match package.engine {
        Engine::StarlingMonkey => {
            starlingmonkey(project, &work, options.install)?;
            read()
        }
        Engine::QuickJs => {
            quickjs(project, &work, options.install)?;
            quickjs::complete(&read()?)
        }
    }
}

/// The same for a project in TypeScript, whose types must be right.
pub(crate) fn build_typescript(project: &Project, options: &BuildOptions) -> Result<Vec<u8>> {
    npm::node()?;
    let mut tsc = TYPESCRIPT.command(&project.dir, options.install)?;
    tsc.args(["--noEmit", "--pretty", "false", "--project", "."]).current_dir(&project.dir);
    process::run_tool(&mut tsc).context("check the types")?;
    build(project, options)
}

/// Writes `plugin.js`: one module that imports nothing but the host.
fn bundle(project: &Project, package: &Package, work: &Path, install: bool) -> Result<()> {
    let guest = project.dir.join(SDK_DIR).join("guest.js");
    if !guest.is_file() {
        bail!("{} is missing: it is part of the SDK, which `wasmill plugin new` writes", guest.display());
    }
    let entry = work.join("entry.js");
    write(&entry, &entry_of(&package.main, &guest))?;
    let mut esbuild = ESBUILD.command(&project.dir, install)?;
    if package.engine == Engine::QuickJs {
        esbuild.args(OVER_PROMISES);
    }
    esbuild.arg(&entry).args([
        "--bundle",
        "--format=esm",
        "--platform=neutral",
        "--main-fields=module,main",
        "--target=es2023",
        "--external:wasmill:*",
        "--sourcemap=external",
        "--sources-content=false",
        "--log-level=warning",
        "--outfile=plugin.js",
    ]);
    process::run_tool(esbuild.current_dir(work)).context("bundle the plugin")?;
    let file = work.join("plugin.js");
    let text = std::fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
    let map_file = work.join("plugin.js.map");
    let map = std::fs::read_to_string(&map_file).with_context(|| format!("read {}", map_file.display()))?;
    let places = source_map::table(&map, |source| authors(&project.dir, work, source))?;
    // The place stands in a string, so the table does as well.
    let table = places.to_string().replace('\\', "\\\\").replace('"', "\\\"");
    write(&file, &text.replacen(PLACES, &table, 1))
}

/// The name of a source as its author knows it; `None` for the SDK and for what a build writes.
fn authors(project: &Path, work: &Path, source: &str) -> Option<String> {
    let path = normal(&work.join(source));
    let name = path.strip_prefix(normal(project)).ok()?;
    let foreign = path.starts_with(normal(work)) || name.starts_with(SDK_DIR);
    (!foreign).then(|| name.to_string_lossy().replace('\\', "/"))
}

/// Without `.` and `..`.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for part in path.components() {
        match part {
            std::path::Component::ParentDir => {
                normal.pop();
            }
            std::path::Component::CurDir => {}
            other => normal.push(other),
        }
    }
    normal
}

/// The module that exports what the world asks for.
fn entry_of(main: &Path, guest: &Path) -> String {
    let name = |path: &Path| Value::from(path.to_string_lossy()).to_string();
    format!(
        "import * as records from \"wasmill:plugin/records@0.1.3\";
import * as setup from \"wasmill:plugin/setup@0.1.3\";
import * as log from \"wasmill:plugin/log@0.1.3\";
import plugin from {};
import {{ guest }} from {};

export const transform = guest(plugin, {{ records, setup, log }}, \"{PLACES}\");
",
        name(main),
        name(guest)
    )
}

/// Clocks, randomness and output stay: the host gives those of its own.
fn starlingmonkey(project: &Project, work: &Path, install: bool) -> Result<()> {
    let mut command = STARLINGMONKEY.command(&project.dir, install)?;
    command.args(["plugin.js", "--wit", "wit", "--world-name", "transformer"]);
    command.args(["--disable", "http", "--disable", "fetch-event", "--out", "plugin.wasm"]);
    process::run_tool(command.current_dir(work)).context("make a component of the plugin")
}

/// Without the asynchronous calls of the component model, which hosts of plugins do not have.
fn quickjs(project: &Project, work: &Path, install: bool) -> Result<()> {
    let mut command = QUICKJS.command(&project.dir, install)?;
    command.args(["--sync", "--wit", "wit", "--world", "transformer"]);
    command.args(["--js", "plugin.js", "--output", "plugin.wasm"]);
    process::run_tool(command.current_dir(work)).context("make a component of the plugin")
}

fn write(file: &Path, text: &str) -> Result<()> {
    std::fs::write(file, text).with_context(|| format!("write {}", file.display()))
}

pub(crate) fn unit_tests(dir: &Path) -> Vec<Command> {
    let mut command = Command::new("node");
    // No directory behind it: Node 20 looks into one, Node 22 takes it for a module.
    command.arg("--test").current_dir(dir);
    vec![command]
}

pub(crate) fn typescript_unit_tests(dir: &Path) -> Vec<Command> {
    let mut command = Command::new("node");
    command.args(["vendor/wasmill/testing/typescript.js", "test"]).current_dir(dir);
    vec![command]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn engines_that_do_not_exist_are_refused_with_those_that_do() {
        assert_eq!(Engine::of(&Value::Null).unwrap(), Engine::StarlingMonkey);
        assert_eq!(Engine::of(&Value::from("starlingmonkey")).unwrap(), Engine::StarlingMonkey);
        assert_eq!(Engine::of(&Value::from("quickjs")).unwrap(), Engine::QuickJs);
        let refusal = Engine::of(&Value::from("v8")).unwrap_err().to_string();
        assert!(refusal.contains("\"v8\"") && refusal.contains("\"quickjs\""), "{refusal}");
    }

    #[test]
    fn main_that_is_no_file_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let refusal = |text: &str| {
            std::fs::write(dir.path().join("package.json"), text).unwrap();
            Package::read(dir.path()).map(|_| ()).unwrap_err().to_string()
        };
        assert!(refusal("{}").contains("\"main\""));
        assert!(refusal(r#"{"main":"src/none.js"}"#).contains("src/none.js"));
    }

    #[test]
    fn only_sources_of_the_author_are_named() {
        let named = |source: &str| authors(Path::new("/p"), Path::new("/p/build"), source);
        assert_eq!(named("../src/plugin.js").as_deref(), Some("src/plugin.js"));
        assert_eq!(named("../node_modules/x/index.js").as_deref(), Some("node_modules/x/index.js"));
        assert_eq!(named("../vendor/wasmill/guest.js"), None);
        assert_eq!(named("entry.js"), None);
        assert_eq!(named("../../elsewhere.js"), None);
    }

    #[test]
    fn sdk_passes_its_own_tests_and_new_projects_theirs() {
        if npm::node().is_err() {
            assert!(std::env::var_os("CI").is_none(), "{}", npm::node().unwrap_err());
            return;
        }
        let sdk = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../plugins/sdk/javascript");
        let mut tests: Vec<_> =
            std::fs::read_dir(sdk.join("tests")).unwrap().map(|entry| entry.unwrap().path()).collect();
        tests.sort();
        let output = Command::new("node").arg("--test").args(tests).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        for language in [crate::Language::JavaScript, crate::Language::TypeScript] {
            let dir = tempfile::tempdir().unwrap();
            let project = dir.path().join("greet");
            crate::create(language, "greet", &project).unwrap();
            for mut tests in language.unit_tests(&project).unwrap() {
                let output = tests.output().unwrap();
                let [out, err] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
                // An older Node reads TypeScript by what a build has fetched.
                if language == crate::Language::TypeScript && err.contains("there is no esbuild") {
                    eprintln!("skipped: {err}");
                    continue;
                }
                assert!(output.status.success() && out.contains("pass 3"), "{out}{err}");
            }
        }
    }
}

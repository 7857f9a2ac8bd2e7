//! A node of OpenSearch for tests: its archives from Maven Central, and the program that starts it, compiled.
//!
//! It runs nothing: a test that wants it does.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use wasmill_author::{installed_tool, process};

const POM: &str = include_str!("../../tests/clients/opensearch/pom.xml");
const STARTER: &str = include_str!("../../tests/clients/opensearch/Cluster.java");
/// Goal that puts archives into a directory.
const COPY: &str = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies";

/// Where `lib` and `classes` of it are, installed if they are not there.
pub(crate) fn installed() -> Result<PathBuf> {
    let mut hash = DefaultHasher::new();
    (POM, STARTER).hash(&mut hash);
    installed_tool("opensearch", &format!("{:016x}", hash.finish()), |dir| {
        for tool in ["mvn", "javac"] {
            if process::on_path(tool).is_none() {
                bail!("there is no {tool} on PATH; OpenSearch needs Maven and a JDK from 11 to 21");
            }
        }
        let (pom, starter) = (dir.join("pom.xml"), dir.join("Cluster.java"));
        std::fs::write(&pom, POM).with_context(|| format!("write {}", pom.display()))?;
        std::fs::write(&starter, STARTER).with_context(|| format!("write {}", starter.display()))?;
        eprintln!("installing OpenSearch from Maven Central, about 50 MB");
        let lib = dir.join("lib");
        let mut maven = Command::new("mvn");
        maven.args(["--quiet", "--batch-mode", "--file"]).arg(&pom).arg(COPY);
        maven.arg(format!("-DoutputDirectory={}", lib.display())).arg("-DincludeScope=runtime");
        process::run_tool(&mut maven)?;
        let mut compiler = Command::new("javac");
        compiler.arg("-cp").arg(lib.join("*")).arg("-d").arg(dir.join("classes")).arg(&starter);
        process::run_tool(&mut compiler)
    })
}

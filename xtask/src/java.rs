//! Servers and readers in Java for tests: their archives from Maven Central, and the programs that start them, compiled.
//!
//! It runs nothing: a test that wants one does.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use wasmill_author::{installed_tool, process};

/// Goal that puts archives into a directory.
const COPY: &str = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies";

/// A server or a reader, and what it takes to have it.
pub(crate) struct Program {
    /// Of the directory that it is installed in.
    name: &'static str,
    /// For people.
    called: &'static str,
    size: &'static str,
    pom: &'static str,
    /// Name of its main class, and the source of that.
    main: (&'static str, &'static str),
    /// Versions of a JDK that it runs on.
    java: &'static str,
}

/// A node of OpenSearch.
pub(crate) const OPENSEARCH: Program = Program {
    name: "opensearch",
    called: "OpenSearch",
    size: "about 50 MB",
    pom: include_str!("../../tests/clients/opensearch/pom.xml"),
    main: ("Cluster", include_str!("../../tests/clients/opensearch/Cluster.java")),
    java: "from 11 to 21",
};

/// Iceberg's own catalog of tables.
pub(crate) const CATALOGUE: Program = Program {
    name: "iceberg-catalogue",
    called: "a catalog of Iceberg tables",
    size: "about 32 MB",
    pom: include_str!("../../tests/clients/iceberg/pom.xml"),
    main: ("Catalogue", include_str!("../../tests/clients/iceberg/Catalogue.java")),
    java: "from 17 on",
};

/// Apache Spark, which reads files that the host writes.
pub(crate) const SPARK: Program = Program {
    name: "spark",
    called: "Apache Spark",
    size: "about 190 MB",
    pom: include_str!("../../tests/clients/spark/pom.xml"),
    main: ("Rows", include_str!("../../tests/clients/spark/Rows.java")),
    java: "from 17 on",
};

impl Program {
    /// Where `lib` and `classes` of it are, installed if they are not there.
    pub(crate) fn installed(&self) -> Result<PathBuf> {
        let mut hash = DefaultHasher::new();
        (self.pom, self.main.1).hash(&mut hash);
        installed_tool(self.name, &format!("{:016x}", hash.finish()), |dir| {
            for tool in ["mvn", "javac"] {
                if process::on_path(tool).is_none() {
                    let Program { called, java, .. } = self;
                    bail!("there is no {tool} on PATH; {called} needs Maven and a JDK {java}");
                }
            }
            let (pom, starter) = (dir.join("pom.xml"), dir.join(format!("{}.java", self.main.0)));
            std::fs::write(&pom, self.pom).with_context(|| format!("write {}", pom.display()))?;
            std::fs::write(&starter, self.main.1).with_context(|| format!("write {}", starter.display()))?;
            eprintln!("installing {} from Maven Central, {}", self.called, self.size);
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
}

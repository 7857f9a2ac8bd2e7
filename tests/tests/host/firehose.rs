//! The API of Amazon Data Firehose, asked by clients that nobody here wrote, with S3 behind it.

mod clients;
mod compression;
mod failures;
mod functions;
mod partitions;
mod signatures;
mod streams;

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use wasmill_tests::client::{self, Answer};
use wasmill_tests::program::{Program, binary};
use wasmill_tests::scratch::Scratch;
use wasmill_tests::servers::S3Server;
use wasmill_tests::wait::wait_until;

use crate::s3::keys;

/// A pair of a tenant's, out of the lines that the command prints.
pub(crate) fn pair(command: &mut Command) -> (String, String) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let value = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        line.unwrap_or_else(|| panic!("no {name} in {text}")).to_owned()
    };
    (value("AWS_ACCESS_KEY_ID"), value("AWS_SECRET_ACCESS_KEY"))
}

/// A host with keys behind whose API S3 is, and tenants: one like the first, and two that may put little.
pub(crate) struct Rig {
    pub(crate) lake: tempfile::TempDir,
    pub(crate) program: Program,
    /// `http://` and where it listens.
    pub(crate) url: String,
    /// May push, read and administer in the first tenant.
    pub(crate) pair: (String, String),
    binary: PathBuf,
    operator: String,
    server: S3Server,
    scratch: Scratch,
}

fn run(binary: &Path, scratch: &Scratch) -> Program {
    let mut command = Command::new(binary);
    command.args(["run", "--log-format", "json"]).arg(scratch.config());
    command.env("AWS_ACCESS_KEY_ID", S3Server::ACCESS_KEY);
    command.env("AWS_SECRET_ACCESS_KEY", S3Server::SECRET_KEY);
    command.env("AWS_EC2_METADATA_DISABLED", "true");
    Program::spawn(&mut command)
}

impl Rig {
    /// `None`: there is no binary, which was said.
    pub(crate) fn start() -> Option<Rig> {
        Rig::start_with("", &[])
    }

    /// With more lines in `[firehose]`, and files of plugins under other names.
    pub(crate) fn start_with(firehose: &str, plugins: &[(&str, &Path)]) -> Option<Rig> {
        let binary = binary()?;
        let lake = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(lake.path().join("lake")).unwrap();
        let server = S3Server::start(lake.path());
        let endpoint = server.endpoint();
        let scratch = Scratch::new(&format!(
            r#"#whole
            [http]
            listen = "127.0.0.1:0"
            auth = {{ mode = "keys" }}
            [firehose]
            region = "eu-west-1"
            account = "123456789012"
            endpoint = "{endpoint}"
            path_style = true
            {firehose}
            [policy]
            s3 = [{{ bucket = "lake", endpoint = "{endpoint}" }}]
            http = ["127.0.0.1:1"]
            [streams.filed]
            source = {{ type = "http" }}
            outputs = [{{ type = "directory", path = "filed", interval = "0s" }}]
            [tenants.other.policy]
            s3 = [{{ bucket = "lake", endpoint = "{endpoint}" }}]
            [tenants.limited.quota]
            records_per_second = 30
            [tenants.limited.policy]
            s3 = [{{ bucket = "lake", endpoint = "{endpoint}" }}]
            [tenants.slow.quota]
            records_per_second = 5
            [tenants.slow.policy]
            s3 = [{{ bucket = "lake", endpoint = "{endpoint}" }}]
            "#
        ));
        for (name, file) in plugins {
            scratch.deploy_bytes(name, &std::fs::read(file).unwrap());
        }
        let offline = |words: &[&str]| {
            let mut command = Command::new(&binary);
            command.args(["key", "create"]).args(words).arg("--config").arg(scratch.config());
            command
        };
        // Keys of tenants of the file are made through a host that knows it.
        let operator = offline(&["--operator"]).output().unwrap();
        let operator = String::from_utf8(operator.stdout).unwrap().trim().to_owned();
        let pair = pair(&mut offline(&["--signs", "--scope", "push,read,admin"]));
        let program = run(&binary, &scratch);
        let url = format!("http://{}", program.address());
        Some(Rig { lake, program, url, pair, binary, operator, server, scratch })
    }

    /// Kills it as a power cut would, and starts another one on what is left.
    pub(crate) fn killed(self) -> Rig {
        drop(self.program.kill());
        let program = run(&self.binary, &self.scratch);
        Rig { url: format!("http://{}", program.address()), program, ..self }
    }

    /// What a client of S3 is told of the store.
    pub(crate) fn store(&self) -> [(&'static str, String); 3] {
        let key = |key: &str| key.to_owned();
        [
            ("STORE", self.server.endpoint()),
            ("STORE_KEY", key(S3Server::ACCESS_KEY)),
            ("STORE_SECRET", key(S3Server::SECRET_KEY)),
        ]
    }

    /// Asks the host itself, as its operator.
    pub(crate) fn ask(&self, method: &str, path: &str, headers: &[&str], body: &str) -> Answer {
        let key = format!("authorization: Bearer {}", self.operator);
        let headers: Vec<&str> = headers.iter().copied().chain([key.as_str()]).collect();
        client::request(self.program.address(), method, path, &headers, body.as_bytes()).unwrap()
    }

    /// What `/metrics` has under this name of a stream of the first tenant.
    pub(crate) fn metric(&self, name: &str, stream: &str) -> f64 {
        metric(&self.ask("GET", "/metrics", &[], "").body, name, stream)
    }

    /// A pair of another tenant's.
    pub(crate) fn pair_of(&self, tenant: &str) -> (String, String) {
        let words = ["--signs", "--scope", "push,read,admin", "--tenant", tenant, "--host", &self.url];
        let mut command = Command::new(&self.binary);
        command.args(["key", "create"]).args(words).env("WASMILL_KEY", &self.operator);
        pair(&mut command)
    }

    /// What a client that is a program of its own finds in its environment, for the first tenant and about others.
    pub(crate) fn told(&self, client: &mut Command) {
        let other = |tenant: &str| {
            let (id, secret) = self.pair_of(tenant);
            serde_json::json!({ "aws_access_key_id": id, "aws_secret_access_key": secret }).to_string()
        };
        client.env("OTHER", other("other")).env("LIMITED", other("limited")).env("SLOW", other("slow"));
    }

    /// Runs a client to its end; what it says.
    pub(crate) fn run(&self, client: &mut Command) -> String {
        client.env("ENDPOINT", &self.url).env("AWS_EC2_METADATA_DISABLED", "true");
        client.env("AWS_ACCESS_KEY_ID", &self.pair.0).env("AWS_SECRET_ACCESS_KEY", &self.pair.1);
        ended(client).unwrap_or_else(|told| panic!("{told}{:#?}", self.program.log()))
    }
}

/// Runs a client to its end, which it says; what it says, or why it is none.
pub(crate) fn ended(client: &mut Command) -> Result<String, String> {
    let output = client.output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    match output.status.success() && out.contains("all is as expected") {
        true => Ok(out.into_owned()),
        false => Err(format!("{out}{err}")),
    }
}

/// What the text of `/metrics` has under this name of a stream of the tenant `default`.
pub(crate) fn metric(text: &str, name: &str, stream: &str) -> f64 {
    let series = format!("{name}{{stream=\"{stream}\"}} ");
    let line = text.lines().find_map(|line| line.strip_prefix(&series));
    line.unwrap_or_else(|| panic!("no {series}in {text}")).parse().unwrap()
}

/// The text of all objects below a prefix of the bucket, by their names.
pub(crate) fn texts(lake: &tempfile::TempDir, prefix: &str) -> BTreeMap<String, String> {
    let bucket = lake.path().join("lake");
    let name = |path: &PathBuf| path.strip_prefix(&bucket).unwrap().to_string_lossy().into_owned();
    let found = keys(&bucket.join(prefix)).into_iter();
    found.map(|path| (name(&path), std::fs::read_to_string(&path).unwrap())).collect()
}

/// A script of `tests/clients` with what it needs of Python; `None`, with the reason said, where that is not there.
pub(crate) fn script(name: &str) -> Option<Command> {
    let Some(packages) = std::env::var_os("WASMILL_READERS") else {
        println!("skipped: WASMILL_READERS is not set; `cargo xtask test` sets it");
        return None;
    };
    let mut command = Command::new("python3");
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("clients").join(name));
    command.env("PYTHONPATH", packages).env("PYTHONDONTWRITEBYTECODE", "1");
    Some(command)
}

/// A plugin that `cargo xtask plugins` builds; `None`, with the reason said, where that was not done.
pub(crate) fn component(variable: &str, name: &str) -> Option<PathBuf> {
    let Some(directory) = std::env::var_os(variable) else {
        println!("skipped: {variable} is not set; `cargo xtask test` sets it");
        return None;
    };
    Some(Path::new(&directory).join(format!("{name}.wasm")))
}

#[test]
fn clients_of_aws_make_fill_change_and_remove_delivery_streams() {
    let Some(rig) = Rig::start() else { return };
    let Some(mut client) = script("firehose.py") else { return };
    rig.told(&mut client);
    rig.run(&mut client);

    // What was put is in the bucket once, under the names of Firehose.
    let bucket = rig.lake.path().join("lake");
    let numbers = || {
        let mut found: Vec<u64> = Vec::new();
        for file in keys(&bucket.join("clicks")) {
            let mut text = String::new();
            let body = std::fs::read(&file).unwrap();
            let Ok(_read) = flate2::read::GzDecoder::new(&body[..]).read_to_string(&mut text) else {
                continue;
            };
            found.extend(text.lines().map(|line| {
                let value: Value = serde_json::from_str(line).unwrap();
                value["n"].as_u64().unwrap()
            }));
        }
        found.sort_unstable();
        found
    };
    wait_until("everything is delivered", || numbers() == (0..=500).collect::<Vec<u64>>());
    let names: Vec<String> = keys(&bucket.join("clicks"))
        .iter()
        .map(|path| path.strip_prefix(&bucket).unwrap().to_string_lossy().into_owned())
        .collect();
    for (version, extension) in [("1", ".gz"), ("2", ".json.gz")] {
        let of =
            |name: &&String| name.contains(&format!("/clicks-{version}-20")) && name.ends_with(extension);
        assert!(names.iter().filter(of).count() >= 1, "{version}: {names:?}");
    }
    assert!(names.iter().all(|name| name.starts_with("clicks/20")), "{names:?}");
    let plain: Vec<String> = keys(&bucket)
        .iter()
        .filter(|path| path.to_string_lossy().contains("/plain-1-"))
        .map(|path| std::fs::read_to_string(path).unwrap())
        .collect();
    let together = plain.concat();
    assert!(["abYwBk", "YwBkab"].contains(&together.as_str()), "verbatim, with nothing between: {plain:?}");
    // Since the update there was one record, of ten bytes.
    for (name, value) in [
        ("records_total", 1.0),
        ("bytes_total", 10.0),
        ("object_count_total", 1.0),
        ("success", 1.0),
        ("data_freshness_seconds", 0.0),
    ] {
        wait_until(name, || rig.metric(&format!("firehose_delivery_to_s3_{name}"), "clicks") == value);
    }
    rig.program.stop();
    // What nobody took is beside the destination, a record a line.
    for (stream, kind, code) in [
        ("posted", "http-endpoint-failed", "HttpEndpoint.ConnectionFailed"),
        ("indexed", "splunk-failed", "Splunk.ConnectionTimeout"),
        ("searched", "AmazonOpenSearchService-failed", "ConnectionFailed"),
    ] {
        let files = keys(&bucket.join(format!("failed-{stream}/{kind}")));
        let lines: Vec<Value> = files
            .iter()
            .flat_map(|file| {
                std::fs::read_to_string(file).unwrap().lines().map(str::to_owned).collect::<Vec<_>>()
            })
            .map(|line| serde_json::from_str(&line).unwrap())
            .collect();
        assert_eq!(lines.len(), 2, "{stream}: {lines:?}");
        assert!(
            lines.iter().all(|line| line["errorCode"] == code && line["rawData"].is_string()),
            "{lines:?}"
        );
    }
}

//! The stage of a run: a working directory with a configuration, plugins, logs and destinations, and free ports.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rand::Rng;
use rand::rngs::SmallRng;

use crate::record::Output;

/// The streams, by their sources.
pub const PUSH: &str = "push";
pub const LINES: &str = "lines";
pub const FILES: &str = "files";
pub const STREAMS: [&str; 3] = [PUSH, LINES, FILES];
pub const OUTPUTS: [Output; 4] = [Output::Directory, Output::Objects, Output::Bulk, Output::Requests];
pub const BUCKET: &str = "lake";

/// Below the ports that the system hands out, so that nobody takes one while the host is down.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// See the head of this file.
pub struct Scene {
    pub root: PathBuf,
    pub http: SocketAddr,
    pub tcp: SocketAddr,
}

fn free_port(rng: &mut SmallRng) -> Result<SocketAddr> {
    for _ in 0..1_000 {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, rng.random_range(PORTS)));
        if TcpListener::bind(address).is_ok() {
            return Ok(address);
        }
    }
    anyhow::bail!("no free port in {PORTS:?}")
}

impl Scene {
    /// Makes the directories; the configuration comes when the destinations are there.
    pub fn new(root: &Path, rng: &mut SmallRng) -> Result<Scene> {
        let http = free_port(rng)?;
        let tcp = std::iter::repeat_with(|| free_port(rng)).find(|port| port.as_ref().ok() != Some(&http));
        let scene = Scene { root: root.to_owned(), http, tcp: tcp.context("another port")?? };
        for dir in [scene.plugins(), scene.logs(), scene.host_logs(), scene.bucket()] {
            fs::create_dir_all(&dir).with_context(|| format!("create {}", dir.display()))?;
        }
        for stream in STREAMS {
            fs::create_dir_all(scene.received().join(stream))?;
        }
        Ok(scene)
    }

    pub fn config(&self) -> PathBuf {
        self.root.join("wasmill.toml")
    }

    pub fn data(&self) -> PathBuf {
        self.root.join("data")
    }

    pub fn plugins(&self) -> PathBuf {
        self.root.join("plugins")
    }

    /// Files that the host follows.
    pub fn logs(&self) -> PathBuf {
        self.root.join("logs")
    }

    /// What the host itself said, a file per life.
    pub fn host_logs(&self) -> PathBuf {
        self.root.join("said")
    }

    /// What the store keeps.
    pub fn store(&self) -> PathBuf {
        self.root.join("s3")
    }

    fn bucket(&self) -> PathBuf {
        self.store().join(BUCKET)
    }

    /// What the HTTP receiver keeps.
    pub fn received(&self) -> PathBuf {
        self.root.join("received")
    }

    /// Where objects of an output end up.
    pub fn objects(&self, stream: &str, output: Output) -> PathBuf {
        match output {
            Output::Directory => self.root.join("out").join(stream),
            Output::Objects => self.bucket().join(stream).join("s"),
            Output::Bulk => self.bucket().join(stream).join("b"),
            Output::Requests => self.received().join(stream),
        }
    }

    /// Files with the dead letters of a stream.
    pub fn letters(&self, stream: &str) -> Vec<PathBuf> {
        wasmill_tests::scratch::letters(&self.data(), stream)
    }

    /// Writes the configuration.
    pub fn configure(&self, store: SocketAddr, receiver: SocketAddr) -> Result<()> {
        let Scene { http, tcp, .. } = self;
        let mut text = format!(
            "workers = 2\n[http]\nlisten = \"{http}\"\n[buffer]\njournal_file = \"4MiB\"\nmax_bytes = \"64MiB\"\n"
        );
        for stream in STREAMS {
            let source = match stream {
                PUSH => "{ type = \"http\" }".to_owned(),
                LINES => format!("{{ type = \"tcp\", listen = \"{tcp}\" }}"),
                _ => "{ type = \"file\", paths = [\"logs/app*.log\"], follow = true }".to_owned(),
            };
            // One part, or two.
            let bulk = if stream == FILES { "9MiB" } else { "6MiB" };
            text.push_str(&format!(
                r#"
                [streams.{stream}]
                source = {source}
                transforms = [{{ plugin = "obey" }}, {{ plugin = "stamp" }}, {{ plugin = "place" }}]
                [[streams.{stream}.outputs]]
                type = "directory"
                path = "out/{stream}"
                object = "{{partition.k}}/{{batch}}{{extension}}"
                size = "128KiB"
                interval = "400ms"
                retry = {{ initial = "20ms", max = "500ms" }}
                [[streams.{stream}.outputs]]
                type = "http"
                name = "h"
                url = "http://{receiver}/{stream}"
                size = "32KiB"
                interval = "300ms"
                timeout = "5s"
                retry = {{ initial = "20ms", max = "500ms" }}
                "#
            ));
            for (name, more) in [
                ("s", "size = \"64KiB\"\ninterval = \"300ms\"".to_owned()),
                (
                    "b",
                    format!(
                        "size = \"{bulk}\"\ninterval = \"20s\"\ncompression = \"none\"\nmultipart_threshold = \"5MiB\""
                    ),
                ),
            ] {
                text.push_str(&format!(
                    r#"
                    [[streams.{stream}.outputs]]
                    type = "s3"
                    name = "{name}"
                    endpoint = "http://{store}"
                    region = "us-east-1"
                    path_style = true
                    bucket = "{BUCKET}"
                    prefix = "{stream}/{name}/"
                    object = "{{batch}}{{extension}}"
                    retry = {{ initial = "20ms", max = "500ms" }}
                    {more}
                    "#
                ));
            }
        }
        fs::write(self.config(), text).with_context(|| format!("write {}", self.config().display()))
    }
}

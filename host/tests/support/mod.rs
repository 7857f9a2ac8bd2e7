//! Starts hosts on temporary directories and reads what they delivered.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use wasmill::pipeline::{Host, HostOptions};
use wasmill_config::Settings;

/// A host that runs on a runtime of its own, so that it can end like a crash.
pub(crate) struct Running {
    pub(crate) host: Host,
    runtime: Option<tokio::runtime::Runtime>,
}

impl Running {
    pub(crate) async fn start(config: &Path) -> Running {
        let settings = Settings::load(config).unwrap();
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let options = HostOptions { compiler: PathBuf::from("/nonexistent") };
        let host = runtime.spawn(Host::start(settings, options)).await.unwrap().unwrap();
        Running { host, runtime: Some(runtime) }
    }

    /// Pushes an NDJSON body and returns the receipt.
    pub(crate) async fn push(&self, stream: &str, body: &str) -> serde_json::Value {
        let mut socket = TcpStream::connect(self.host.http_address().unwrap()).await.unwrap();
        let request = format!(
            "POST /v1/streams/{stream}/records HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-ndjson\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        );
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200"), "{answer}");
        serde_json::from_str(body).unwrap()
    }

    /// Ends every task where it stands; nothing is drained, sealed or closed.
    pub(crate) async fn crash(mut self) {
        let runtime = self.runtime.take().unwrap();
        let host = self.host.clone();
        drop(self);
        tokio::task::spawn_blocking(move || {
            runtime.shutdown_timeout(Duration::from_secs(5));
            drop(host);
        })
        .await
        .unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Writes a configuration with a free port.
pub(crate) fn write_config(dir: &Path, streams: &str) -> PathBuf {
    let file = dir.join("wasmill.toml");
    let text = format!(
        "[http]\nlisten = \"127.0.0.1:0\"\n[buffer]\njournal_file = \"1MiB\"\nmax_bytes = \"64MiB\"\n{streams}"
    );
    std::fs::write(&file, text).unwrap();
    file
}

/// Lines of all objects, in the order of the objects' names.
pub(crate) fn read_objects(dir: &Path) -> Vec<String> {
    let mut files = Vec::new();
    let mut directories = vec![dir.to_owned()];
    while let Some(dir) = directories.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let hidden = path.file_name().unwrap().to_string_lossy().starts_with('.');
            match path.is_dir() {
                true if !hidden => directories.push(path),
                false => files.push(path),
                true => {}
            }
        }
    }
    files.sort();
    let mut lines = Vec::new();
    for file in files {
        let bytes = std::fs::read(&file).unwrap();
        let text = match file.extension().and_then(|extension| extension.to_str()) {
            Some("zst") => {
                let mut text = Vec::new();
                wasmill_encode::decompress(wasmill_encode::Encoding::Zstd, &bytes, 1 << 30, &mut text)
                    .unwrap();
                text
            }
            _ => bytes,
        };
        lines.extend(String::from_utf8(text).unwrap().lines().map(str::to_owned));
    }
    lines
}

/// Waits on a condition, with a deadline that only a bug reaches.
pub(crate) async fn wait_until(condition: impl Fn() -> bool) {
    let waited = tokio::time::timeout(Duration::from_secs(20), async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    });
    waited.await.expect("the condition did not come true in 20 s");
}

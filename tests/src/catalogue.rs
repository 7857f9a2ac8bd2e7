//! A real catalog of Iceberg tables, as `cargo xtask test` installs it, and a front before it that loses requests and answers.
#![expect(
    clippy::expect_used,
    reason = "support of tests: what cannot be set up fails the test that wanted it"
)]

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use serde_json::Value;

/// Longest request that a front hands on.
const REQUEST_BYTES_MAX: usize = 16 << 20;

/// See the head of this file. Killed when dropped; what it has is in its directory.
pub struct Catalogue {
    child: Child,
    address: SocketAddr,
}

impl Catalogue {
    /// Starts one with its database in `dir`; its tables are at `warehouse`, and buckets of S3 below `buckets`. `None`, with the
    /// reason said, where it is not installed.
    pub fn start(dir: &Path, warehouse: &str, buckets: &Path) -> Option<Catalogue> {
        let Some(installed) = std::env::var_os("WASMILL_CATALOGUE").map(PathBuf::from) else {
            #[expect(clippy::print_stdout, reason = "a test says why it skips")]
            {
                println!(
                    "skipped: WASMILL_CATALOGUE is not set; `cargo xtask test` sets it where there is Java"
                );
            }
            return None;
        };
        let log = dir.join("catalogue.log");
        let mut java = Command::new("java");
        java.args(["-Xmx256m", "-XX:TieredStopAtLevel=1", "-cp"]);
        java.arg(format!("{}:{}", installed.join("classes").display(), installed.join("lib/*").display()));
        java.arg("Catalogue").arg(dir.join("catalogue.db")).arg(warehouse).arg(buckets);
        java.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(File::create(&log).expect("a log"));
        let mut child = java.spawn().expect("java on PATH");
        let mut port = String::new();
        let mut said = BufReader::new(child.stdout.take().expect("its stdout"));
        said.read_line(&mut port).expect("a line");
        let port = port.trim().parse().unwrap_or_else(|_none| {
            panic!("the catalog has not started: {}", std::fs::read_to_string(&log).unwrap_or_default())
        });
        Some(Catalogue { child, address: SocketAddr::from(([127, 0, 0, 1], port)) })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Catalogue {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    Nothing,
    /// It does not get there.
    Request,
    /// Everything is done, and the answer never comes.
    Answer,
}

/// Hands requests on, one a connection. `lost` is asked with the request's line.
pub fn front(to: SocketAddr, lost: impl Fn(&str) -> Lost + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("its address");
    let lost = Arc::new(lost);
    std::thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let lost = Arc::clone(&lost);
            // A client that is killed breaks off.
            std::thread::spawn(move || drop(hand_on(client, to, &*lost)));
        }
    });
    address
}

fn hand_on(mut client: TcpStream, to: SocketAddr, lost: &dyn Fn(&str) -> Lost) -> std::io::Result<()> {
    let request = whole(&mut client)?;
    let text = String::from_utf8_lossy(&request);
    let line = text.lines().next().unwrap_or_default();
    let lost = lost(line);
    if lost == Lost::Request {
        return Ok(());
    }
    let mut server = TcpStream::connect(to)?;
    // It ends its answer with the connection.
    let (first, rest) = request.split_at(line.len() + 2);
    server.write_all(first)?;
    server.write_all(b"connection: close\r\n")?;
    server.write_all(rest)?;
    let mut answer = Vec::new();
    server.read_to_end(&mut answer)?;
    if lost == Lost::Answer {
        return Ok(());
    }
    client.write_all(&answer)
}

fn whole(client: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let (mut request, mut piece) = (Vec::new(), [0; 8192]);
    loop {
        let read = client.read(&mut piece)?;
        if read == 0 || request.len() > REQUEST_BYTES_MAX {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        request.extend_from_slice(piece.get(..read).unwrap_or_default());
        let Some(end) = request.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(request.get(..end).unwrap_or_default()).to_ascii_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
        let length: usize = length.and_then(|length| length.trim().parse().ok()).unwrap_or(0);
        if request.len() >= end + 4 + length {
            return Ok(request);
        }
    }
}

/// Others' clients of a catalog.
pub struct Client {
    packages: PathBuf,
    url: String,
    table: String,
    /// What the clients are told of the catalog, beside its URL.
    told: Value,
}

impl Client {
    /// Of this table. `None`, with the reason said, where they are not installed.
    pub fn of(catalogue: &Catalogue, table: &str, told: Value) -> Option<Client> {
        let packages = std::env::var_os("WASMILL_READERS").map(PathBuf::from);
        if packages.is_none() {
            #[expect(clippy::print_stdout, reason = "a test says why it skips")]
            {
                println!("skipped: WASMILL_READERS is not set; `cargo xtask test` sets it");
            }
        }
        Some(Client { packages: packages?, url: catalogue.url(), table: table.to_owned(), told })
    }

    /// Begins a command of `tests/clients/tables.py`.
    pub fn begin(&self, command: &str, mut given: Value) -> Child {
        given["catalog"] = self.told.clone();
        let mut python = Command::new("python3");
        python.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/clients/tables.py")).arg(command);
        python.args([&self.url, &self.table, &given.to_string()]).env("PYTHONPATH", &self.packages);
        python.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("python3 on PATH")
    }

    /// What it says, once it has ended well.
    pub fn end(child: Child) -> String {
        let output = child.wait_with_output().expect("its output");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    pub fn run(&self, command: &str, given: Value) -> String {
        Client::end(self.begin(command, given))
    }

    /// The table as it is.
    pub fn rows(&self) -> Value {
        serde_json::from_str(&self.run("rows", serde_json::json!({}))).expect("a line of JSON")
    }
}

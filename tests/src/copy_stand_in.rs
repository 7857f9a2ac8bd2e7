//! A stand-in for Redshift's `COPY ... FROM 's3://...' ... MANIFEST`, which no server but Redshift has: a proxy in front of
//! a real PostgreSQL.
//!
//! Everything passes through it as it is, but for such a COPY: the manifest and its objects are read out of the directory
//! of a store, and become a `COPY ... FROM STDIN` on the same session, in the same transaction. Of the options it knows
//! `GZIP`, `CSV` and `JSON 'auto'` (with a list of columns). It can also break connections around a COMMIT.
#![expect(
    clippy::expect_used,
    reason = "support of tests: what cannot be set up fails the test that wanted it"
)]

use std::fs;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;
use wasmill_encode::{Encoding, decompress};

const OBJECT_BYTES_MAX: usize = 64 << 20;
/// Codes that stand in the place of the protocol's version.
const ASKS_FOR_TLS: u32 = 80_877_103;

/// What happens to a connection at its COMMIT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    Never,
    /// Nothing of it reaches the server.
    BeforeCommit,
    /// The server has committed, and its answer never comes.
    AfterCommit,
}

struct Shared {
    server: SocketAddr,
    /// Of the store: the directories of its buckets.
    root: PathBuf,
    cut: Box<dyn Fn() -> Cut + Send + Sync>,
    copies: Mutex<Vec<String>>,
    cuts: AtomicUsize,
}

/// See the head of this file.
pub struct CopyStandIn {
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl CopyStandIn {
    /// In front of `server`; `cut` is asked at each COMMIT.
    pub fn start(
        server: SocketAddr,
        root: &Path,
        cut: impl Fn() -> Cut + Send + Sync + 'static,
    ) -> CopyStandIn {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let shared = Arc::new(Shared {
            server,
            root: root.to_owned(),
            cut: Box::new(cut),
            copies: Mutex::default(),
            cuts: AtomicUsize::new(0),
        });
        let of_all = Arc::clone(&shared);
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let shared = Arc::clone(&of_all);
                // Connections end in all ways that there are.
                std::thread::spawn(move || drop(session(&shared, client)));
            }
        });
        CopyStandIn { address, shared }
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// The statements that it stood in for.
    pub fn copies(&self) -> Vec<String> {
        self.shared.copies.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Connections that it has broken.
    pub fn cuts(&self) -> usize {
        self.shared.cuts.load(Ordering::SeqCst)
    }
}

/// One frame: its type, and its body without the length.
fn frame(from: &mut TcpStream) -> io::Result<(u8, Vec<u8>)> {
    let mut kind = [0];
    from.read_exact(&mut kind)?;
    Ok((kind[0], body(from)?))
}

fn body(from: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    from.read_exact(&mut length)?;
    let length = u32::from_be_bytes(length) as usize;
    let mut body = vec![0; length.saturating_sub(4)];
    from.read_exact(&mut body)?;
    Ok(body)
}

fn write(to: &mut TcpStream, kind: Option<u8>, body: &[u8]) -> io::Result<()> {
    let mut whole = Vec::with_capacity(body.len() + 5);
    whole.extend(kind);
    whole.extend(u32::try_from(body.len() + 4).map_err(io::Error::other)?.to_be_bytes());
    whole.extend_from_slice(body);
    to.write_all(&whole)
}

fn session(shared: &Arc<Shared>, mut client: TcpStream) -> io::Result<()> {
    let mut server = TcpStream::connect(shared.server)?;
    // A client may ask for TLS first, which is not here.
    loop {
        let first = body(&mut client)?;
        let code = first.get(..4).map_or(0, |code| u32::from_be_bytes([code[0], code[1], code[2], code[3]]));
        if code != ASKS_FOR_TLS {
            write(&mut server, None, &first)?;
            break;
        }
        client.write_all(b"N")?;
    }
    let is_mute = Arc::new(AtomicBool::new(false));
    let (mut answers, mut to, mute) = (server.try_clone()?, client.try_clone()?, Arc::clone(&is_mute));
    let answering = std::thread::spawn(move || -> io::Result<()> {
        loop {
            let (kind, body) = frame(&mut answers)?;
            match kind {
                // What it waits for comes from here.
                b'G' => {}
                b'Z' if mute.load(Ordering::SeqCst) => return Ok(()),
                _ if mute.load(Ordering::SeqCst) => {}
                _ => write(&mut to, Some(kind), &body)?,
            }
        }
    });
    let ended = requests(shared, (&mut client, &mut server), &is_mute);
    if is_mute.load(Ordering::SeqCst) {
        // The server has answered: what was committed is.
        drop(answering.join());
    }
    drop(client.shutdown(Shutdown::Both));
    drop(server.shutdown(Shutdown::Both));
    ended
}

fn requests(
    shared: &Shared,
    (client, server): (&mut TcpStream, &mut TcpStream),
    is_mute: &AtomicBool,
) -> io::Result<()> {
    loop {
        let (kind, body) = frame(client)?;
        let sql = if kind == b'Q' {
            String::from_utf8_lossy(&body).trim_end_matches('\0').to_owned()
        } else {
            String::new()
        };
        if sql.starts_with("COPY ") && sql.contains(" MANIFEST") {
            stand_in(shared, &sql, server)?;
            continue;
        }
        let cut = if sql == "COMMIT" { (shared.cut)() } else { Cut::Never };
        if cut != Cut::Never {
            shared.cuts.fetch_add(1, Ordering::SeqCst);
        }
        match cut {
            Cut::BeforeCommit => return Ok(()),
            Cut::AfterCommit => {
                is_mute.store(true, Ordering::SeqCst);
                return write(server, Some(kind), &body);
            }
            Cut::Never => write(server, Some(kind), &body)?,
        }
    }
}

fn stand_in(shared: &Shared, sql: &str, server: &mut TcpStream) -> io::Result<()> {
    shared.copies.lock().unwrap_or_else(PoisonError::into_inner).push(sql.to_owned());
    match rows(shared, sql) {
        Ok((statement, rows)) => {
            // A server that refuses the statement ignores what follows.
            write(server, Some(b'Q'), format!("{statement}\0").as_bytes())?;
            for piece in rows.chunks(1 << 16) {
                write(server, Some(b'd'), piece)?;
            }
            write(server, Some(b'c'), b"")
        }
        Err(told) => {
            let told = told.replace('\'', "''");
            let refusal =
                format!("DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = 'XX000', MESSAGE = '{told}'; END $$\0");
            write(server, Some(b'Q'), refusal.as_bytes())
        }
    }
}

/// A COPY that PostgreSQL has, and what it is to read; or what Redshift would say.
fn rows(shared: &Shared, sql: &str) -> Result<(String, Vec<u8>), String> {
    let (target, rest) = sql.split_once(" FROM '").ok_or("no place to copy from")?;
    let (url, rest) = rest.split_once('\'').ok_or("no end of the place")?;
    let (_, options) = rest.split_once(" MANIFEST").ok_or("no manifest")?;
    let manifest: Value = serde_json::from_slice(&object(shared, url)?).map_err(|error| error.to_string())?;
    let mut text = Vec::new();
    for entry in manifest["entries"].as_array().ok_or("no entries")? {
        let bytes = object(shared, entry["url"].as_str().ok_or("no url")?)?;
        if options.contains("GZIP") {
            decompress(Encoding::Gzip, &bytes, OBJECT_BYTES_MAX, &mut text)
                .map_err(|error| error.to_string())?;
        } else {
            text.extend_from_slice(&bytes);
        }
    }
    if options.to_uppercase().contains("CSV") {
        return Ok((format!("{target} FROM STDIN WITH (FORMAT csv)"), text));
    }
    let columns = target.split_once('(').and_then(|(_, columns)| columns.strip_suffix(')'));
    let columns: Vec<&str> =
        columns.ok_or("no columns")?.split(", ").map(|column| column.trim_matches('"')).collect();
    let mut rows = String::new();
    for line in String::from_utf8_lossy(&text).lines() {
        let row: Value = serde_json::from_str(line).map_err(|error| error.to_string())?;
        if row.get("unfit").is_some() {
            return Err(
                "Load into table 'events' failed.  Check 'stl_load_errors' system table for details."
                    .to_owned(),
            );
        }
        let cells: Vec<String> = columns.iter().map(|column| cell(&row[*column])).collect();
        rows.push_str(&cells.join("\t"));
        rows.push('\n');
    }
    Ok((format!("{target} FROM STDIN"), rows.into_bytes()))
}

/// In PostgreSQL's text format.
fn cell(value: &Value) -> String {
    match value {
        Value::Null => "\\N".to_owned(),
        Value::String(text) => {
            let text = text.replace('\\', "\\\\").replace('\t', "\\t");
            text.replace('\n', "\\n").replace('\r', "\\r")
        }
        other => other.to_string(),
    }
}

fn object(shared: &Shared, url: &str) -> Result<Vec<u8>, String> {
    let key = url.strip_prefix("s3://").ok_or("no url of S3")?;
    fs::read(shared.root.join(key))
        .map_err(|_none| format!("S3ServiceException:The specified key does not exist: {url}"))
}

//! A real server of PostgreSQL, as `cargo xtask test` installs it.
#![expect(
    clippy::expect_used,
    reason = "support of tests: what cannot be set up fails the test that wanted it"
)]

use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, geteuid, kill_process};
use serde_json::Value;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tokio_postgres::{Client, Config, NoTls, SimpleQueryMessage};

use crate::wait::wait_for;

/// Whom the server runs as where the tests run as root, which it refuses.
const NOBODY: u32 = 65534;

/// See the head of this file. Ends when dropped.
pub struct Postgres {
    child: Child,
    port: u16,
    runtime: Runtime,
    home: tempfile::TempDir,
}

impl Postgres {
    pub const USER: &str = "loader";
    pub const PASSWORD: &str = "pass'word\\1";
    pub const DATABASE: &str = "postgres";

    /// Starts one of its own that is empty. `None`, with the reason said, where it is not installed.
    pub fn start() -> Option<Postgres> {
        Postgres::start_with(|_home| Vec::new())
    }

    /// The same with settings of its own, which may name files that `settings` makes in the directory.
    pub fn start_with(settings: impl FnOnce(&Path) -> Vec<String>) -> Option<Postgres> {
        let Some(packages) = std::env::var_os("WASMILL_POSTGRESQL").map(PathBuf::from) else {
            #[expect(clippy::print_stdout, reason = "a test says why it skips")]
            {
                println!(
                    "skipped: WASMILL_POSTGRESQL is not set; `cargo xtask test` sets it where there is Node"
                );
            }
            return None;
        };
        let native = native(&packages);
        let home = tempfile::tempdir().expect("a temporary directory");
        let programs = home.path().join("programs");
        copy(&native, &programs);
        link(&native, &programs);
        let data = home.path().join("data");
        fs::create_dir(&data).expect("a directory");
        let secret = home.path().join("password");
        fs::write(&secret, Postgres::PASSWORD).expect("a file");
        let settings = settings(home.path());
        let as_root = geteuid().is_root();
        if as_root {
            fs::set_permissions(home.path(), fs::Permissions::from_mode(0o755)).expect("permissions");
            for entry in fs::read_dir(home.path()).expect("a directory").flatten() {
                chown(entry.path(), Some(NOBODY), Some(NOBODY)).expect("another owner");
            }
        }
        let run = |program: &str| {
            let mut command = Command::new(programs.join("bin").join(program));
            command
                .env("LD_LIBRARY_PATH", programs.join("lib"))
                .current_dir(home.path())
                .stdin(Stdio::null());
            if as_root {
                command.uid(NOBODY).gid(NOBODY);
            }
            command.arg("-D").arg(&data);
            command
        };
        let mut init = run("initdb");
        init.args(["-U", Postgres::USER, "-A", "scram-sha-256", "-E", "UTF8", "--locale=C", "--no-sync"]);
        let made = init.arg(format!("--pwfile={}", secret.display())).output().expect("initdb");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let port = free.expect("a free port").port();
        let log = File::create(home.path().join("log")).expect("a log");
        let mut server = run("postgres");
        server.args([
            "-p",
            &port.to_string(),
            "-c",
            "listen_addresses=127.0.0.1",
            "-c",
            "unix_socket_directories=",
        ]);
        // What it has is not to outlive the machine.
        server.args(["-c", "fsync=off"]);
        for setting in settings {
            server.args(["-c", &setting]);
        }
        let child = server.stdout(Stdio::null()).stderr(log).spawn().expect("postgres");
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let postgres = Postgres { child, port, runtime: runtime.expect("a runtime"), home };
        wait_for("a server that answers", || postgres.try_ask("SELECT 1").ok());
        Some(postgres)
    }

    pub fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// A directory that lives as long as the server.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    async fn client(&self) -> Result<(Client, JoinHandle<()>), tokio_postgres::Error> {
        let mut config = Config::new();
        config.host("127.0.0.1").port(self.port).dbname(Postgres::DATABASE);
        let (client, connection) =
            config.user(Postgres::USER).password(Postgres::PASSWORD).connect(NoTls).await?;
        Ok((client, tokio::spawn(async move { drop(connection.await) })))
    }

    /// Between two statements of one session.
    pub fn within(&self, before: &str, after: &str, body: impl FnOnce()) {
        let (client, connection) = self.runtime.block_on(self.client()).expect("a session");
        self.runtime.block_on(client.batch_execute(before)).expect("a statement");
        body();
        self.runtime.block_on(client.batch_execute(after)).expect("a statement");
        connection.abort();
    }

    /// Rows of statements, each with its columns as texts; "" where there is nothing.
    pub fn try_ask(&self, sql: &str) -> Result<Vec<Vec<String>>, tokio_postgres::Error> {
        self.runtime.block_on(async {
            let (client, connection) = self.client().await?;
            let answered = client.simple_query(sql).await;
            connection.abort();
            let row = |message| match message {
                SimpleQueryMessage::Row(row) => {
                    Some((0..row.len()).map(|at| row.get(at).unwrap_or_default().to_owned()).collect())
                }
                _ => None,
            };
            Ok(answered?.into_iter().filter_map(row).collect())
        })
    }

    /// The same, where nothing is wrong.
    pub fn ask(&self, sql: &str) -> Vec<Vec<String>> {
        self.try_ask(sql).unwrap_or_else(|error| panic!("{sql}: {error:?}"))
    }

    /// Numbers of the first column.
    pub fn numbers(&self, sql: &str) -> Vec<u64> {
        let rows = self.ask(sql);
        rows.iter().map(|row| row[0].parse().unwrap_or_else(|error| panic!("{row:?}: {error}"))).collect()
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // "Fast": it ends its sessions and their processes. It may have ended by itself at this very moment.
        let _ended = kill_process(Pid::from_child(&self.child), Signal::INT);
        drop(self.child.wait());
    }
}

/// Where the programs for this machine are.
fn native(packages: &Path) -> PathBuf {
    let system = if cfg!(target_os = "macos") { "darwin" } else { "linux" };
    let machine = if cfg!(target_arch = "aarch64") { "arm64" } else { "x64" };
    packages.join(format!("@embedded-postgres/{system}-{machine}/native"))
}

/// Everything, readable for all: the server may have to run as another user, who cannot look into a home directory.
fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).expect("a directory");
    let entries = fs::read_dir(from).unwrap_or_else(|error| panic!("{}: {error}", from.display()));
    for entry in entries.flatten() {
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type().expect("a type").is_dir() {
            copy(&from, &to);
        } else {
            fs::copy(&from, &to).expect("a copy");
            fs::set_permissions(&to, fs::Permissions::from_mode(0o755)).expect("permissions");
        }
    }
}

/// Links, which packages of npm cannot have and list.
fn link(native: &Path, programs: &Path) {
    let listed = fs::read(native.join("pg-symlinks.json")).unwrap_or_default();
    let listed: Vec<Value> = serde_json::from_slice(&listed).unwrap_or_default();
    let inside = |path: &Value| {
        let path = path.as_str().and_then(|path| path.strip_prefix("native/")).expect("a path below native");
        programs.join(path)
    };
    for link in &listed {
        let target = inside(&link["target"]);
        if !target.exists() {
            symlink(inside(&link["source"]), target).expect("a link");
        }
    }
}

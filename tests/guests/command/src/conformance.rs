//! The conformance plugin as a program. What fails ends it, with the reason on standard error; with
//! `"mapping": "free"` it may write several lines for one.

use std::io::{BufRead, BufWriter, Write};
use std::process::ExitCode;

use serde::Deserialize;
use wasmill_guest_conformance::{Outcome, Task};

#[derive(Deserialize)]
struct Config {
    #[serde(default)]
    r#do: String,
    #[serde(default)]
    mapping: String,
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("{reason}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), String> {
    let config = std::env::var("WASMILL_CONFIG").map_err(|error| error.to_string())?;
    let config: Config = serde_json::from_str(&config).map_err(|error| error.to_string())?;
    let task = Task::of(&config.r#do)?;
    let mut out = BufWriter::new(std::io::stdout().lock());
    for line in std::io::stdin().lock().split(b'\n') {
        let line = line.map_err(|error| error.to_string())?;
        let rows = match task.record(&line) {
            Outcome::Same => vec![line],
            Outcome::Rows(rows) => rows,
            Outcome::Failed(reason) => return Err(reason),
        };
        if rows.is_empty() && config.mapping != "free" {
            writeln!(out).map_err(|error| error.to_string())?;
        }
        for row in rows {
            out.write_all(&row).and_then(|()| out.write_all(b"\n")).map_err(|error| error.to_string())?;
        }
    }
    out.flush().map_err(|error| error.to_string())
}

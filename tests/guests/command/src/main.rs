//! Reads records on standard input, one a line, and writes them in upper case; drops those that begin with `drop`, writes
//! two lines for `twice`, and ends with a complaint at `exit`.

use std::io::{BufRead, BufWriter, Write};

fn main() -> std::io::Result<()> {
    let mut out = BufWriter::new(std::io::stdout().lock());
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        match line.split(' ').next().unwrap_or_default() {
            "drop" => writeln!(out)?,
            "twice" => write!(out, "{line}\n{line}\n")?,
            "exit" => {
                eprintln!("asked to exit");
                std::process::exit(7);
            }
            _ => writeln!(out, "{}", line.to_uppercase())?,
        }
    }
    out.flush()
}

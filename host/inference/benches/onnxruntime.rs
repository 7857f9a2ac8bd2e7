//! Rows in a second here and in ONNX Runtime, one thread each, over the same models and rows: 100 trees as LightGBM and
//! scikit-learn export them, and a network; a row at a time and 1,000 rows at once. Both are measured turn by turn, and the medians
//! compared. Needs what `cargo xtask test` installs for tests of models: WASMILL_TRAINERS, packages of Python.
#![expect(clippy::print_stdout, reason = "a bench says what it found")]

use std::error::Error;
use std::hint::black_box;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use wasmill_inference::{Model, Tensor};

const COLUMNS: usize = 20;
/// How often each is measured.
const TURNS: usize = 7;
/// For how long each time.
const TURN: Duration = Duration::from_millis(300);

/// The other one.
struct Runtime {
    asks: ChildStdin,
    says: BufReader<ChildStdout>,
}

impl Runtime {
    fn line(&mut self) -> Result<String, Box<dyn Error>> {
        let mut line = String::new();
        self.says.read_line(&mut line)?;
        Ok(line.trim().to_owned())
    }

    fn rows_per_second(&mut self, model: &str, rows: usize) -> Result<f64, Box<dyn Error>> {
        writeln!(self.asks, "{model} {rows} {}", TURN.as_secs_f64())?;
        Ok(self.line()?.parse()?)
    }
}

fn rows_per_second(model: &Model, inputs: &[(String, Tensor)], rows: usize) -> Result<f64, Box<dyn Error>> {
    let (start, mut calls) = (Instant::now(), 0_usize);
    while start.elapsed() < TURN {
        for _ in 0..10 {
            black_box(model.run(black_box(inputs), usize::MAX, &mut || true)?);
        }
        calls += 10;
    }
    Ok((calls * rows) as f64 / start.elapsed().as_secs_f64())
}

fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers.get(numbers.len() / 2).copied().unwrap_or(f64::NAN)
}

fn main() -> Result<(), Box<dyn Error>> {
    let Some(trainers) = std::env::var_os("WASMILL_TRAINERS") else {
        println!("skipped: WASMILL_TRAINERS is not set");
        return Ok(());
    };
    let dir = tempfile::tempdir()?;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/beside.py");
    let mut python = Command::new("python3");
    python.arg("-u").arg(script).arg(dir.path()).env("PYTHONPATH", trainers);
    let mut child = python.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let (asks, says) = (child.stdin.take().ok_or("no stdin")?, child.stdout.take().ok_or("no stdout")?);
    let mut runtime = Runtime { asks, says: BufReader::new(says) };
    let names = runtime.line()?;
    if names.is_empty() {
        return Err("the other one does not start; what it says of it is above".into());
    }
    let numbers = std::fs::read(dir.path().join("rows.f32"))?;
    let numbers: Vec<f32> =
        numbers.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
    println!("| model | rows at once | rows/s | ONNX Runtime, rows/s | ratio |\n|---|---|---|---|---|");
    for name in names.split_whitespace() {
        let model = Model::load(&std::fs::read(dir.path().join(format!("{name}.onnx")))?, &mut || true)?;
        for rows in [1, 1000] {
            let input = model.inputs().next().ok_or("no input")?.name.clone();
            let numbers = numbers.iter().take(rows * COLUMNS).copied().collect();
            let inputs = [(input, Tensor::rows(COLUMNS, numbers))];
            let (mut here, mut there) = (Vec::new(), Vec::new());
            for _ in 0..TURNS {
                here.push(rows_per_second(&model, &inputs, rows)?);
                there.push(runtime.rows_per_second(name, rows)?);
            }
            let (here, there) = (median(here), median(there));
            println!("| {name} | {rows} | {here:.0} | {there:.0} | {:.2} |", here / there);
        }
    }
    drop(runtime);
    child.wait()?;
    Ok(())
}

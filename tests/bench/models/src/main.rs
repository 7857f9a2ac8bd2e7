//! Rows in a second in `host/inference` and in tract, on one thread each, over the same models and rows: 100 trees of LightGBM, a
//! linear model and a small network; a row, 16 and 4,096 at once. Both are measured turn by turn, and the median of the ratios is
//! taken.
//!
//! `cargo run --release -- DIRECTORY`, which holds what `src/models.py DIRECTORY` has written.

use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

use tract_onnx::prelude::*;
use wasmill_inference::{Data, Model, Tensor as Rows};

const COLUMNS: usize = 12;
const TURNS: usize = 9;
const TURN: Duration = Duration::from_millis(300);

type Failed = Box<dyn std::error::Error>;

/// Rows in a second.
fn measured(rows: usize, mut run: impl FnMut() -> Result<(), Failed>) -> Result<f64, Failed> {
    let (start, mut calls) = (Instant::now(), 0_usize);
    while start.elapsed() < TURN {
        for _ in 0..10 {
            run()?;
        }
        calls += 10;
    }
    Ok((calls * rows) as f64 / start.elapsed().as_secs_f64())
}

fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers[numbers.len() / 2]
}

/// The largest difference of two outputs, by the larger of 1 and what is there.
fn difference(one: &[f32], other: &[f32]) -> f32 {
    assert_eq!(one.len(), other.len());
    let each = one.iter().zip(other).map(|(one, other)| (one - other).abs() / other.abs().max(1.0));
    each.fold(0.0, f32::max)
}

fn compare(path: &Path, rows: usize, numbers: &[f32]) -> Result<String, Failed> {
    let own = Model::load(&std::fs::read(path)?, &mut || true)?;
    let input = own.inputs().next().ok_or("no input")?.name.clone();
    // tract compiles for the shape that it is given.
    let tract = tract_onnx::onnx()
        .model_for_path(path)?
        .with_input_fact(0, f32::fact([rows, COLUMNS]).into())?
        .into_optimized()?
        .into_runnable()?;
    let given = Tensor::from_shape(&[rows, COLUMNS], numbers)?.into_tvalue();
    let inputs = [(input, Rows::rows(COLUMNS, numbers.to_vec()))];
    let there = tract.run(tvec!(given.clone()))?;
    let here = own.run(&inputs, usize::MAX, &mut || true)?;
    let Some(Data::F32(here)) = here.first().map(|(_, tensor)| &tensor.data) else {
        return Err("the first output is no numbers".into());
    };
    let there = there[0].to_plain_array_view::<f32>()?;
    let apart = difference(there.as_slice().ok_or("no slice")?, here);
    let (mut ratios, mut own_rows, mut tract_rows) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..TURNS {
        let one = measured(rows, || {
            black_box(own.run(black_box(&inputs), usize::MAX, &mut || true)?);
            Ok(())
        })?;
        let other = measured(rows, || {
            black_box(tract.run(black_box(tvec!(given.clone())))?);
            Ok(())
        })?;
        ratios.push(one / other);
        own_rows.push(one);
        tract_rows.push(other);
    }
    let (own, tract, ratio) = (median(own_rows), median(tract_rows), median(ratios));
    Ok(format!("{own:.0} | {tract:.0} | {ratio:.2} | {apart:.1e}"))
}

fn main() -> Result<(), Failed> {
    let directory = std::env::args().nth(1).ok_or("name a directory with models")?;
    let numbers = std::fs::read(Path::new(&directory).join("rows.f32"))?;
    let numbers: Vec<f32> =
        numbers.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
    let mut models: Vec<_> =
        std::fs::read_dir(&directory)?.filter_map(Result::ok).map(|entry| entry.path()).collect();
    models.retain(|path| path.extension().is_some_and(|extension| extension == "onnx"));
    models.sort();
    println!(
        "| model | rows at once | rows/s | tract, rows/s | ratio | difference |\n|---|---|---|---|---|---|"
    );
    for model in models {
        let name = model.file_stem().unwrap_or_default().to_string_lossy();
        for rows in [1, 16, 4096] {
            let found = compare(&model, rows, &numbers[..rows * COLUMNS]);
            let found = found.unwrap_or_else(|error| format!("{error:#}"));
            println!("| {name} | {rows} | {found} |");
        }
    }
    Ok(())
}

//! Goal: a model gives here what it gives where it was trained, and in ONNX Runtime. Method: scikit-learn and LightGBM train,
//! their converters export, and both they and ONNX Runtime say what becomes of 2,000 rows (`train.py`).
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking, and says why it skips"
)]

use std::path::Path;
use std::process::Command;

use serde_json::Value;
use wasmill_inference::{Classes, Data, Model, Tensor};

/// Larger differences are none of rounding.
const TOLERANCE: f64 = 2e-4;

fn run(model: &Model, columns: usize, numbers: Vec<f32>) -> Vec<(String, Tensor)> {
    let name = model.inputs().next().unwrap().name.clone();
    model.run(&[(name, Tensor::rows(columns, numbers))], usize::MAX, &mut || true).unwrap()
}

/// How many values of two outputs differ. Scores at the edge of a leaf may: thresholds are rounded once more on export.
fn differences(ours: &Tensor, theirs: &Value) -> (usize, usize) {
    let values = theirs["values"].as_array().unwrap();
    let near = |x: f64, y: &Value| {
        let y = y.as_f64().unwrap();
        (x - y).abs() <= TOLERANCE * y.abs().max(1.0)
    };
    let same: Vec<bool> = match &ours.data {
        Data::F32(data) => data.iter().zip(values).map(|(x, y)| near(f64::from(*x), y)).collect(),
        Data::F64(data) => data.iter().zip(values).map(|(x, y)| near(*x, y)).collect(),
        Data::I64(data) => data.iter().zip(values).map(|(x, y)| y.as_f64() == Some(*x as f64)).collect(),
        Data::Text(data) => data.iter().zip(values).map(|(x, y)| y.as_str() == Some(x)).collect(),
        Data::Bool(_) => Vec::new(),
    };
    assert_eq!((same.len(), ours.data.len()), (values.len(), values.len()), "{:?}", theirs["shape"]);
    (same.iter().filter(|same| !**same).count(), same.len())
}

fn check(directory: &Path, name: &str) {
    let bytes = std::fs::read(directory.join(format!("{name}.onnx"))).unwrap();
    let text = std::fs::read(directory.join(format!("{name}.json"))).unwrap();
    let expected: Value = serde_json::from_slice(&text).unwrap();
    let columns = usize::try_from(expected["columns"].as_u64().unwrap()).unwrap();
    let rows = expected["rows"].as_array().unwrap();
    let rows: Vec<f32> = rows.iter().map(|x| x.as_f64().map_or(f32::NAN, |x| x as f32)).collect();
    let model = Model::load(&bytes, &mut || true).unwrap_or_else(|error| panic!("{name}: {error}"));
    let outputs = run(&model, columns, rows.clone());
    assert_eq!(outputs.len(), expected["runtime"].as_object().unwrap().len(), "{name}");
    for (output, ours) in &outputs {
        let (differ, of) = differences(ours, &expected["runtime"][output]);
        assert_eq!(differ, 0, "{name}: {differ} of {of} values of {output:?} are not those of ONNX Runtime");
        if let Some(trainer) = expected["trainer"].get(output) {
            let (differ, of) = differences(ours, trainer);
            assert!(
                differ * 500 <= of,
                "{name}: {differ} of {of} values of {output:?} are not the trainer's"
            );
        }
    }
    if name.ends_with("_zipped") {
        let (_, scores) = outputs.last().unwrap();
        let classes = scores.classes.as_deref().unwrap_or_else(|| panic!("{name}: no labels"));
        match classes {
            Classes::Names(names) => {
                assert_eq!(names.iter().map(|name| &**name).collect::<Vec<_>>(), ["fraud", "honest"])
            }
            Classes::Numbers(numbers) => {
                assert_eq!(numbers, if numbers.len() == 2 { &[0, 1][..] } else { &[0, 1, 2] })
            }
        }
    }
    // However rows are cut, each gets what it got.
    for (row, numbers) in rows.chunks(columns).enumerate().step_by(397) {
        for ((output, alone), (_, together)) in run(&model, columns, numbers.to_vec()).iter().zip(&outputs) {
            let width = alone.data.len();
            let part = match &together.data {
                Data::F32(data) => Data::F32(data[row * width..(row + 1) * width].to_vec()),
                Data::I64(data) => Data::I64(data[row * width..(row + 1) * width].to_vec()),
                Data::Text(data) => Data::Text(data[row * width..(row + 1) * width].to_vec()),
                other => panic!("{other:?}"),
            };
            assert_eq!(alone.data, part, "{name}: {output:?} of row {row} alone");
        }
    }
    let none = run(&model, columns, Vec::new());
    assert!(
        none.iter().all(|(_, tensor)| tensor.data.is_empty() && tensor.shape[0] == 0),
        "{name}: {none:?}"
    );
}

#[test]
fn trained_models_give_what_their_trainers_and_onnx_runtime_say() {
    let Some(trainers) = std::env::var_os("WASMILL_TRAINERS") else {
        println!("skipped: WASMILL_TRAINERS is not set; `cargo xtask test` sets it");
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/train.py");
    let mut python = Command::new("python3");
    let output = python.arg(script).arg(dir.path()).env("PYTHONPATH", &trainers).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut names: Vec<String> = std::fs::read_dir(dir.path())
        .unwrap()
        .filter_map(|entry| Some(entry.unwrap().file_name().to_str()?.strip_suffix(".onnx")?.to_owned()))
        .collect();
    names.sort();
    assert!(names.len() >= 30, "{names:?}");
    for name in names {
        check(dir.path(), &name);
    }
}

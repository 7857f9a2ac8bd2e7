//! Networks that PyTorch itself has exported say here what they said there (`pytorch/export.py`).

use serde_json::Value;
use wasmill_inference::{Data, Model, Tensor};

#[test]
fn network_of_either_exporter_says_what_pytorch_says() {
    let expected: Value = serde_json::from_str(include_str!("pytorch/rows.json")).unwrap();
    let numbers = |name: &str| -> Vec<f32> {
        expected[name].as_array().unwrap().iter().map(|number| number.as_f64().unwrap() as f32).collect()
    };
    let (rows, said) = (numbers("rows"), numbers("output"));
    assert!(
        said.len() == 40 && said.iter().any(|score| *score < 0.2) && said.iter().any(|score| *score > 0.8)
    );
    let exported = [
        ("dynamo", &include_bytes!("pytorch/dynamo.onnx")[..]),
        ("traced", include_bytes!("pytorch/traced.onnx")),
    ];
    for (exporter, bytes) in exported {
        let model = Model::load(bytes, &mut || true).unwrap_or_else(|error| panic!("{exporter}: {error}"));
        let input = [("input".to_owned(), Tensor::rows(6, rows.clone()))];
        let outputs = model.run(&input, usize::MAX, &mut || true).unwrap();
        assert_eq!((outputs.len(), outputs[0].0.as_str()), (1, "output"), "{exporter}");
        let Data::F32(scores) = &outputs[0].1.data else { panic!("{exporter}: {:?}", outputs[0].1.data) };
        assert_eq!(scores.len(), said.len(), "{exporter}");
        for (row, (score, said)) in scores.iter().zip(&said).enumerate() {
            assert!(
                (score - said).abs() < 1e-5,
                "{exporter}: row {row} has {score}, and PyTorch says {said}"
            );
        }
    }
}

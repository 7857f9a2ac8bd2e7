//! Goal: whatever a file holds, it is a model that runs within its bounds or is refused with a reason. Method: files that no
//! exporter writes, cut ones, and changed ones.

mod support;

use proptest::prelude::*;
use support::{Message, Node, Onnx, network, trees};
use wasmill_inference::{Data, MODEL_BYTES_MAX, Model, ModelError, RunError, Tensor};

fn load(bytes: &[u8]) -> Result<Model, ModelError> {
    Model::load(bytes, &mut || true)
}

fn refusal(bytes: &[u8]) -> String {
    match load(bytes) {
        Ok(_) => panic!("it was taken"),
        Err(error) => error.to_string(),
    }
}

fn of_one(node: Node) -> Vec<u8> {
    Onnx::default().input("x", 4).node(node).output("y").bytes()
}

#[test]
fn files_that_are_no_models_are_refused_with_the_reason() {
    let whole = trees(2, 3, 4);
    assert!(load(&whole).is_ok());
    for end in [0, 1, 10, whole.len() / 2, whole.len() - 1] {
        let text = refusal(&whole[..end]);
        assert!(text.contains("damaged or cut off"), "cut at {end}: {text}");
    }
    assert!(refusal(b"PK\x03\x04 no model at all").contains("not an ONNX model"));
    let huge = vec![0; usize::try_from(MODEL_BYTES_MAX).unwrap() + 1];
    assert!(refusal(&huge).contains("over the limit of 67108864"));
    let text = refusal(&of_one(Node::new("Conv", &["x"], &["y"])));
    assert!(
        text.contains("\"n\"") && text.contains("\"Conv\"") && text.contains("ml.TreeEnsembleRegressor"),
        "{text}"
    );
    let text = refusal(&of_one(Node::new("Relu", &["z"], &["y"])));
    assert!(text.contains("\"z\" comes from no node before it"), "{text}");
    let text =
        refusal(&Onnx::default().input("x", 4).node(Node::new("Relu", &["x"], &["z"])).output("y").bytes());
    assert!(text.contains("output \"y\": no node makes it"), "{text}");
}

#[test]
fn graphs_with_loops_branches_or_ways_outside_are_refused() {
    for operator in ["Loop", "If", "Scan"] {
        let text = refusal(&of_one(Node::new(operator, &["x"], &["y"]).graph("body")));
        assert!(text.contains("there is no operator"), "{text}");
    }
    // Each of its outputs would come from itself.
    let circle = Onnx::default()
        .input("x", 4)
        .node(Node::new("Add", &["x", "b"], &["a"]))
        .node(Node::new("Add", &["x", "a"], &["b"]))
        .output("b");
    assert!(refusal(&circle.bytes()).contains("comes from no node before it"));
    let place = Message::default().bytes(1, "location").bytes(2, "/etc/passwd");
    let outside = Message::default().ints(1, [4]).int(2, 1).bytes(8, "c").bytes(13, place.0).int(14, 1);
    let outside =
        Onnx::default().tensor(outside).input("x", 4).node(Node::new("Add", &["x", "c"], &["y"])).output("y");
    assert!(refusal(&outside.bytes()).contains("is in another file"));
}

#[test]
fn trees_that_are_none_are_refused() {
    let tree = |yes: [i64; 3], no: [i64; 3], modes: [&'static str; 3]| {
        let node = Node::new("ml.TreeEnsembleRegressor", &["x"], &["y"])
            .ints("nodes_treeids", [0, 0, 0])
            .ints("nodes_nodeids", [0, 1, 2])
            .ints("nodes_featureids", [0, 1, 2])
            .texts("nodes_modes", modes)
            .floats("nodes_values", [0.0; 3])
            .ints("nodes_truenodeids", yes)
            .ints("nodes_falsenodeids", no)
            .ints("target_treeids", [0])
            .ints("target_nodeids", [2])
            .ints("target_ids", [0])
            .floats("target_weights", [1.0]);
        of_one(node)
    };
    let leaf = ["BRANCH_LEQ", "LEAF", "LEAF"];
    assert!(load(&tree([1, 0, 0], [2, 0, 0], leaf)).is_ok());
    let text = refusal(&tree([1, 0, 0], [2, 2, 0], ["BRANCH_LEQ", "BRANCH_LEQ", "LEAF"]));
    assert!(text.contains("that is no tree"), "a loop: {text}");
    assert!(refusal(&tree([1, 0, 0], [1, 0, 0], leaf)).contains("that is no tree"));
    assert!(refusal(&tree([1, 0, 0], [7, 0, 0], leaf)).contains("leads to node 7, which is not there"));
    assert!(
        refusal(&tree([1, 0, 0], [2, 0, 0], ["BRANCH_LEQ", "LEAF", "BRANCH_XOR"])).contains("BRANCH_XOR")
    );
}

#[test]
fn tensors_that_claim_more_than_there_is_or_may_be_are_refused() {
    let claims = |lengths: &[i64]| {
        let tensor =
            Message::default().ints(1, lengths.iter().copied()).int(2, 1).bytes(8, "c").bytes(9, [0; 16]);
        Onnx::default()
            .tensor(tensor)
            .input("x", 4)
            .node(Node::new("Add", &["x", "c"], &["y"]))
            .output("y")
            .bytes()
    };
    assert!(load(&claims(&[4])).is_ok());
    assert!(refusal(&claims(&[5])).contains("damaged"));
    assert!(refusal(&claims(&[1 << 40])).contains("memory"));
    assert!(refusal(&claims(&[1 << 40, 1 << 40])).contains("damaged"));
    assert!(refusal(&claims(&[-4])).contains("damaged"));
    let wide = Onnx::default().input("x", 1 << 40).node(Node::new("Relu", &["x"], &["y"])).output("y");
    assert!(refusal(&wide.bytes()).contains("more than 65536"));
    // Every step doubles what a row takes.
    let mut grows = Onnx::default().input("x", 65_536);
    for step in 0..40 {
        let (from, to) = (format!("x{step}"), format!("x{}", step + 1));
        let from = if step == 0 { "x" } else { &from };
        grows = grows.node(Node::new("Concat", &[from, from], &[&to]).int("axis", 1));
    }
    let text = refusal(&grows.output("x40").bytes());
    assert!(text.contains("take more than 16777216 bytes"), "{text}");
}

#[test]
fn models_of_other_inputs_and_outputs_are_refused_with_what_would_be_right() {
    let relu = || Node::new("Relu", &["x"], &["y"]);
    let of = |element, dimensions: &[i64]| {
        refusal(&Onnx::default().input_of("x", element, dimensions).node(relu()).output("y").bytes())
    };
    assert!(of(1, &[0, 0]).contains("a fixed number, such as [None, 20]"));
    assert!(of(1, &[0, 3, 8, 8]).contains("[rows, columns] is what is taken here"));
    assert!(of(8, &[0, 4]).contains("it takes texts"));
    assert!(of(10, &[0, 4]).contains("it takes float16"));
    let mixes = Node::new("Softmax", &["x"], &["y"]).int("axis", 0);
    assert!(refusal(&of_one(mixes)).contains("would mix the rows of a batch"));
    let one = Message::default().ints(1, [2]).int(2, 7).bytes(8, "s").ints(7, [1, 4]);
    let fixed =
        Onnx::default().tensor(one).input("x", 4).node(Node::new("Reshape", &["x", "s"], &["y"])).output("y");
    assert!(refusal(&fixed.bytes()).contains("cannot have the shape [1, 4]"));
    let constant = Onnx::default().constant("c", &[4], &[1.0; 4]).input("x", 4).node(relu()).output("c");
    assert!(refusal(&constant.bytes()).contains("not one row for each"));
}

#[test]
fn inputs_that_do_not_go_with_the_model_are_refused_and_bounds_hold() {
    let model = load(&trees(100, 6, 20)).unwrap();
    let run = |columns: usize, rows: usize, max: usize, in_time: &mut dyn FnMut() -> bool| {
        model.run(&[("x".to_owned(), Tensor::rows(columns, vec![0.5; columns * rows]))], max, in_time)
    };
    assert!(run(20, 100, 400, &mut || true).is_ok());
    assert_eq!(run(20, 101, 400, &mut || true), Err(RunError::Memory { max: 400 }));
    assert_eq!(run(20, 100_000, usize::MAX, &mut || false), Err(RunError::Overdue));
    let mut asked = 0;
    let result = run(20, 100_000, usize::MAX, &mut || {
        asked += 1;
        asked < 20
    });
    assert_eq!((result, asked), (Err(RunError::Overdue), 20), "it stops when it is told to, not later");
    let text = run(7, 2, 400, &mut || true).unwrap_err().to_string();
    assert!(text.contains("[2, 7]") && text.contains("[rows, 20]"), "{text}");
    let other = model.run(&[("y".to_owned(), Tensor::rows(20, vec![0.0; 20]))], 400, &mut || true);
    assert!(other.unwrap_err().to_string().contains("the model takes \"x\" of 20 columns"));
    let numbered = model.run(&[("0".to_owned(), Tensor::rows(20, vec![0.0; 20]))], 400, &mut || true);
    assert!(numbered.is_ok());
    let lies = Tensor { shape: vec![1 << 40, 20], ..Tensor::rows(20, vec![0.0; 20]) };
    assert!(model.run(&[("x".to_owned(), lies)], 400, &mut || true).is_err());
    let wide = Tensor { data: Data::F64(vec![0.0; 20]), ..Tensor::rows(20, vec![0.0; 20]) };
    assert!(
        model.run(&[("x".to_owned(), wide)], 400, &mut || true).unwrap_err().to_string().contains("float32")
    );
}

#[test]
fn model_that_takes_too_long_to_try_is_refused() {
    let slow = load(&trees(2000, 6, 4)).map(drop);
    assert_eq!(slow, Ok(()));
    let weights = vec![0.001; 4 * 300_000];
    let wide = Onnx::default()
        .constant("w", &[4, 300_000], &weights)
        .input("x", 4)
        .node(Node::new("MatMul", &["x", "w"], &["a"]))
        .node(Node::new("Exp", &["a"], &["y"]))
        .output("y")
        .bytes();
    assert_eq!(Model::load(&wide, &mut || false).map(drop), Err(ModelError::Overdue));
}

/// A chain: of each node one child is a leaf, the other the next node.
fn deep(nodes: i64) -> Vec<u8> {
    let all = 2 * nodes + 1;
    let is_leaf = |node: i64| node % 2 == 1 || node == all - 1;
    let next = |node: i64, by: i64| if is_leaf(node) { 0 } else { node + by };
    let node = Node::new("ml.TreeEnsembleRegressor", &["x"], &["y"])
        .ints("nodes_treeids", (0..all).map(|_| 0))
        .ints("nodes_nodeids", 0..all)
        .ints("nodes_featureids", (0..all).map(|_| 0))
        .texts("nodes_modes", (0..all).map(|node| if is_leaf(node) { "LEAF" } else { "BRANCH_LT" }))
        .floats("nodes_values", (0..all).map(|_| -1.0))
        .ints("nodes_truenodeids", (0..all).map(|node| next(node, 1)))
        .ints("nodes_falsenodeids", (0..all).map(|node| next(node, 2)))
        .ints("target_treeids", [0])
        .ints("target_nodeids", [all - 1])
        .ints("target_ids", [0])
        .floats("target_weights", [7.0]);
    of_one(node)
}

#[test]
fn deep_trees_and_graphs_are_run_or_refused_and_stop_when_told() {
    let model = load(&deep(200_000)).unwrap();
    let mut asked = 0;
    let rows = |count: usize| [("x".to_owned(), Tensor::rows(4, vec![0.5; 4 * count]))];
    let outputs = model.run(&rows(20), 1 << 20, &mut || true).unwrap();
    assert_eq!(outputs[0].1.data, Data::F32(vec![7.0; 20]), "the last leaf of the chain");
    let result = model.run(&rows(1000), 1 << 20, &mut || {
        asked += 1;
        asked < 3
    });
    assert_eq!((result, asked), (Err(RunError::Overdue), 3), "between two walks, not behind a thousand rows");

    let chain = |length: usize| {
        let names: Vec<String> =
            std::iter::once("x".to_owned()).chain((1..=length).map(|n| format!("v{n}"))).collect();
        let nodes = names.windows(2).map(|pair| Node::new("Neg", &[&pair[0]], &[&pair[1]]));
        nodes.fold(Onnx::default().input("x", 1), Onnx::node).output(&names[length]).bytes()
    };
    let model = load(&chain(10_000)).unwrap();
    let outputs = model.run(&[("x".to_owned(), Tensor::rows(1, vec![3.0]))], 64, &mut || true).unwrap();
    assert_eq!(outputs[0].1.data, Data::F32(vec![3.0]));
    assert!(refusal(&chain(10_001)).contains("10001 nodes, more than the limit of 10000"));
}

#[test]
fn numbers_that_are_none_are_refused_in_trees_and_pass_elsewhere() {
    let branch = |value: f32| {
        of_one(
            Node::new("ml.TreeEnsembleRegressor", &["x"], &["y"])
                .ints("nodes_treeids", [0, 0, 0])
                .ints("nodes_nodeids", [0, 1, 2])
                .ints("nodes_featureids", [0, 0, 0])
                .texts("nodes_modes", ["BRANCH_GTE", "LEAF", "LEAF"])
                .floats("nodes_values", [value, 0.0, 0.0])
                .ints("nodes_truenodeids", [1, 0, 0])
                .ints("nodes_falsenodeids", [2, 0, 0])
                .ints("target_treeids", [0, 0])
                .ints("target_nodeids", [1, 2])
                .ints("target_ids", [0, 0])
                .floats("target_weights", [1.0, f32::NAN]),
        )
    };
    assert!(refusal(&branch(f32::NAN)).contains("compares with what is no number"));
    // At least the least is everything that is a number.
    let model = load(&branch(f32::NEG_INFINITY)).unwrap();
    let rows = [f32::NEG_INFINITY, 0.0, f32::INFINITY, f32::NAN].into_iter().flat_map(|x| [x; 4]).collect();
    let outputs = model.run(&[("x".to_owned(), Tensor::rows(4, rows))], 64, &mut || true).unwrap();
    let Data::F32(given) = &outputs[0].1.data else { panic!("{outputs:?}") };
    assert_eq!(given[..3], [1.0; 3]);
    assert!(given[3].is_nan(), "the leaf of what is no number");

    let weights = Onnx::default().constant("w", &[4, 1], &[f32::NAN, f32::INFINITY, 1.0, -1.0]).input("x", 4);
    let bytes = weights.node(Node::new("MatMul", &["x", "w"], &["y"])).output("y").bytes();
    let outputs =
        load(&bytes).unwrap().run(&[("x".to_owned(), Tensor::rows(4, vec![1.0; 4]))], 64, &mut || true);
    let Data::F32(given) = &outputs.unwrap()[0].1.data else { panic!("no numbers") };
    assert!(given[0].is_nan());
}

#[test]
fn tensors_that_are_empty_in_one_dimension_are_refused() {
    // Nothing of it is there, and a loop over it would not end.
    let empty = Message::default().ints(1, [1 << 50, 3, 0]).int(2, 1).bytes(8, "c");
    let zero = Message::default().ints(1, [1]).int(2, 7).bytes(8, "i").ints(7, [0]);
    let bytes = Onnx::default()
        .tensor(empty)
        .tensor(zero)
        .input("x", 4)
        .node(Node::new("Gather", &["c", "i"], &["z"]).int("axis", 1))
        .node(Node::new("Relu", &["x"], &["y"]))
        .output("y")
        .bytes();
    assert!(refusal(&bytes).contains("damaged"));
    let shape = Message::default().ints(1, [3]).int(2, 7).bytes(8, "s").ints(7, [0, 1 << 62, 1 << 62]);
    let none = Message::default().ints(1, [0]).int(2, 1).bytes(8, "n");
    let bytes = Onnx::default()
        .tensor(shape)
        .tensor(none)
        .input("x", 4)
        .node(Node::new("Reshape", &["n", "s"], &["y"]).int("allowzero", 1))
        .output("y")
        .bytes();
    assert!(refusal(&bytes).contains("cannot have the shape [0, "));
}

#[test]
fn names_of_any_length_never_come_to_stand_in_a_refusal() {
    let long = "n".repeat(5000);
    let text = refusal(&of_one(Node::new(&long, &["x"], &["y"])));
    assert!(text.contains("damaged") && text.len() < 100, "{text}");
}

#[test]
fn rows_get_the_same_however_many_go_at_once() {
    let numbers: Vec<f32> = (0..20 * 70).map(|n| (n * 37 % 199) as f32 / 100.0 - 1.0).collect();
    for bytes in [trees(37, 6, 20), network(20)] {
        let model = load(&bytes).unwrap();
        let run = |rows: &[f32]| {
            let given = [("x".to_owned(), Tensor::rows(20, rows.to_vec()))];
            let Data::F32(given) = model.run(&given, 1 << 20, &mut || true).unwrap().remove(0).1.data else {
                panic!("no numbers")
            };
            given.iter().map(|x| x.to_bits()).collect::<Vec<_>>()
        };
        let all = run(&numbers);
        for count in 1..70 {
            assert_eq!(run(&numbers[..20 * count]), all[..count], "of {count} rows");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    /// A changed file is refused, or runs.
    #[test]
    fn changed_files_never_harm(dense: bool, changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6), cut in any::<prop::sample::Index>()) {
        let mut bytes = if dense { network(4) } else { trees(3, 3, 4) };
        for (place, byte) in changes {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        if cut.index(4) == 0 {
            bytes.truncate(cut.index(bytes.len()));
        }
        match load(&bytes) {
            Ok(model) => {
                let inputs: Vec<_> = model
                    .inputs()
                    .map(|port| (port.name.clone(), Tensor::rows(port.columns, vec![f32::NAN; port.columns * 5])))
                    .collect();
                // Whether it succeeds is the model's affair; it must come back.
                let back = model.run(&inputs, 1 << 20, &mut || true);
                prop_assert!(!matches!(back, Err(RunError::Panicked(_))), "{back:?}");
            }
            Err(error) => prop_assert!(!matches!(error, ModelError::Panicked(_)), "{error:?}"),
        }
    }
}

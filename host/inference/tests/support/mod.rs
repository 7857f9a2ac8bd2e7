//! ONNX files written by hand: any that no exporter would write, and some that they do.

#![allow(dead_code, unreachable_pub, reason = "each test takes what it needs")]

/// A message of protocol buffers.
#[derive(Clone, Default)]
pub struct Message(pub Vec<u8>);

impl Message {
    fn varint(&mut self, mut number: u64) {
        while number > 0x7f {
            self.0.push((number as u8) | 0x80);
            number >>= 7;
        }
        self.0.push(number as u8);
    }

    pub fn int(mut self, field: u64, number: i64) -> Message {
        self.varint(field << 3);
        self.varint(number as u64);
        self
    }

    pub fn bytes(mut self, field: u64, bytes: impl AsRef<[u8]>) -> Message {
        self.varint(field << 3 | 2);
        self.varint(bytes.as_ref().len() as u64);
        self.0.extend_from_slice(bytes.as_ref());
        self
    }

    pub fn float(mut self, field: u64, number: f32) -> Message {
        self.varint(field << 3 | 5);
        self.0.extend_from_slice(&number.to_le_bytes());
        self
    }

    pub fn ints(self, field: u64, numbers: impl IntoIterator<Item = i64>) -> Message {
        let mut packed = Message::default();
        numbers.into_iter().for_each(|number| packed.varint(number as u64));
        self.bytes(field, packed.0)
    }

    pub fn floats(self, field: u64, numbers: impl IntoIterator<Item = f32>) -> Message {
        let packed: Vec<u8> = numbers.into_iter().flat_map(f32::to_le_bytes).collect();
        self.bytes(field, packed)
    }
}

/// A node under construction.
pub struct Node(Message);

impl Node {
    pub fn new(operator: &str, inputs: &[&str], outputs: &[&str]) -> Node {
        let mut message = Message::default();
        for input in inputs {
            message = message.bytes(1, input);
        }
        for output in outputs {
            message = message.bytes(2, output);
        }
        let (domain, operator) = match operator.strip_prefix("ml.") {
            Some(operator) => ("ai.onnx.ml", operator),
            None => ("", operator),
        };
        Node(message.bytes(3, "n").bytes(4, operator).bytes(7, domain))
    }

    fn with(self, attribute: Message) -> Node {
        Node(self.0.bytes(5, attribute.0))
    }

    pub fn int(self, name: &str, number: i64) -> Node {
        self.with(Message::default().bytes(1, name).int(3, number).int(20, 2))
    }

    pub fn text(self, name: &str, text: &str) -> Node {
        self.with(Message::default().bytes(1, name).bytes(4, text).int(20, 3))
    }

    pub fn ints(self, name: &str, numbers: impl IntoIterator<Item = i64>) -> Node {
        self.with(Message::default().bytes(1, name).ints(8, numbers).int(20, 7))
    }

    pub fn floats(self, name: &str, numbers: impl IntoIterator<Item = f32>) -> Node {
        self.with(Message::default().bytes(1, name).floats(7, numbers).int(20, 6))
    }

    pub fn texts<'a>(self, name: &str, texts: impl IntoIterator<Item = &'a str>) -> Node {
        let attribute = Message::default().bytes(1, name).int(20, 8);
        self.with(texts.into_iter().fold(attribute, |attribute, text| attribute.bytes(9, text)))
    }

    pub fn graph(self, name: &str) -> Node {
        self.with(Message::default().bytes(1, name).bytes(6, []).int(20, 5))
    }
}

/// A model under construction.
#[derive(Default)]
pub struct Onnx(Message);

impl Onnx {
    pub fn node(self, node: Node) -> Onnx {
        Onnx(self.0.bytes(1, node.0.0))
    }

    /// Of elements of this type and these dimensions; 0 is any length.
    pub fn input_of(self, name: &str, element: i64, dimensions: &[i64]) -> Onnx {
        Onnx(self.0.bytes(11, value(name, element, dimensions)))
    }

    pub fn input(self, name: &str, columns: i64) -> Onnx {
        self.input_of(name, 1, &[0, columns])
    }

    pub fn output(self, name: &str) -> Onnx {
        Onnx(self.0.bytes(12, value(name, 1, &[])))
    }

    pub fn constant(self, name: &str, dimensions: &[i64], numbers: &[f32]) -> Onnx {
        let raw: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
        self.tensor(
            Message::default().ints(1, dimensions.iter().copied()).int(2, 1).bytes(8, name).bytes(9, raw),
        )
    }

    pub fn tensor(self, tensor: Message) -> Onnx {
        Onnx(self.0.bytes(5, tensor.0))
    }

    pub fn bytes(self) -> Vec<u8> {
        let opset = |domain: &str, version| Message::default().bytes(1, domain).int(2, version).0;
        let model = Message::default().int(1, 8).bytes(7, self.0.0);
        model.bytes(8, opset("", 17)).bytes(8, opset("ai.onnx.ml", 3)).0
    }
}

fn value(name: &str, element: i64, dimensions: &[i64]) -> Vec<u8> {
    let shape = dimensions.iter().fold(Message::default(), |shape, length| {
        let dimension = match length {
            0 => Message::default().bytes(2, "N"),
            length => Message::default().int(1, *length),
        };
        shape.bytes(1, dimension.0)
    });
    let tensor = Message::default().int(1, element).bytes(2, shape.0);
    Message::default().bytes(1, name).bytes(2, Message::default().bytes(1, tensor.0).0).0
}

/// A network of 64 and 32 neurons over so many columns, as PyTorch's exporter writes it.
pub fn network(columns: i64) -> Vec<u8> {
    let mut state = 1_u32;
    let mut draw = move || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / 1e8 - 0.08
    };
    let mut onnx = Onnx::default().input("x", columns);
    let mut before = ("x".to_owned(), columns);
    for (layer, size) in [64, 32, 1].into_iter().enumerate() {
        let (from, width) = before;
        let [weight, bias, sum, next] =
            ["weight", "bias", "sum", "out"].map(|what| format!("{layer}.{what}"));
        let weights: Vec<f32> = (0..size * width).map(|_| draw()).collect();
        let biases: Vec<f32> = (0..size).map(|_| draw()).collect();
        onnx = onnx.constant(&weight, &[size, width], &weights).constant(&bias, &[size], &biases);
        onnx = onnx.node(Node::new("Gemm", &[&from, &weight, &bias], &[&sum]).int("transB", 1));
        let activation = if size == 1 { "Sigmoid" } else { "Relu" };
        onnx = onnx.node(Node::new(activation, &[&sum], &[&next]));
        before = (next, size);
    }
    onnx.output("2.out").bytes()
}

/// Whole trees of this depth over so many columns, with thresholds and weights that a generator draws.
pub fn trees(count: i64, depth: u32, columns: i64) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut draw = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state >> 33
    };
    let (inner, all) = ((1 << depth) - 1, (1 << (depth + 1)) - 1);
    let nodes = || (0..count).flat_map(|tree| (0..all).map(move |node| (tree, node)));
    let leaves: Vec<(i64, i64)> = nodes().filter(|(_, node)| *node >= inner).collect();
    let is_branch = |node: i64| node < inner;
    let features: Vec<i64> = nodes().map(|_| (draw() % columns as u64) as i64).collect();
    let thresholds: Vec<f32> = nodes().map(|_| (draw() % 2000) as f32 / 1000.0 - 1.0).collect();
    let weights: Vec<f32> = leaves.iter().map(|_| (draw() % 2000) as f32 / 1e5 - 0.01).collect();
    let child = |side: i64| nodes().map(move |(_, node)| if is_branch(node) { 2 * node + side } else { 0 });
    let node = Node::new("ml.TreeEnsembleRegressor", &["x"], &["y"])
        .int("n_targets", 1)
        .ints("nodes_treeids", nodes().map(|(tree, _)| tree))
        .ints("nodes_nodeids", nodes().map(|(_, node)| node))
        .ints("nodes_featureids", features)
        .texts("nodes_modes", nodes().map(|(_, node)| if is_branch(node) { "BRANCH_LEQ" } else { "LEAF" }))
        .floats("nodes_values", thresholds)
        .ints("nodes_truenodeids", child(1))
        .ints("nodes_falsenodeids", child(2))
        .ints("target_treeids", leaves.iter().map(|(tree, _)| *tree))
        .ints("target_nodeids", leaves.iter().map(|(_, node)| *node))
        .ints("target_ids", leaves.iter().map(|_| 0))
        .floats("target_weights", weights);
    Onnx::default().input("x", columns).node(node).output("y").bytes()
}

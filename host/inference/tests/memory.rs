//! Goal: a file makes the reader take no more than its bound, whatever it lists. Method: files whose lists would be many times as
//! large in memory are read, and the kernel says what the process took at most. The only test of its binary, so that nothing else
//! counts.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use support::Message;
use wasmill_inference::Model;

/// Most that this process has had of memory, in bytes.
fn taken_at_most() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() << 10
}

/// Puts the head of a field before a body, without a copy of it.
fn inside(field: u64, mut body: Vec<u8>) -> Vec<u8> {
    let head = Message::default().int(field, body.len() as i64).0;
    let head = [head[0] | 2].into_iter().chain(head[1..].iter().copied());
    body.splice(0..0, head);
    body
}

fn room() -> Vec<u8> {
    Vec::with_capacity(64 << 20)
}

/// Of a graph that is otherwise empty.
fn model(graph: Vec<u8>) -> Vec<u8> {
    inside(7, graph)
}

/// A node of an operator of `ai.onnx.ml` with one attribute, which ends with this body.
fn node(operator: &str, attribute: &str, body: Vec<u8>) -> Vec<u8> {
    let mut attribute = Message::default().bytes(1, attribute).0;
    let mut whole = body;
    whole.splice(0..0, attribute.drain(..));
    let mut whole = inside(5, whole);
    whole.extend(Message::default().bytes(1, "x").bytes(2, "y").bytes(4, operator).bytes(7, "ai.onnx.ml").0);
    inside(1, whole)
}

fn input() -> Vec<u8> {
    let length = Message::default().bytes(1, Message::default().int(1, 4).0);
    let rows = Message::default().bytes(1, Message::default().bytes(2, "N").0);
    let shape = [rows.0, length.0].concat();
    let tensor = Message::default().int(1, 1).bytes(2, shape);
    let kind = Message::default().bytes(1, tensor.0);
    Message::default().bytes(11, Message::default().bytes(1, "x").bytes(2, kind.0).0).0
}

#[test]
fn lists_that_would_grow_in_memory_are_refused_before_they_do() {
    const LISTED: usize = 60 << 20;
    let mut numbers = room();
    numbers.resize(LISTED, 0);
    // Nodes of a tree without modes, weights of leaves without weights, labels, the dimensions of a tensor.
    let lists = [
        ("TreeEnsembleRegressor", "nodes_nodeids"),
        ("TreeEnsembleRegressor", "target_nodeids"),
        ("ZipMap", "classlabels_int64s"),
    ];
    for (operator, list) in lists {
        let mut graph = node(operator, list, inside(8, std::mem::take(&mut numbers)));
        graph.extend(input());
        let bytes = model(graph);
        let error = Model::load(&bytes, &mut || true).map(drop).unwrap_err().to_string();
        assert!(error.contains("more than") || error.contains("different lengths"), "{operator}: {error}");
        numbers = bytes;
        numbers.fill(0);
        numbers.truncate(LISTED);
    }
    let bytes = model(inside(5, inside(1, std::mem::take(&mut numbers))));
    let error = Model::load(&bytes, &mut || true).map(drop).unwrap_err().to_string();
    assert!(error.contains("a constant"), "{error}");
    // Each of many nodes has as many inputs without a name, or labels without a letter, as one may have.
    let mut graph = bytes;
    for (field, count, reason) in [(1_u64, 4000, "inputs, outputs and attributes"), (9, 9000, "memory")] {
        graph.clear();
        let empty = [(field << 3 | 2) as u8, 0].repeat(count);
        let one = match field {
            1 => inside(1, empty),
            _ => node("ZipMap", "classlabels_strings", empty),
        };
        while graph.len() + one.len() + 100 < LISTED {
            // One name is given once.
            let output = format!("{}", graph.len());
            let mut own = one.clone();
            if let Some(place) = own.windows(3).rposition(|bytes| bytes == [0x12, 1, b'y']) {
                own.truncate(place);
                own.extend(Message::default().bytes(2, &output).bytes(4, "ZipMap").bytes(7, "ai.onnx.ml").0);
                let body = own.split_off(own.iter().position(|byte| *byte == 0x2a).unwrap());
                own = inside(1, body);
            }
            graph.extend(own);
        }
        graph.splice(0..0, input());
        graph = model(graph);
        let error = Model::load(&graph, &mut || true).map(drop).unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
    }
    let taken = taken_at_most();
    // The file itself, 256 MiB of a model while it is read, and what a process has anyway.
    assert!(taken < (64 + 256 + 48) << 20, "{} MiB", taken >> 20);
}

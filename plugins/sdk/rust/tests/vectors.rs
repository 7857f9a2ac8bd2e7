//! Runs every case of `wit/vectors.json` through the SDK's chunk: what a plugin sees and does must be what the host
//! and a real component do. The format is described in that file.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};
use wasmill_chunk::{Cells, ChunkLimits, Column, FinishOptions, Input, Layout, RowMeta, RowSink, Verdicts};
use wasmill_sdk::native::{Grants, Native};
use wasmill_sdk::{Cell, Chunk, Field, FloatColumn, IntColumn, Plugin, Setup, Strings, Text, TextColumn};

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn bytes_of(value: &Value) -> Vec<u8> {
    match value.as_str() {
        Some(text) => text.as_bytes().to_vec(),
        None => {
            let hex = value["hex"].as_str().unwrap_or_default().as_bytes();
            hex.chunks(2)
                .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
                .collect()
        }
    }
}

fn value_of(bytes: &[u8]) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(text) => json!(text),
        Err(_) => json!({ "hex": bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>() }),
    }
}

fn cell<T>(cell: Cell<T>, show: impl Fn(T) -> Value) -> Value {
    match cell {
        Cell::Missing => json!([0]),
        Cell::Null => json!([1]),
        Cell::Other => json!([2]),
        Cell::Value(value) => json!([3, show(value)]),
    }
}

fn texts(text: &Text) -> Value {
    text.iter().map(|found| cell(found, value_of)).collect()
}

fn text_column(given: &Value) -> TextColumn {
    let mut column = TextColumn::new();
    for cell in list(given) {
        match cell[0].as_u64().unwrap() {
            0 => column.push_missing(),
            1 => column.push_null(),
            2 => column.push_remove(),
            _ => column.push_bytes(&bytes_of(&cell[1])),
        }
    }
    column
}

fn numbers(value: &Value) -> Vec<u32> {
    list(value).iter().map(|number| number.as_u64().unwrap() as u32).collect()
}

fn marks(value: &Value) -> Vec<u8> {
    list(value).iter().map(|mark| mark.as_u64().unwrap() as u8).collect()
}

/// A plugin that makes the calls that its config lists and compares what comes back.
struct Steps {
    fields: Vec<Field>,
    ops: Value,
}

impl Plugin for Steps {
    fn configure(config: &str, setup: &mut Setup) -> Result<Self, String> {
        let config: Value = serde_json::from_str(config).unwrap();
        let path = |path: &Value| list(path).iter().map(|key| key.as_str().unwrap().to_owned()).collect();
        let paths: Vec<Vec<String>> = list(&config["fields"]).iter().map(path).collect();
        let fields = paths.iter().map(|path| setup.field(path)).collect();
        for (number, name) in list(&config["outputs"]).iter().enumerate() {
            assert_eq!(setup.output(name.as_str().unwrap())?.number() as usize, number);
        }
        Ok(Self { fields, ops: config["ops"].clone() })
    }

    fn process(&mut self, rows: &mut Chunk<'_>) -> Result<(), String> {
        let mut named = BTreeMap::new();
        for op in list(&self.ops) {
            let on = op["on"].as_str().unwrap_or("main").to_owned();
            let call = op["call"].as_str().unwrap();
            match call {
                "emit" => rows.emit(named.remove(&on).unwrap()),
                "drop" => drop(named.remove(&on).unwrap()),
                "fresh" => {
                    let fresh = rows.fresh(op["rows"].as_u64().unwrap() as u32);
                    named.insert(op["as"].as_str().unwrap().to_owned(), fresh);
                }
                "derive" => {
                    let target = named.get(&on).unwrap_or(rows);
                    let derived = target.derive(&numbers(&op["sources"]));
                    named.insert(op["as"].as_str().unwrap().to_owned(), derived);
                }
                _ => self.call(call, named.get(&on).unwrap_or(rows), op),
            }
        }
        Ok(())
    }
}

impl Steps {
    fn call(&self, call: &str, rows: &Chunk<'_>, op: &Value) {
        let field = op["slot"].as_u64().map(|slot| self.fields[slot as usize]);
        let field = || field.unwrap();
        let name = op["name"].as_str().unwrap_or_default();
        let given = &op["cells"];
        let got = match call {
            "len" => json!(rows.len()),
            "offsets" => json!(rows.offsets()),
            "arrival-times" => json!(rows.arrival_times()),
            "keys" => texts(&rows.keys()),
            "attributes" => texts(&rows.attributes(name)),
            "payloads" => rows.payloads().iter().map(value_of).collect(),
            "get-text" => texts(&rows.text(field())),
            "get-raw" => texts(&rows.raw_json(field())),
            "get-floats" => {
                rows.floats(field()).iter().map(|found| cell(found, |value| json!(value))).collect()
            }
            "get-ints" => rows.ints(field()).iter().map(|found| cell(found, |value| json!(value))).collect(),
            "get-strings" => rows.text(field()).iter().map(|found| found.value().map(value_of)).collect(),
            _ => return self.write(call, rows, op, given),
        };
        assert!(same(&op["expect"], &got), "op {op}\n got {got}");
    }

    fn write(&self, call: &str, rows: &Chunk<'_>, op: &Value, given: &Value) {
        let field = || self.fields[op["slot"].as_u64().unwrap() as usize];
        let name = op["name"].as_str().unwrap_or_default();
        match call {
            "set-payloads" => rows.set_payloads(&text_column(given)),
            "set-text" => rows.set_text(field(), &text_column(given)),
            "set-raw" => rows.set_raw(field(), &text_column(given)),
            "set-keys" => rows.set_keys(&text_column(given)),
            "set-attributes" => rows.set_attributes(name, &text_column(given)),
            "partition" => rows.partition(name, &text_column(given)),
            "clear" => rows.clear(&marks(&op["marks"])),
            "keep" => rows.keep(&marks(&op["marks"])),
            "route" => rows.route(&numbers(&op["outputs"])),
            "set-floats" => {
                let mut column = FloatColumn::new();
                for cell in list(given) {
                    match (cell[0].as_u64().unwrap(), cell[1].as_str()) {
                        (0, _) => column.push_missing(),
                        (1, _) => column.push_null(),
                        (2, _) => column.push_remove(),
                        (_, Some(text)) => column.push(text.parse().unwrap()),
                        (_, None) => column.push(cell[1].as_f64().unwrap()),
                    }
                }
                rows.set_floats(field(), &column);
            }
            "set-ints" => {
                let mut column = IntColumn::new();
                for cell in list(given) {
                    match cell[0].as_u64().unwrap() {
                        0 => column.push_missing(),
                        1 => column.push_null(),
                        2 => column.push_remove(),
                        _ => column.push(cell[1].as_i64().unwrap()),
                    }
                }
                rows.set_ints(field(), &column);
            }
            "set-strings" => {
                let mut column = TextColumn::new();
                list(given).iter().for_each(|text| column.push_option(text.as_str().map(str::as_bytes)));
                rows.set_text(field(), &column);
            }
            "fail" => {
                let mut reasons = Strings::new();
                list(&op["reasons"]).iter().for_each(|reason| reasons.push(reason.as_str().unwrap()));
                rows.fail_rows(&numbers(&op["rows"]), &reasons);
            }
            other => panic!("unknown call {other}"),
        }
    }
}

/// Numbers by value, so that `1` is the same float as `1.0`.
fn same(wanted: &Value, got: &Value) -> bool {
    match (wanted, got) {
        (Value::Array(wanted), Value::Array(got)) => {
            wanted.len() == got.len() && wanted.iter().zip(got).all(|(wanted, got)| same(wanted, got))
        }
        (Value::Number(wanted), Value::Number(got)) => wanted == got || wanted.as_f64() == got.as_f64(),
        (wanted, got) => wanted == got,
    }
}

#[derive(Default)]
struct Payloads {
    rows: Vec<Value>,
    buffer: Vec<u8>,
}

impl RowSink for Payloads {
    fn begin(&mut self, _row: &RowMeta<'_>) -> &mut Vec<u8> {
        self.buffer.clear();
        &mut self.buffer
    }

    fn end(&mut self, _row: &RowMeta<'_>) {
        self.rows.push(value_of(&self.buffer));
    }
}

fn cells_of(given: &Value) -> Cells {
    let mut cells = Cells::default();
    list(given).iter().for_each(|cell| cells.push(cell[0].as_u64().unwrap() as u8, &bytes_of(&cell[1])));
    cells
}

fn run_case(case: &Value) {
    let mut plugins = Vec::new();
    for transform in list(&case["transforms"]) {
        let outputs =
            list(&transform["outputs"]).iter().map(|name| name.as_str().unwrap().to_owned()).collect();
        let grants = Grants { outputs, ..Grants::default() };
        plugins.push(Native::<Steps>::configure(&transform.to_string(), &grants).unwrap());
    }
    let fields: Vec<_> = plugins.iter().map(|plugin| plugin.fields().to_vec()).collect();
    let mut chunk =
        wasmill_chunk::Chunk::new(Arc::new(Layout::new(&fields).unwrap()), ChunkLimits::default());
    let input = &case["input"];
    let mut payloads = Column::default();
    list(&input["payloads"]).iter().for_each(|payload| payloads.push(&bytes_of(payload)));
    let keys = input.get("keys").map(cells_of);
    let attributes: Vec<(String, Cells)> = input["attributes"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, values)| (name.clone(), cells_of(values)))
        .collect();
    let attributes: Vec<_> = attributes.iter().map(|(name, cells)| (name.clone(), cells.as_ref())).collect();
    let deltas = input.get("arrival_deltas").map(numbers);
    let input = Input {
        offsets: None,
        first_offset: input["first_offset"].as_u64().unwrap_or(0),
        payloads: payloads.as_ref(),
        arrival: input["arrival"].as_i64().unwrap_or(0),
        arrival_deltas: deltas.as_deref(),
        keys: keys.as_ref().map(Cells::as_ref),
        attributes: &attributes,
    };
    chunk.begin(&input, input.rows()).unwrap();
    for (index, plugin) in plugins.iter_mut().enumerate() {
        if chunk.rows_left() == 0 {
            break;
        }
        chunk.enter(index, 0);
        plugin.process(&mut chunk).unwrap();
        chunk.apply().unwrap();
    }
    let (mut rows, mut verdicts) = (Payloads::default(), Verdicts::default());
    let options = FinishOptions {
        require_json: case["require_json"].as_bool().unwrap_or(false),
        ..FinishOptions::default()
    };
    chunk.finish(&options, &mut rows, &mut verdicts);
    let wanted: Vec<Value> = list(&case["output"]).iter().map(|row| row["payload"].clone()).collect();
    assert_eq!(rows.rows, wanted);
    assert_eq!(verdicts.failed.len(), list(&case["failed"]).len(), "{:?}", verdicts.failed);
    assert_eq!(verdicts.dropped, case["dropped"].as_u64().unwrap_or(0));
}

#[test]
fn vectors_every_case_holds_through_the_sdk() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../wit/vectors.json");
    let vectors: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let failed: RefCell<Vec<&str>> = RefCell::default();
    for case in list(&vectors["cases"]) {
        if std::panic::catch_unwind(|| run_case(case)).is_err() {
            failed.borrow_mut().push(case["name"].as_str().unwrap_or("?"));
        }
    }
    assert!(list(&vectors["cases"]).len() > 30);
    assert!(failed.borrow().is_empty(), "{failed:?}");
}

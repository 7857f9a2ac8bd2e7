//! Runs every case of `wit/vectors.json` on the native chunk. The format is described in that file.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};
use wasmill_chunk::{
    Cells, Chunk, ChunkLimits, Column, FinishOptions, Floats, Input, Ints, Layout, RowMeta, RowSink, RowsId,
    Verdicts,
};

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

fn column(value: &Value) -> Column {
    let mut column = Column::default();
    list(value).iter().for_each(|value| column.push(&bytes_of(value)));
    column
}

fn state(cell: &Value) -> u8 {
    cell[0].as_u64().unwrap() as u8
}

fn cells(value: &Value) -> Cells {
    let mut cells = Cells::default();
    list(value).iter().for_each(|cell| cells.push(state(cell), &bytes_of(&cell[1])));
    cells
}

fn cell(state: u8, value: Value) -> Value {
    if state == 3 { json!([3, value]) } else { json!([state]) }
}

fn of_cells(cells: wasmill_chunk::CellsRef<'_>) -> Value {
    let all = (0..cells.len()).map(|row| cell(cells.state[row], value_of(cells.values.get(row))));
    assert!((0..cells.len()).all(|row| cells.state[row] == 3 || cells.values.get(row).is_empty()));
    all.collect()
}

fn numbers<T>(value: &Value, of: impl Fn(&Value) -> T) -> Vec<T> {
    list(value).iter().map(of).collect()
}

fn marks(value: &Value) -> Vec<u8> {
    numbers(value, |mark| mark.as_u64().unwrap() as u8)
}

fn u32s(value: &Value) -> Vec<u32> {
    numbers(value, |number| number.as_u64().unwrap() as u32)
}

fn run(chunk: &mut Chunk, named: &mut BTreeMap<String, RowsId>, op: &Value) {
    let on = op["on"].as_str().unwrap_or("main");
    let rows = if on == "main" { RowsId::MAIN } else { named.get(on).copied().unwrap_or(RowsId(u32::MAX)) };
    let slot = op["slot"].as_u64().unwrap_or(0) as u32;
    let name = op["name"].as_str().unwrap_or_default();
    let given = &op["cells"];
    let got = match op["call"].as_str().unwrap() {
        "len" => json!(chunk.len(rows).unwrap()),
        "offsets" => json!(chunk.offsets(rows).unwrap()),
        "arrival-times" => json!(chunk.arrival_times(rows).unwrap()),
        "keys" => of_cells(chunk.keys(rows).unwrap()),
        "attributes" => of_cells(chunk.attributes(rows, name).unwrap()),
        "payloads" => chunk.payloads(rows).unwrap().iter().map(value_of).collect(),
        "get-text" => of_cells(chunk.get_text(rows, slot).unwrap()),
        "get-raw" => of_cells(chunk.get_raw(rows, slot).unwrap()),
        "get-floats" => {
            let floats = chunk.get_floats(rows, slot).unwrap();
            floats.state.iter().zip(floats.values).map(|(&state, &value)| cell(state, json!(value))).collect()
        }
        "get-ints" => {
            let ints = chunk.get_ints(rows, slot).unwrap();
            ints.state.iter().zip(ints.values).map(|(&state, &value)| cell(state, json!(value))).collect()
        }
        "get-strings" => {
            chunk.get_text(rows, slot).unwrap().iter().map(|text| text.map(value_of)).collect::<Value>()
        }
        call => {
            match call {
                "set-payloads" => chunk.set_payloads(rows, cells(given).as_ref()).unwrap(),
                "set-text" => chunk.set_text(rows, slot, cells(given).as_ref()).unwrap(),
                "set-raw" => chunk.set_raw(rows, slot, cells(given).as_ref()).unwrap(),
                "set-floats" => {
                    let float = |cell: &Value| match cell[1].as_str() {
                        Some(text) => text.parse().unwrap(),
                        None => cell[1].as_f64().unwrap_or(0.0),
                    };
                    let floats = Floats { state: numbers(given, state), values: numbers(given, float) };
                    chunk.set_floats(rows, slot, floats.as_ref()).unwrap();
                }
                "set-ints" => {
                    let int = |cell: &Value| cell[1].as_i64().unwrap_or(0);
                    let ints = Ints { state: numbers(given, state), values: numbers(given, int) };
                    chunk.set_ints(rows, slot, ints.as_ref()).unwrap();
                }
                "set-strings" => {
                    let mut cells = Cells::default();
                    list(given).iter().for_each(|text| cells.push_option(text.as_str().map(str::as_bytes)));
                    chunk.set_text(rows, slot, cells.as_ref()).unwrap();
                }
                "set-keys" => chunk.set_keys(rows, cells(given).as_ref()).unwrap(),
                "set-attributes" => chunk.set_attributes(rows, name, cells(given).as_ref()).unwrap(),
                "partition" => chunk.partition(rows, name, cells(given).as_ref()).unwrap(),
                "clear" => chunk.clear(rows, &marks(&op["marks"])).unwrap(),
                "keep" => chunk.keep(rows, &marks(&op["marks"])).unwrap(),
                "route" => chunk.route(rows, &u32s(&op["outputs"])).unwrap(),
                "fail" => chunk.fail(rows, &u32s(&op["rows"]), column(&op["reasons"]).as_ref()).unwrap(),
                "derive" => {
                    let derived = chunk.derive(rows, &u32s(&op["sources"])).unwrap();
                    named.insert(op["as"].as_str().unwrap().to_string(), derived);
                }
                "fresh" => {
                    let fresh = chunk.fresh(op["rows"].as_u64().unwrap() as u32).unwrap();
                    named.insert(op["as"].as_str().unwrap().to_string(), fresh);
                }
                "emit" => chunk.emit(rows).unwrap(),
                "drop" => chunk.drop_rows(rows),
                other => panic!("unknown call {other}"),
            }
            return;
        }
    };
    assert!(same(&op["expect"], &got), "op {op}\n got {got}");
}

/// Numbers by value, so that `1` is the same float as `1.0`.
fn same(wanted: &Value, got: &Value) -> bool {
    match (wanted, got) {
        (Value::Array(wanted), Value::Array(got)) => {
            wanted.len() == got.len() && wanted.iter().zip(got).all(|(wanted, got)| same(wanted, got))
        }
        (Value::Number(a), Value::Number(b)) => a == b || a.as_f64() == b.as_f64(),
        (wanted, got) => wanted == got,
    }
}

#[derive(Default)]
struct Rows {
    rows: Vec<Value>,
    buffer: Vec<u8>,
}

impl RowSink for Rows {
    fn begin(&mut self, _row: &RowMeta<'_>) -> &mut Vec<u8> {
        self.buffer.clear();
        &mut self.buffer
    }

    fn end(&mut self, row: &RowMeta<'_>) {
        let mut out = json!({ "payload": value_of(&self.buffer), "offset": row.offset });
        if row.child != 0 {
            out["child"] = json!(row.child);
        }
        if row.route != 0 {
            out["route"] = json!(row.route);
        }
        if let Some(key) = row.key {
            out["key"] = value_of(key);
        }
        if !row.partition.values.is_empty() {
            out["partition"] = row
                .partition
                .values
                .iter()
                .map(|(name, value)| json!([name.as_ref(), value_of(value)]))
                .collect();
        }
        self.rows.push(out);
    }
}

fn run_case(case: &Value) {
    let transforms = list(&case["transforms"]);
    let fields: Vec<Vec<Vec<String>>> = transforms
        .iter()
        .map(|transform| {
            let path =
                |path: &Value| list(path).iter().map(|key| key.as_str().unwrap().to_string()).collect();
            list(&transform["fields"]).iter().map(path).collect()
        })
        .collect();
    let mut chunk = Chunk::new(Arc::new(Layout::new(&fields).unwrap()), ChunkLimits::default());
    let input = &case["input"];
    let payloads = column(&input["payloads"]);
    let keys = input.get("keys").map(cells);
    let attributes: Vec<(String, Cells)> = input["attributes"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, values)| (name.clone(), cells(values)))
        .collect();
    let attributes: Vec<_> = attributes.iter().map(|(name, cells)| (name.clone(), cells.as_ref())).collect();
    let deltas = input.get("arrival_deltas").map(u32s);
    let input = Input {
        first_offset: input["first_offset"].as_u64().unwrap_or(0),
        offsets: None,
        payloads: payloads.as_ref(),
        arrival: input["arrival"].as_i64().unwrap_or(0),
        arrival_deltas: deltas.as_deref(),
        keys: keys.as_ref().map(Cells::as_ref),
        attributes: &attributes,
    };
    chunk.begin(&input, input.rows()).unwrap();
    for (index, transform) in transforms.iter().enumerate() {
        if chunk.rows_left() == 0 {
            break;
        }
        chunk.enter(index, 0);
        let mut named = BTreeMap::new();
        list(&transform["ops"]).iter().for_each(|op| run(&mut chunk, &mut named, op));
        chunk.apply().unwrap();
    }
    let (mut rows, mut verdicts) = (Rows::default(), Verdicts::default());
    let options = FinishOptions {
        require_json: case["require_json"].as_bool().unwrap_or(false),
        ..FinishOptions::default()
    };
    chunk.finish(&options, &mut rows, &mut verdicts);
    assert_eq!(Value::from(rows.rows), Value::from(list(&case["output"])), "output");
    let number = |key: &str, or: usize| case[key].as_u64().unwrap_or(or as u64);
    let failed = list(&case["failed"]);
    assert_eq!(verdicts.failed.len(), failed.len(), "{:?}", verdicts.failed);
    for (failure, wanted) in verdicts.failed.iter().zip(failed) {
        let row =
            if wanted["row"] == json!("fresh") { u32::MAX } else { wanted["row"].as_u64().unwrap() as u32 };
        assert_eq!(failure.input_row, row, "{failure:?}");
        assert_eq!(failure.transform as u64, wanted["transform"].as_u64().unwrap_or(0), "{failure:?}");
        if let Some(reason) = wanted["reason"].as_str() {
            assert_eq!(failure.reason, reason);
        }
        let payload = value_of(&failure.payload);
        assert_eq!(payload, wanted.get("payload").cloned().unwrap_or_else(|| json!("")), "{failure:?}");
        if let Some(child) = wanted["child"].as_u64() {
            assert_eq!(failure.child as u64, child, "{failure:?}");
        }
    }
    assert_eq!(verdicts.dropped, number("dropped", 0), "dropped");
    let with_row = failed.iter().filter(|failure| failure["row"] != json!("fresh")).count();
    assert_eq!(verdicts.passed as usize, payloads.len() - verdicts.dropped as usize - with_row, "passed");
    assert_eq!(verdicts.emitted as usize, list(&case["output"]).len(), "emitted");
}

#[test]
fn vectors_every_case_holds() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../wit/vectors.json");
    let vectors: Value = serde_json::from_slice(&std::fs::read(path).expect("wit/vectors.json")).unwrap();
    let cases = list(&vectors["cases"]);
    assert!(cases.len() > 30, "the file has its cases");
    let mut failed = Vec::new();
    for case in cases {
        if std::panic::catch_unwind(|| run_case(case)).is_err() {
            failed.push(case["name"].as_str().unwrap());
        }
    }
    assert!(failed.is_empty(), "{failed:?}");
}

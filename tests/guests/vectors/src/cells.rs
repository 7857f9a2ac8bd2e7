//! Columns and cells as JSON, in both directions.

use serde_json::Value;

use crate::bindings::wasmill::plugin::records::{Cells, Column, Floats, Ints};

pub(crate) fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().map_or(&[], Vec::as_slice)
}

pub(crate) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

pub(crate) fn bytes(value: &Value) -> Vec<u8> {
    ints(value).into_iter().map(|number| number as u8).collect()
}

pub(crate) fn ints(value: &Value) -> Vec<u32> {
    value.as_array().into_iter().flatten().map(|number| number.as_u64().unwrap_or(0) as u32).collect()
}

fn rows(value: &Value) -> impl Iterator<Item = (u8, &Value)> {
    value.as_array().into_iter().flatten().map(|cell| (cell[0].as_u64().unwrap_or(0) as u8, &cell[1]))
}

/// The bytes of a string, or of `{"hex": ..}`.
fn raw(value: &Value) -> Result<Vec<u8>, String> {
    if let Some(text) = value.as_str() {
        return Ok(text.as_bytes().to_vec());
    }
    let Some(hex) = value["hex"].as_str() else { return Ok(Vec::new()) };
    let pairs = hex.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).unwrap_or_default());
    pairs.map(|pair| u8::from_str_radix(pair, 16).map_err(|error| error.to_string())).collect()
}

fn push(column: &mut Column, value: &[u8]) {
    column.data.extend_from_slice(value);
    column.ends.push(column.data.len() as u32);
}

pub(crate) fn column(values: &Value) -> Result<Column, String> {
    let mut out = Column { data: Vec::new(), ends: Vec::new() };
    for value in values.as_array().into_iter().flatten() {
        push(&mut out, &raw(value)?);
    }
    Ok(out)
}

pub(crate) fn to_cells(cells: &Value) -> Result<Cells, String> {
    let mut out = Cells { state: Vec::new(), values: column(&Value::Null)? };
    for (state, value) in rows(cells) {
        out.state.push(state);
        push(&mut out.values, &raw(value)?);
    }
    Ok(out)
}

/// NaN and the infinities, which JSON does not have, are the strings `NaN`, `inf` and `-inf`.
pub(crate) fn to_floats(cells: &Value) -> Floats {
    let float = |value: &Value| match value.as_str() {
        Some(text) => text.parse().unwrap_or(f64::NAN),
        None => value.as_f64().unwrap_or(0.0),
    };
    let (state, values) = rows(cells).map(|(state, value)| (state, float(value))).unzip();
    Floats { state, values }
}

pub(crate) fn to_ints(cells: &Value) -> Ints {
    let (state, values) = rows(cells).map(|(state, value)| (state, value.as_i64().unwrap_or(0))).unzip();
    Ints { state, values }
}

fn value_of(bytes: &[u8]) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(text) => Value::from(text),
        Err(_) => {
            serde_json::json!({ "hex": bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>() })
        }
    }
}

/// `[state]`, and `[3, value]`.
fn cell(state: u8, value: Value) -> Value {
    if state == 3 { Value::from(vec![Value::from(state), value]) } else { Value::from(vec![state]) }
}

pub(crate) fn of_column(column: &Column) -> Value {
    let mut start = 0;
    let values = column.ends.iter().map(|&end| {
        let value = value_of(&column.data[start..end as usize]);
        start = end as usize;
        value
    });
    values.collect()
}

pub(crate) fn of_cells(cells: &Cells) -> Value {
    let values = of_column(&cells.values);
    let values = values.as_array().into_iter().flatten();
    cells.state.iter().zip(values).map(|(&state, value)| cell(state, value.clone())).collect()
}

pub(crate) fn of_floats(floats: &Floats) -> Value {
    floats.state.iter().zip(&floats.values).map(|(&state, &value)| cell(state, Value::from(value))).collect()
}

pub(crate) fn of_ints(ints: &Ints) -> Value {
    ints.state.iter().zip(&ints.values).map(|(&state, &value)| cell(state, Value::from(value))).collect()
}

/// Compares; numbers by value, so that `1` is the same float as `1.0`.
pub(crate) fn expect(wanted: &Value, got: Value) -> Result<(), String> {
    if same(wanted, &got) { Ok(()) } else { Err(format!("got {got}")) }
}

fn same(wanted: &Value, got: &Value) -> bool {
    match (wanted, got) {
        (Value::Array(wanted), Value::Array(got)) => {
            wanted.len() == got.len() && wanted.iter().zip(got).all(|(wanted, got)| same(wanted, got))
        }
        (Value::Number(a), Value::Number(b)) => a == b || a.as_f64() == b.as_f64(),
        (wanted, got) => wanted == got,
    }
}

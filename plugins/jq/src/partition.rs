//! A program that gives one object: names of partitions and their values.

use jaq_json::Val;
use wasmill_sdk::{Chunk, TextColumn};

use crate::json;
use crate::program::Program;

/// Names that one record may have, as with Amazon Data Firehose.
const KEYS_MAX: usize = 50;
/// Names of all records of a chunk; the host takes no more in one call, and cuts the chunk when it is told.
const NAMES_MAX: usize = 256;
// The two reasons that Amazon Data Firehose gives, in its words.
const EMPTY: &str = "partitionKeys values must not be null or empty";
const NO_JSON: &str = "Non JSON record provided";

pub(crate) struct Partition {
    program: Program,
    /// By name, in the order in which names came; shorter than the rows where the last of them lack the name.
    columns: Vec<(String, TextColumn)>,
}

impl Partition {
    pub(crate) fn new(program: Program) -> Self {
        Self { program, columns: Vec::new() }
    }

    pub(crate) fn process(&mut self, rows: &mut Chunk<'_>) -> Result<(), String> {
        let (payloads, arrivals) = (rows.payloads(), rows.arrival_times());
        self.columns.clear();
        for (row, payload) in payloads.iter().enumerate() {
            match self.values(payload, arrivals[row]) {
                Ok(values) => self.push(row, values)?,
                Err(reason) => rows.fail(row, &reason),
            }
        }
        for (name, values) in &mut self.columns {
            values.pad(payloads.len());
            rows.partition(name, values);
        }
        Ok(())
    }

    fn push(&mut self, row: usize, values: Vec<(String, Vec<u8>)>) -> Result<(), String> {
        for (name, value) in values {
            let known = self.columns.iter().position(|(known, _)| *known == name);
            let at = match known {
                Some(at) => at,
                None if self.columns.len() == NAMES_MAX => {
                    return Err(format!("partition: more than {NAMES_MAX} names of partitions in one chunk"));
                }
                None => {
                    self.columns.push((name, TextColumn::new()));
                    self.columns.len() - 1
                }
            };
            let column = &mut self.columns[at].1;
            column.pad(row);
            column.push_bytes(&value);
        }
        Ok(())
    }

    /// Names and values of one record, in the order of the program's object.
    fn values(&self, payload: &[u8], arrival: i64) -> Result<Vec<(String, Vec<u8>)>, String> {
        let record = json::read(payload).map_err(|error| format!("{NO_JSON}: {error}"))?;
        let mut outputs = self.program.run(record, arrival);
        let object = match outputs.next() {
            None => return Err("partition: the program gives nothing, it must give one object".to_owned()),
            Some(output) => output.map_err(|error| format!("partition: {error}"))?,
        };
        let Val::Obj(members) = &object else {
            return Err(format!("partition: the program gives {}, it must give one object", kind(&object)));
        };
        if outputs.next().is_some() {
            return Err("partition: the program gives more than one object".to_owned());
        }
        if members.len() > KEYS_MAX {
            return Err(format!("partition: {} keys, at most {KEYS_MAX} are taken", members.len()));
        }
        members.iter().map(|(key, value)| member(key, value)).collect()
    }
}

fn member(key: &Val, value: &Val) -> Result<(String, Vec<u8>), String> {
    let Val::TStr(name) = key else { return Err(format!("partition: the key {} is no text", kind(key))) };
    let name = String::from_utf8_lossy(name).into_owned();
    match value {
        Val::Null => Err(format!("{EMPTY}: `{name}`")),
        Val::TStr(text) if text.is_empty() => Err(format!("{EMPTY}: `{name}`")),
        Val::TStr(text) => Ok((name, text.to_vec())),
        Val::Bool(_) | Val::Num(_) => {
            let mut text = Vec::new();
            json::write(value, &mut text)
                .map_err(|_| format!("partition: `{name}` is not a finite number"))?;
            Ok((name, text))
        }
        Val::BStr(_) | Val::Arr(_) | Val::Obj(_) => Err(format!(
            "partition: `{name}` is {}, it must be a text, a number or a truth value",
            kind(value)
        )),
    }
}

fn kind(value: &Val) -> &'static str {
    match value {
        Val::Null => "null",
        Val::Bool(_) => "a truth value",
        Val::Num(_) => "a number",
        Val::BStr(_) => "bytes",
        Val::TStr(_) => "a text",
        Val::Arr(_) => "an array",
        Val::Obj(_) => "an object",
    }
}

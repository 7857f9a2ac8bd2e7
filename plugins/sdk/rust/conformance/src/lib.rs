//! What `plugins/sdk/conformance/README.md` asks for, in Rust.

use std::collections::BTreeMap;

use serde::Deserialize;
use wasmill_sdk::{
    ByRecord, Chunk, Field, FloatColumn, IntColumn, Plugin, RecordMeta, RecordPlugin, Setup, TextColumn, config,
};

#[derive(Deserialize)]
struct Config {
    r#do: String,
}

/// One variant for each `do`.
enum Conformance {
    Pass,
    Filter { n: Field },
    Map { name: Field, greeting: Field, length: Field, n: Field, x: Field, half: Field },
    Split { text: Field },
    Enrich { code: Field, city: Field, cities: BTreeMap<String, String> },
    Check { n: Field, double: Field },
    Raise(ByRecord<Raise>),
    Now { text: Field, what: fn(&mut Chunk<'_>, Field, usize) },
}

impl Plugin for Conformance {
    fn configure(text: &str, setup: &mut Setup) -> Result<Self, String> {
        let Config { r#do } = config::read(text)?;
        let now: fn(&mut Chunk<'_>, Field, usize) = match r#do.as_str() {
            "pass" => return Ok(Self::Pass),
            "filter" => return Ok(Self::Filter { n: setup.top("n") }),
            "map" => {
                return Ok(Self::Map {
                    name: setup.field(&["user", "name"]),
                    greeting: setup.top("greeting"),
                    length: setup.top("length"),
                    n: setup.top("n"),
                    x: setup.top("x"),
                    half: setup.top("half"),
                });
            }
            "split" => return Ok(Self::Split { text: setup.top("text") }),
            "enrich" => {
                let table = String::from_utf8(setup.file("cities.csv")?).map_err(|error| error.to_string())?;
                let lines = table.lines().filter_map(|line| line.split_once(','));
                let cities = lines.map(|(code, name)| (code.to_owned(), name.to_owned())).collect();
                return Ok(Self::Enrich { code: setup.top("code"), city: setup.top("city"), cities });
            }
            "check" => return Ok(Self::Check { n: setup.top("n"), double: setup.top("double") }),
            "raise" => return ByRecord::configure(text, setup).map(Self::Raise),
            "trap" => |_, _, _| std::process::abort(),
            "loop" => |_, _, _| loop {
                std::hint::black_box(());
            },
            "hoard" => |_, _, _| {
                let mut hoard = Vec::new();
                loop {
                    hoard.push(std::hint::black_box(vec![1_u8; 1 << 20]));
                }
            },
            "flood" => |rows, text, row| {
                let mut texts = TextColumn::new();
                (0..rows.len()).for_each(|other| match other == row {
                    true => texts.push(&"x".repeat(20 << 20)),
                    false => texts.push_missing(),
                });
                rows.set_text(text, &texts);
            },
            other => return Err(format!("do is {other:?}, which is nothing that this plugin does")),
        };
        Ok(Self::Now { text: setup.top("text"), what: now })
    }

    fn process(&mut self, rows: &mut Chunk<'_>) -> Result<(), String> {
        match self {
            Self::Pass => {}
            Self::Filter { n } => {
                let numbers = rows.ints(*n);
                let even = |row| numbers.get(row).is_some_and(|n| n % 2 == 0);
                let keep: Vec<u8> = (0..rows.len()).map(|row| u8::from(even(row))).collect();
                rows.keep(&keep);
            }
            Self::Map { name, greeting, length, n, x, half } => {
                let (mut greetings, mut lengths) = (TextColumn::new(), IntColumn::new());
                let names = rows.text(*name);
                for row in 0..names.len() {
                    match names.str(row) {
                        Some(name) => {
                            greetings.push(&format!("hello, {name}"));
                            lengths.push(name.chars().count() as i64);
                        }
                        None => {
                            greetings.push_missing();
                            lengths.push_missing();
                        }
                    }
                }
                let (mut doubles, mut halves) = (IntColumn::new(), FloatColumn::new());
                let (numbers, floats) = (rows.ints(*n), rows.floats(*x));
                for row in 0..rows.len() {
                    doubles.push_option(numbers.get(row).map(|n| n * 2));
                    halves.push_option(floats.get(row).map(|x| x / 2.0));
                }
                rows.set_text(*greeting, &greetings);
                rows.set_ints(*length, &lengths);
                rows.set_ints(*n, &doubles);
                rows.set_floats(*half, &halves);
            }
            Self::Split { text } => {
                let texts = rows.text(*text);
                let (mut sources, mut words, mut keep) = (Vec::new(), TextColumn::new(), Vec::new());
                for row in 0..texts.len() {
                    let before = sources.len();
                    for word in texts.str(row).into_iter().flat_map(|text| text.split(' ')) {
                        if !word.is_empty() {
                            sources.push(row as u32);
                            words.push(word);
                        }
                    }
                    // Rows that others come of are replaced; what has no word is dropped.
                    keep.push(u8::from(texts.str(row).is_none() || sources.len() > before));
                }
                let derived = rows.derive(&sources);
                derived.set_text(*text, &words);
                rows.keep(&keep);
                rows.emit(derived);
            }
            Self::Enrich { code, city, cities } => {
                let codes = rows.text(*code);
                let mut names = TextColumn::new();
                for row in 0..codes.len() {
                    match codes.str(row).and_then(|code| cities.get(code)) {
                        Some(name) => names.push(name),
                        None => names.push_missing(),
                    }
                }
                rows.set_text(*city, &names);
            }
            Self::Check { n, double } => {
                let numbers = rows.ints(*n);
                let mut doubles = IntColumn::new();
                for row in 0..numbers.len() {
                    doubles.push_option(numbers.get(row).map(|n| n * 2));
                    if numbers.get(row).is_none() {
                        rows.fail(row, "n is no integer");
                    }
                }
                rows.set_ints(*double, &doubles);
            }
            Self::Raise(by_record) => return by_record.process(rows),
            Self::Now { text, what } => {
                let texts = rows.text(*text);
                for row in 0..texts.len() {
                    if texts.str(row) == Some("now") {
                        what(rows, *text, row);
                    }
                }
            }
        }
        Ok(())
    }
}

/// Over one record at a time.
struct Raise;

impl RecordPlugin for Raise {
    type In = serde_json::Value;
    type Out = serde_json::Value;

    fn configure(_config: &str, _setup: &mut Setup) -> Result<Self, String> {
        Ok(Raise)
    }

    fn record(&mut self, record: Self::In, _meta: &RecordMeta) -> Result<Option<Self::Out>, String> {
        match record["text"].as_str() {
            Some(text) if text.starts_with("boom") => Err(format!("cannot work on {text}")),
            _ => Ok(Some(record)),
        }
    }
}

wasmill_sdk::export!(Conformance);
